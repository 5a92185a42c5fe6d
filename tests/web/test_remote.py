"""Old and new clients get, byte for byte, what the command prints beside the data: each verb, each format."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

from sonar import verbs
from sonar.cli.sonalyze import main
from sonar.render.formats import Style
from sonar.verbs.declare import Reads
from sonar.verbs.parameters import REMOTE_TRUE, options_of

from tests.web.conftest import CLUSTER, FOX, LIBEXEC, Server, auth_file, credentials

Options = dict[str, str | None]  # of a flag None

TOPICS_WINDOW: Options = {"from": "2024-03-01", "to": "2024-03-01"}
WINDOW: Options = {"from": "3d", "to": "1d"}
# What is asked of each verb: samples are those of the demo, what nodes and Slurm tell those of fox.
ASKED: dict[str, Options] = {
    "jobs": {**WINDOW, "user": "-"},
    "job": {**WINDOW, "job": "(one)"},
    "explain": {**WINDOW, "job": "(one)"},
    "load": {**WINDOW, "hourly": None},
    "uptime": {**WINDOW, "interval": "5"},
    "profile": {**WINDOW, "job": "(one)"},
    "parse": {**WINDOW, "user": "-", "host": "gpu-2*"},
    "sample": {**WINDOW, "user": "-", "host": "gpu-2*", "clean": None},
    "metadata": WINDOW,
    "meta": WINDOW,
    "cluster": {},
    "config": {},
    "node": TOPICS_WINDOW,
    "card": TOPICS_WINDOW,
    "gpu": TOPICS_WINDOW,
    "nodeprof": TOPICS_WINDOW,
    "diskprof": TOPICS_WINDOW,
    "top": TOPICS_WINDOW,
    "sacct": {**TOPICS_WINDOW, "user": "-"},
    "snode": TOPICS_WINDOW,
    "spart": TOPICS_WINDOW,
}
OF_NODES = frozenset({"node", "card", "gpu", "nodeprof", "diskprof", "top", "sacct", "snode", "spart"})
BINARY = ("arrow", "parquet")
STYLES = [style.value for style in Style if style.value not in BINARY]
PROFILE_FORMATS = ("html,cpu", "html,res", *(f"{style},cpu" for style in STYLES if style not in ("native", "csvnamed")))
FORMATS = ("csvnamed,header,default", *(f"{style},default" for style in (*STYLES, *BINARY)))


def formats(verb: str) -> tuple[str, ...]:
    """Return the formats that a verb knows, and none, for what it prints by itself."""
    if not any(option.name == "fmt" for option in options_of(verbs.verb(verb))):
        return ("",)
    return ("", *(PROFILE_FORMATS if verb == "profile" else FORMATS))


ROWS = [(verb, fmt) for verb in ASKED for fmt in formats(verb)]
REPORTS = {
    "r.json": b'["public"]\n',
    "r.csv": b"a,b\r\n1,\xc3\xa6\r\n",
    "r.html": b"<html><style>p { color: red }</style><p>x</html>",
    "odd.txt": b"\xff\x00 no text, no newline",
    "empty.txt": b"",
}


def words(options: Options) -> list[str]:
    return [f"--{name}" if value is None else f"--{name}={value}" for name, value in options.items()]


@dataclass(frozen=True)
class Place:
    """A server, and its files as a directory of many clusters, for the command beside them."""

    server: Server
    cluster: str
    directory: Path
    job: str

    def options(self, verb: str, fmt: str = "") -> Options:
        asked = {name: self.job if value == "(one)" else value for name, value in ASKED[verb].items()}
        return asked | ({"fmt": fmt} if fmt else {})

    def named(self, verb: str) -> list[str]:
        return [] if verb in ("cluster", "version") else ["--cluster", self.cluster]


@dataclass(frozen=True)
class Places:
    demo: Place
    fox: Place
    auth: Path

    def of(self, verb: str) -> Place:
        return self.fox if verb in OF_NODES or verb in ("cluster", "report") else self.demo

    def remote(self, verb: str, path: str = "") -> list[str]:
        server = self.of(verb).server
        return ["--remote", server.url + path, "--auth-file", str(self.auth), "--ca-file", f"{server.config}/ca.crt"]


@pytest.fixture(scope="module")
def places(server: Server, fox: Server, tmp_path_factory: pytest.TempPathFactory) -> Places:
    auth = auth_file(tmp_path_factory.mktemp("auth") / "auth")
    answer = server.ask("jobs", cluster=CLUSTER, user="-", fmt="csv,job", **{"from": "3d", "to": "2d"})
    found = []
    for one, cluster in ((server, CLUSTER), (fox, FOX)):
        directory = tmp_path_factory.mktemp("many")
        for name, target in (("data", one.data), ("cluster-config", one.config), ("reports", one.config / "reports")):
            (directory / name).symlink_to(target)
        found.append(Place(one, cluster, directory, answer.data.decode().split()[0]))
    for name, content in REPORTS.items():
        path = fox.config / "reports" / FOX / "public" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return Places(found[0], found[1], auth)


def printed(capfdbinary: pytest.CaptureFixture[bytes], *argv: str | Path) -> bytes:
    status = main([str(word) for word in argv])
    out, err = capfdbinary.readouterr()
    assert (status, err) == (0, b""), argv
    return out


@pytest.mark.parametrize(("verb", "fmt"), ROWS)
def test_remote_is_local(verb: str, fmt: str, places: Places, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    place = places.of(verb)
    asked = [*place.named(verb), *words(place.options(verb, fmt))]

    here = printed(capfdbinary, verb, "--jobanalyzer-dir", place.directory, *asked)
    there = printed(capfdbinary, verb, *places.remote(verb), *asked)

    assert there == here
    assert len(here) > 4
    if fmt.partition(",")[0] in ("", "json", "csv"):
        assert printed(capfdbinary, verb, *places.remote(verb, "/api/v0"), *asked) == here


@pytest.mark.parametrize("name", ["admin.json", *REPORTS])
def test_reports_are_as_they_lie_there(name: str, places: Places, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    asked = [*places.fox.named("report"), "--report-name", "r.json" if name == "admin.json" else name]

    here = printed(capfdbinary, "report", "--jobanalyzer-dir", places.fox.directory, *asked)
    there = printed(capfdbinary, "report", *places.remote("report"), *asked)
    newer = printed(capfdbinary, "report", *places.remote("report", "/api/v0"), *asked)

    assert there == newer == here
    assert here.decode() == {**REPORTS, "r.json": b'["admin"]\n', "admin.json": b'["admin"]\n'}[name].decode(
        errors="replace"
    )


def test_the_version_is_that_of_the_command(places: Places, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    here = printed(capfdbinary, "version")

    for path in ("", "/api/v0"):
        assert printed(capfdbinary, "version", *places.remote("version", path)) == here
    assert here == f"{verbs.VERSION}\n".encode()


def test_the_client_of_old_gets_the_same(places: Places) -> None:
    """Its command line was: curl -s --get URL -u USER:PASSWORD, with the magic word for a flag that is set."""

    def asked(verb: str) -> tuple[str, bytes, bytes]:
        place = places.of(verb)
        options: Options = {"report-name": "r.csv"} if verb == "report" else place.options(verb)
        query = {} if verb == "cluster" else {"cluster": place.cluster}
        query |= {name: REMOTE_TRUE if value is None else value for name, value in options.items()}
        curl = ["curl", "-s", "--get", f"{place.server.url}/{verb}?{urlencode(query)}"]
        # The password is not among the arguments here: `ps` must see none while the tests run.
        curl += ["--config", "-", "--cacert", f"{place.server.config}/ca.crt"]
        login = f'user = "{credentials("ada")}"'.encode()
        there = subprocess.run(curl, input=login, capture_output=True, check=True).stdout
        here = subprocess.run(
            [sys.executable, LIBEXEC / "sonalyze", verb, "--jobanalyzer-dir", place.directory, *place.named(verb),
             *words(options)],
            capture_output=True, check=True,
        ).stdout  # fmt: skip
        return verb, there, here

    with ThreadPoolExecutor(3) as pool:
        for verb, there, here in pool.map(asked, (*ASKED, "report")):
            assert there == here, verb
            assert len(here) > 5, verb


def test_nothing_is_left_out() -> None:
    assert set(ASKED) | {"report"} == {*verbs.NAMES, *verbs.ALIASES}
    assert all(verbs.verb(verb).reads is Reads.TOPICS for verb in OF_NODES)
