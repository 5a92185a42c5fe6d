"""Old and new clients get, byte for byte, what the command prints beside the data: each verb, each format."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import pytest

from sonar import verbs
from sonar.cli.sonalyze import main
from sonar.render.formats import Style
from sonar.verbs.declare import Reads
from sonar.verbs.parameters import REMOTE_TRUE, options_of

from tests.web.conftest import CLUSTER, FOX, LIBEXEC, Server, auth_file, credentials

# What a verb cannot do without; a flag is None. Samples are those of the demo, what nodes and Slurm tell those of fox.
NEEDS: dict[str, dict[str, str | None]] = {
    "uptime": {"interval": "5"},
    "load": {"hourly": None},
    "jobs": {"user": "-"},
    "parse": {"user": "-", "host": "gpu-2*"},
}
OF_ONE_JOB = ("job", "explain", "profile")
STYLES = [style for style in Style if style not in (Style.ARROW, Style.PARQUET)]
DATA_VERBS = [name for name in verbs.NAMES if verbs.verb(name).reads in (Reads.SAMPLES, Reads.TOPICS)]


def words(options: dict[str, str | None]) -> list[str]:
    return [f"--{name}" if value is None else f"--{name}={value}" for name, value in options.items()]


@pytest.fixture(scope="module")
def auth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return auth_file(tmp_path_factory.mktemp("auth") / "auth")


@pytest.fixture(scope="module")
def job(server: Server) -> str:
    text = server.ask("jobs", cluster=CLUSTER, user="-", fmt="csv,job", **{"from": "3d", "to": "2d"}).data.decode()
    return text.split()[0]


def questions(verb: str, job: str) -> list[dict[str, str | None]]:
    """The options of a verb in each format that it knows, and in that which it has without one."""
    window: dict[str, str | None] = {"from": "3d", "to": "1d"}
    if verbs.verb(verb).reads is Reads.TOPICS or verb in ("gpu", "nodeprof", "diskprof", "top"):
        window = {"from": "2024-03-01", "to": "2024-03-01"}
    known = {option.name for option in options_of(verbs.verb(verb))}
    base = {name: value for name, value in window.items() if name in known} | NEEDS.get(verb, {})
    if verb in OF_ONE_JOB:
        base |= {"job": job}
    formats = ["csvnamed,header,default", *(f"{style.value},default" for style in STYLES)]
    if verb == "profile":
        formats = [
            "html,cpu",
            "html,res",
            *(f"{style.value},cpu" for style in STYLES if style not in (Style.NATIVE, Style.CSVNAMED)),
        ]
    return [
        base,
        *({**base, "fmt": fmt} for fmt in formats if any(o.name == "fmt" for o in options_of(verbs.verb(verb)))),
    ]


def local(capfd: pytest.CaptureFixture[str], *argv: str | Path) -> bytes:
    status = main([str(word) for word in argv])
    out, err = capfd.readouterr()
    assert (status, err) == (0, ""), argv
    return out.encode()


@pytest.mark.parametrize("verb", DATA_VERBS)
def test_remote_is_local(
    verb: str, server: Server, fox: Server, auth: Path, job: str, capfd: pytest.CaptureFixture[str]
) -> None:
    site, cluster = (server, CLUSTER) if verbs.verb(verb).reads is Reads.SAMPLES else (fox, FOX)
    has_config = verbs.verb(verb).takes_config and (site.config / f"{cluster}-config.json").exists()
    config: list[str | Path] = ["--config-file", site.config / f"{cluster}-config.json"] if has_config else []
    remote: list[str | Path] = [
        "--remote",
        site.url,
        "--cluster",
        cluster,
        "--auth-file",
        auth,
        "--ca-file",
        site.config / "ca.crt",
    ]
    some = False
    for options in questions(verb, job):
        here = local(capfd, verb, "--data-path", site.data / cluster, *config, *words(options))
        there = local(capfd, verb, *remote, *words(options))
        assert there == here, options
        some = some or len(here) > 20
    assert some or verb in ("gpu", "nodeprof", "diskprof", "top"), "nothing was compared"


def test_the_client_of_old_gets_the_same(server: Server, fox: Server, job: str) -> None:
    """Its command line was: curl -s --get URL -u USER:PASSWORD, with the magic word for a flag that is set."""

    def asked(verb: str) -> tuple[str, bytes, bytes]:
        site, cluster = (server, CLUSTER) if verbs.verb(verb).reads is Reads.SAMPLES else (fox, FOX)
        options = questions(verb, job)[:2][-1]
        query = {"cluster": cluster} | {
            name: REMOTE_TRUE if value is None else value for name, value in options.items()
        }
        # The password is not in the arguments here: `ps` must see none while the tests run.
        curl = ["curl", "-s", "--get", f"{site.url}/{verb}?{urlencode(query)}", "--config", "-"]
        there = subprocess.run(
            [*curl, "--cacert", site.config / "ca.crt"],
            input=f'user = "{credentials("ada")}"'.encode(), capture_output=True, check=True,
        ).stdout  # fmt: skip
        config: tuple[str | Path, ...] = ()
        if verbs.verb(verb).takes_config and (site.config / f"{cluster}-config.json").exists():
            config = ("--config-file", site.config / f"{cluster}-config.json")
        here = subprocess.run(
            [sys.executable, LIBEXEC / "sonalyze", verb, "--data-path", site.data / cluster, *config, *words(options)],
            capture_output=True, check=True,
        ).stdout  # fmt: skip
        return verb, there, here

    with ThreadPoolExecutor(3) as pool:
        for verb, there, here in pool.map(asked, DATA_VERBS):
            assert there == here, verb
