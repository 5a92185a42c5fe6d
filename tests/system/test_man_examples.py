"""The EXAMPLES of the manual pages, run as they stand there, on a machine that has what they speak of.

Commands of a block are those after a prompt. What no machine here can have is in `ELSEWHERE`, with the reason; there
the names of the options are held to `--help`.
"""

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sonar.demo import history
from sonar.times import iso_text

from tests.system.conftest import LIBRARY, TOP, Machine

pytestmark = pytest.mark.system

MAN = TOP / "man"
DATA = "var/lib/sonar-server/data"
HOME = "/root/examples"
DAYS = 2  # of the history
ESCAPES = {r"\e": "\\", r"\(aq": "'", r"\(dq": '"', r"\-": "-", r"\&": ""}

ELSEWHERE = {
    "dask ": "workers of another package",
    "sonalyze jobs -u- --from 2026-01-01 --no-rollup": "needs these workers; tests/verbs runs it with others",
}
# Pages whose examples are files that the site below has.
FILES = {"sonar-cluster.5", "sonar.conf.5", "sonar-policy.5", "sonar-passwords.5"}
# Pages whose examples are programs.
PROGRAMS = {
    "sonar.3": "tests/test_library.py runs them",
    "sonar-api.7": "needs pandas",
    "sonar-analysis.7": "needs dask_jobqueue and Slurm",
}
# Commands that say by their status what they have found.
FINDS = ("sonarctl check", "sonarctl doctor", "sonarctl cluster check", "sonarctl gaps")
RUNS_ON = (
    "sonarctl sonard --cluster fox.example.org --spool",
    "sonarctl sonard --cluster mine",
    "sonarctl exfiltrate --url",
)
# What is typed when they ask.
TYPED = {"sonarctl passwd add ann": "first-secret", "sonarctl passwd add helpdesk": "other-secret"}
WINDOW = "--window 240"  # seconds, in which to send at some time
TYPED_CURL = "curl --cacert ca.crt --user ada "

# What is not there yet when the commands of a page run.
BEFORE = {
    "sonarctl-cert.8": "rm -r /etc/sonar/tls",
    "sonarctl-cluster.8": "rm /etc/sonar/clusters/saga.example.org.conf",
    "sonarctl.8": "rm /etc/sonar/clusters/saga.example.org.conf",
    "sonarctl-passwd.8": "sed -i /^fox/d /etc/sonar/ingest-passwords",
    "exfiltrate.8": "cd /var/spool; mkdir -p sonar/{new,bad}; touch sonar/bad/1.{csv,json}",
    "sonarctl-verify.8": f"mkdir -p /srv/old; cp -a /{DATA} /srv/old/data",
}


@dataclass(frozen=True)
class Block:
    """A display of a page: its text, and the commands in it."""

    page: str
    text: str

    @property
    def commands(self) -> list[str]:
        if self.page == "sonar-passwords.5":  # its # begins a comment
            return []
        joined = re.sub(r" *\\\n +", " ", self.text).replace("\\\n", "")
        joined = re.sub(r"\|\n +", "| ", joined)
        return [line[2:] for line in joined.splitlines() if line[:2] in {"$ ", "# "}]


def blocks(page: Path) -> list[Block]:
    """Return the displays of the EXAMPLES of a page, of one line or more."""
    section = page.read_text().partition("\n.Sh EXAMPLES\n")[2].partition("\n.Sh ")[0]
    found = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed$|^\.Dl ([^\n]*)$", section + "\n", re.MULTILINE | re.DOTALL)
    texts = [long or short + "\n" for long, short in found]
    for before, after in ESCAPES.items():
        texts = [text.replace(before, after) for text in texts]
    return [Block(page.name, text) for text in texts]


PAGES = {path.name: blocks(path) for path in sorted(MAN.glob("*.[1-8]"))}
RUN = sorted(name for name, found in PAGES.items() if any(block.commands for block in found))


def block_of(page: str, number: int = 0) -> str:
    return PAGES[page][number].text


@pytest.fixture(scope="module")
def site(installed: Path) -> Iterator[Machine]:
    """A server with two clusters, a node's files, and the files that the pages speak of."""
    machine = Machine("examples", f"--bind={installed / LIBRARY}:/{LIBRARY}")
    try:
        machine.put_installation(installed)
        prepare(machine)
        yield machine
    finally:
        machine.close()


def prepare(machine: Machine) -> None:
    write_data(machine.root / DATA)
    machine("chown", "-R", "sonar-server:", f"/{DATA}")
    machine.write("/etc/hosts", "127.0.0.1 localhost monitor.example.org\n")
    machine.write("/etc/sonar/clusters/saga.example.org.conf", block_of("sonar-cluster.5"))
    machine.write("/etc/sonar/clusters/fox.example.org.conf", "[Cluster]\nAliases=fox\n")
    machine.write("/etc/sonar/sonar.conf.d/site.conf", block_of("sonar.conf.5"))
    machine.write("/usr/local/bin/page", "#!/bin/sh\n", 0o755)
    machine.write("/usr/sbin/sendmail", "#!/bin/sh\ncat >/dev/null\n", 0o755)
    # Stands for another sampler, which the pages of the server and of the sender have an example with.
    line = f"v=0.12.1,time={iso_text(int(time.time()))},host=c1,user=u,cmd=c,job=7,pid=7"
    machine.write("/usr/local/bin/sonar", f"#!/bin/sh\necho {line},cputime_sec=5\n", 0o755)
    for command in ("ca", "server monitor.example.org localhost"):
        machine("sh", "-c", f"sonarctl cert {command}")
    machine("sh", "-c", "for n in fox saga; do echo up-secret | sonarctl passwd add $n.example.org --stdin; done")
    machine("sh", "-c", "echo ask-secret | sonarctl passwd add ada --query --role admin --stdin")
    for path, text in (
        ("/etc/sonar/upload-auth", "fox.example.org:up-secret"), ("/root/.upload-auth", "fox.example.org:up-secret"),
        ("/root/.sonar-auth", "ada:ask-secret"), ("/root/.netrc", "default login ada password ask-secret"),
        (f"{HOME}/upload.netrc", "default login fox.example.org password up-secret"),
        (f"{HOME}/gpu-idle.policy", block_of("sonar-policy.5")),
        (f"{HOME}/cpuhog.policy", "[Policy]\nExtends=cpuhog\n"),
        ("/root/.sonalyze", f"[data-source]\ndata-path = /{DATA}/saga.example.org\n"),
    ):  # fmt: skip
        machine.write(path, text + "\n", 0o600)
    for cluster in ("saga", "fox"):
        history.write_config(machine.root / HOME.lstrip("/") / f"{cluster}-config.json")
    machine("cp", "/etc/sonar/tls/ca.crt", HOME)
    machine(
        "sh", "-c", "systemctl preset $(sed -n 's/^enable //p' /usr/lib/systemd/system-preset/50-sonar-server.preset)"
    )
    machine("systemctl", "start", "sonar.target")
    machine.wait(
        "all is up",
        lambda: (
            machine("systemctl", "is-active", "sonar-infiltrate", "sonar-sonalyzed", check=False).split()
            == ["active"] * 2
        ),
    )
    machine("cp", "-a", "/etc/sonar", "/run/sonar-before")


def write_data(data: Path) -> None:
    """Write the last days of the generated history as that of two clusters, and a job that a page asks about."""
    now = int(time.time())
    root = data / "saga.example.org"
    history.write_history(root, now=now)
    days = sorted({path.parent for path in root.glob("*/*/*/*")})
    for day in days[:-DAYS]:
        shutil.rmtree(day)
    lines = "".join(
        f"v=0.12.1,time={iso_text(now - 1800 + 300 * n)},host=gpu-1.demo.example.org,cores=64,user=ada,cmd=mine,"
        f"job=8812345,pid=9,cputime_sec={n * 250},cpu%=83,cpukib=4000000\n"
        for n in range(6)
    )
    with (days[-1] / "gpu-1.demo.example.org.csv").open("a") as file:
        file.write(lines)
    shutil.copytree(root, data / "fox.example.org")


def test_every_display_is_run_or_accounted_for() -> None:
    for name, found in PAGES.items():
        for block in found:
            assert block.commands or name in FILES | PROGRAMS.keys() or block.text.startswith("[Service]\n"), block


@pytest.mark.parametrize("page", RUN)
def test_commands_of_the_examples_run(site: Machine, page: str) -> None:
    site("bash", "-c", BEFORE.get(page, "true"))
    try:
        for block in PAGES[page]:
            run_block(site, block)
    finally:
        site("sh", "-c", "rm -r /etc/sonar && cp -a /run/sonar-before /etc/sonar")
        site("systemctl", "reload", "sonar-infiltrate", "sonar-sonalyzed")


def run_block(machine: Machine, block: Block) -> None:
    if any(command.startswith(one) for command in block.commands for one in ELSEWHERE):
        return
    script = f"export LOGNAME=ada SSL_CERT_FILE=/etc/sonar/tls/ca.crt; set -o pipefail; cd {HOME}\n"
    for command in block.commands:
        script += f"{as_typed(command)} || exit\n" if not command.endswith("&") else f"{command}\n"
        if command.endswith("&"):  # somebody who types is slower than what has just begun
            script += "until curl -s -o /dev/null localhost:8000/ping; do sleep 0.1; done\n"
    wrapped = ["bash", "-c", "exec 2>&1; " + script + "kill $(jobs -p) 2>/dev/null; wait; true"]
    said = machine(*wrapped, timeout=60)
    assert "Traceback" not in said


def as_typed(command: str) -> str:
    if command.startswith("cat data/test/"):
        return f"until {command} 2>/dev/null; do sleep 0.1; done"
    if command.startswith(RUNS_ON):
        return f"timeout --preserve-status 3 {command}"
    if any(command.startswith(one) for one in FINDS) and "|" not in command:
        return f"{{ {command}; [ $? -le 1 ]; }}"
    for one, word in TYPED.items():
        if command.startswith(one):  # each prompt drops what was typed before it
            return f"(set +o pipefail; while sleep 0.2; do echo {word}; done | script -qec {command!r} /dev/null)"
    return command.replace(TYPED_CURL, TYPED_CURL.replace("ada", "ada:ask-secret")).replace(WINDOW, "--window 1")


@pytest.mark.parametrize("start", ELSEWHERE)
def test_options_of_what_cannot_be_run_are_there(site: Machine, start: str) -> None:
    command = next(
        one for found in PAGES.values() for block in found for one in block.commands if one.startswith(start)
    )
    program = command.split()[0]
    if program == "sonalyze":
        known = site(program, command.split()[1], "--help")
        assert all(option in known for option in re.findall(r"(?<=\s)--[a-z-]+", command))


def test_drop_ins_of_the_pages_are_read_without_a_word(site: Machine) -> None:
    units = {"exfiltrate.8": "sonar-exfiltrate", "sonard.8": "sonar-sonard", "sonarctl-cert.8": "sonar-infiltrate"}
    found = [
        (name, block.text) for name, all_ in PAGES.items() for block in all_ if block.text.startswith("[Service]\n")
    ]
    assert {name for name, _ in found} == units.keys()
    for name, text in found:
        site.write(f"/run/systemd/system/{units[name]}.service.d/page.conf", text)
    said = site("sh", "-c", f"systemd-analyze verify {' '.join(f'{unit}.service' for unit in units.values())} 2>&1")
    site("sh", "-c", "rm /run/systemd/system/sonar-*.d/page.conf")
    assert said == ""
