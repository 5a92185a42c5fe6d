"""sonalyze asks the server of its machine: the same bytes, for those who may read the log, and only for them."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sonar.demo.history import write_history
from sonar.read.sources import noting, state_of

from tests.web.conftest import CLUSTER, LIBEXEC, Server, running

SONALYZE = LIBEXEC / "sonalyze"
NOW = "2026-03-20T12:00:00Z"
LINE = (
    "v=0.9.0,time=2026-03-0{}T10:{:02}:00Z,host=n1.x,user=ann,cmd=py,job=1,pid=7,cpu%=50,cpukib=1000,cputime_sec={}\n"
)


@dataclass(frozen=True)
class Here:
    """A machine with a server: its tree, and what a command's environment is."""

    server: Server
    tree: Path
    environment: dict[str, str]

    def answered(self) -> int:
        """Return how many questions the server has answered."""
        while self.running():  # it counts a moment after the command has all of it
            time.sleep(0.01)
        return int(self._metric('total{outcome="answered"}'))

    def running(self) -> float:
        """Return how many commands the server is answering."""
        return self._metric('running{lane="command"}')

    def _metric(self, name: str) -> float:
        text = self.server.get("/metrics", login=None).data.decode()
        return float(re.findall(rf"sonalyzed_tasks_{name} (\S+)", text)[0])

    def ask(
        self, *argv: str, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [sys.executable, SONALYZE, *argv],
            env=self.environment | (env or {}), cwd=cwd, capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    def both(self, *argv: str) -> tuple[bytes, bool]:
        """Return what is answered by the server as without it, and whether the server did it."""
        before = self.answered()
        one = self.ask(*argv)
        by_server = self.answered() > before
        other = self.ask(*argv, "--local")
        assert (one.returncode, one.stdout, one.stderr) == (other.returncode, other.stdout, other.stderr), argv
        return one.stdout, by_server


@pytest.fixture(scope="module")
def here() -> Iterator[Here]:
    root = Path(tempfile.mkdtemp())  # unlike pytest's, others may be let into it
    root.chmod(0o755)
    write_history(root / "data" / CLUSTER, now=1774008000)
    (root / "sonar.conf").write_text(f"[Analysis]\nSocket={root}/commands\n")
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(root), "LOGNAME": "ann", "SONAR_NOW": NOW,
        "SONAR_CONFIG": f"{root}/sonar.conf",
    }  # fmt: skip
    options: list[str | Path] = ["--allow-anonymous", "--command-socket", root / "commands"]
    with running(root, options, tls=False) as server:
        yield Here(server, server.data / CLUSTER, environment)
    shutil.rmtree(root)


@pytest.mark.parametrize(
    "question",
    [
        ["jobs", "-u-"],
        ["jobs", "-u-", "--fmt=json,job,user,cpu-avg,start", "--from", "2d"],
        ["jobs", "--fmt=csv,nonesuch,job,user", "-u", "grete"],
        ["load", "--hourly", "--fmt=csvnamed,datetime,cpu,mem,host"],
        ["load", "--daily", "--group"],
        ["uptime", "--interval", "5"],
        ["parse", "--fmt=csvnamed,all", "--host", "gpu-1"],
        ["parse", "--fmt=arrow,time,host,user"],
        ["metadata"],
        ["node"],
        ["jobs", "-u-", "--query", "duration > 1h", "--sort=-duration"],
        ["jobs", "-u", "nobody-at-all"],
    ],
    ids=" ".join,
)
def test_same_bytes_from_the_server(here: Here, question: list[str]) -> None:
    output = b""
    for _ in range(2):  # computed, then remembered
        output, by_server = here.both(*question, "--data-path", str(here.tree))
        assert by_server
    assert output or question[-1] == "nobody-at-all"


@pytest.mark.parametrize(
    "argv",
    [
        ["jobs", "-u-", "--verbose"],
        ["jobs", "--no-such-option"],
        ["jobs", "--from", "never"],
        ["jobs", "--help"],
        ["jobs", "--fmt=help"],
        ["load", "--fmt=csv,rcpu", "--config-file", "nonesuch"],
        ["cluster"],
        ["jobs", "-u-", "--jobs", "1"],
        ["jobs", "-u-", "--from", "2026-03-10", "--to", "2026-03-01"],
    ],
    ids=" ".join,
)
def test_what_the_command_has_to_do_itself(here: Here, argv: list[str]) -> None:
    _, by_server = here.both(*argv, "--data-path", str(here.tree)) if argv != ["cluster"] else here.both(*argv)
    assert not by_server


def test_the_tree_may_have_any_name(here: Here, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(here.tree)
    before = here.answered()

    relative = here.ask("jobs", "-u-", "--data-path", "link", cwd=tmp_path)
    rooted = here.ask("jobs", "-u-", env={"SONAR_ROOT": str(tmp_path / "link")})
    (tmp_path / "sonar").mkdir()
    (tmp_path / "sonar" / "data").symlink_to(here.tree)
    at_home = here.ask("jobs", "-u-", env={"HOME": str(tmp_path)})

    assert here.answered() == before + 3
    assert relative.stdout == rooted.stdout == at_home.stdout
    assert len(relative.stdout) > 100


def test_a_tree_that_the_server_does_not_have(here: Here, tmp_path: Path) -> None:
    directory = tmp_path / "2026" / "03" / "01"
    directory.mkdir(parents=True)
    (directory / "n1.x.csv").write_text(LINE.format(1, 0, 0) + LINE.format(1, 5, 100))

    output, by_server = here.both("jobs", "-u-", "-f", "2026-03-01", "--data-path", str(tmp_path))

    assert not by_server
    assert b"ann" in output


def test_new_data_count_at_once(here: Here) -> None:
    tree = here.server.data / "grows.example.org"
    file = tree / "2026" / "03" / "01" / "n1.x.csv"
    file.parent.mkdir(parents=True)
    question = ("jobs", "-u-", "-f", "2026-03-01", "-t", "2026-03-05", "--fmt=csv,job,duration/sec,cpu-avg,samples")
    outputs = []
    for minute in range(4):
        with file.open("a") as out:
            out.write(LINE.format(1, minute * 5, minute * 77))
        if minute == 2:
            columnize = [sys.executable, str(LIBEXEC / "columnize"), "--data", str(here.server.data), "-c", tree.name]
            subprocess.run(columnize, check=True, env=here.environment, capture_output=True, timeout=60)
        output, by_server = here.both(*question, "--data-path", str(tree))
        assert by_server
        outputs.append(output)
    later = tree / "2026" / "03" / "02" / "n1.x.csv"  # a day that was not there
    later.parent.mkdir()
    later.write_text(LINE.format(2, 0, 5000))
    outputs.append(here.both(*question, "--data-path", str(tree))[0])
    later.unlink()
    outputs.append(here.both(*question, "--data-path", str(tree))[0])

    assert len(set(outputs[1:5])) == 4  # a job of one sample is none, by default
    assert outputs[5] == outputs[3]


def test_no_server_is_no_error(here: Here, tmp_path: Path) -> None:
    (tmp_path / "sonar.conf").write_text(f"[Analysis]\nSocket={tmp_path}/nobody\n")
    argv = ("jobs", "-u-", "--data-path", str(here.tree))

    assert here.ask(*argv, env={"SONAR_CONFIG": f"{tmp_path}/sonar.conf"}).stdout == here.ask(*argv).stdout
    (tmp_path / "nobody").touch()
    assert here.ask(*argv, env={"SONAR_CONFIG": f"{tmp_path}/sonar.conf"}).stdout == here.ask(*argv).stdout


def test_another_version_is_left_alone(here: Here) -> None:
    program = (
        "import sys, sonar; sonar.__version__ = '0.0.0'\n"
        "from sonar.cli.served import answered_by_server\n"
        "print(answered_by_server(sys.argv[1:]))"
    )
    argv = ["jobs", "-u-", "--data-path", str(here.tree)]

    done = subprocess.run(
        [sys.executable, "-c", program, *argv], env=here.environment, capture_output=True, timeout=60, check=True
    )

    assert done.stdout == b"None\n"


@pytest.mark.parametrize("request_", [b"", b"\0\0\0\5hello", b"\xff\xff\xff\xff", b"\0\0\0\1\xff", b"\0" * 400])
def test_junk_is_no_question(here: Here, request_: bytes) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(here.server.config / "commands"))
        connection.settimeout(60)
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert here.both("metadata", "--data-path", str(here.tree))[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_nobody_sees_what_he_cannot_read(here: Here) -> None:
    tree = here.server.data / "closed.example.org"
    file = tree / "2026" / "03" / "01" / "n1.x.csv"
    file.parent.mkdir(parents=True)
    file.write_text(LINE.format(1, 0, 0) + LINE.format(1, 5, 100))
    argv = ["jobs", "-u-", "-f", "2026-03-01", "-t", "2026-03-02", "--data-path", str(tree)]

    def asked(*groups: int) -> str:
        """Return what somebody without any right gets: the number of bytes, or that he has to do it himself."""
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.dup2(writing, 1)
                os.setgroups(groups)
                os.setgid(65534)
                os.setuid(65534)
                os.environ.update(here.environment)
                from sonar.cli.served import answered_by_server

                status = answered_by_server(argv)
                os.write(1, b"himself" if status is None else b"")
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as file:
            text = file.read()
        os.waitpid(pid, 0)
        return text

    for path, mode, group in ((file, 0o640, 0), (file.parent, 0o750, 0), (tree / "2026", 0o700, 0), (tree, 0o711, 0)):
        assert "ann" in asked()
        before = path.stat().st_mode
        path.chmod(mode)
        os.chown(path, 0, group)
        assert asked() == "himself", path  # also where the answer is remembered
        path.chmod(before)
    os.chown(file, 0, 4321)
    file.chmod(0o640)
    assert asked() == "himself"
    assert "ann" in asked(4321)
    file.chmod(0o604)
    assert asked(4321) == "himself"  # the group's bits count for its members, as the kernel has it


def test_at_a_terminal_it_fits(here: Here) -> None:
    shown = []
    for more in ([], ["--local"]):
        master, slave = pty.openpty()
        os.set_inheritable(slave, True)
        argv = [sys.executable, str(SONALYZE), "jobs", "-u-", "--from", "2d", "--data-path", str(here.tree), *more]
        with subprocess.Popen(argv, env=here.environment | {"PAGER": "sed s/^/=/"}, stdout=slave) as process:
            os.close(slave)
            text = b""
            try:
                while part := os.read(master, 4096):
                    text += part
            except OSError:
                pass
            os.close(master)
        assert process.returncode == 0
        shown.append(text)
    assert shown[0] == shown[1]
    assert shown[0].startswith(b"=")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_who_leaves_is_not_waited_for(here: Here, number: signal.Signals) -> None:
    tree = here.server.data / "long.example.org"
    for day in range(1, 10):
        directory = tree / "2026" / "03" / f"{day:02}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "n1.x.csv").write_text(
            "".join(LINE.format(day, m % 60, m).replace("job=1,", f"job={m},") for m in range(60000))
        )
    argv = ["env", "--default-signal=INT", sys.executable, str(SONALYZE), "jobs", "-u-", "-f", "2026-03-01"]

    process = subprocess.Popen([*argv, "--data-path", tree], env=here.environment, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not here.running():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(60) == (130 if number == signal.SIGINT else -9)
    while here.running():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert process.stdout is not None
    process.stdout.close()


def test_a_reader_that_has_gone_is_no_error(here: Here) -> None:
    command = (
        f"{sys.executable} {SONALYZE} parse --fmt=csv,all --data-path {here.tree} | head -1; echo ${{PIPESTATUS[0]}}"
    )

    done = subprocess.run(
        ["bash", "-c", command], env=here.environment, capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.endswith("\n0\n")
    assert done.stderr == ""


def test_a_state_tells_any_change(tmp_path: Path) -> None:
    day = tmp_path / "2026" / "03" / "01"
    day.mkdir(parents=True)
    first = 739675
    (day / "a").write_text("1")
    days = (str(tmp_path), first - 10, first + 10)
    states = [state_of(days)[0]]
    (day / "a").write_text("12")
    states.append(state_of(days)[0])
    os.utime(day / "a", (1, 1))
    states.append(state_of(days)[0])
    (day / "b").touch()
    states.append(state_of(days)[0])
    (day / "c").write_text("12")
    os.utime(day / "c", (1, 1))
    (day / "c").replace(day / "a")
    states.append(state_of(days)[0])
    assert len(set(states)) == len(states)
    with noting() as noted:
        pass
    sources = noted.sources()
    assert sources is not None
    assert not sources.timeless  # nothing was said about it
