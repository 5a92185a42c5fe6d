"""sonard as it is run: on the real /proc of this machine."""

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SONARD = [sys.executable, str(ROOT / "libexec/sonard")]
# Takes no less CPU time than it says, then waits for its standard input to end.
BURNER = "import sys, time\nwhile time.process_time() < 0.7: pass\nprint('done', flush=True)\nsys.stdin.read()"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*SONARD, "--cluster=test", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@contextmanager
def burner() -> Iterator[int]:
    """Give the pid of a child that has used some CPU time, in a process group of its own."""
    command = [sys.executable, "-c", BURNER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
        yield child.pid


def jobs_of(line: str) -> list[dict[str, object]]:
    jobs: list[dict[str, object]] = json.loads(line)["data"]["attributes"]["jobs"]
    return jobs


def processes_of(line: str) -> dict[int, dict[str, object]]:
    return {
        process["pid"]: {**process, "job": job["job"], "user": job["user"]}
        for job in json.loads(line)["data"]["attributes"]["jobs"]
        for process in job["processes"]
    }


def test_one_sample_has_our_own_child() -> None:
    with burner() as pid:
        done = run("--once", "--host=n1.fox")
        command = Path(f"/proc/{pid}/comm").read_text().strip()

    assert (done.returncode, done.stderr) == (0, "")
    attributes = json.loads(done.stdout)["data"]["attributes"]
    assert (attributes["cluster"], attributes["node"]) == ("test", "n1.fox")
    assert len(attributes["system"]["cpus"]) == os.cpu_count()
    assert attributes["system"]["used_memory"] > 0
    child = processes_of(done.stdout)[pid]
    assert (child["cmd"], child["ppid"], child["job"]) == (command, os.getpid(), pid)
    assert child["user"] == pwd.getpwuid(os.getuid()).pw_name
    assert child["cpu_time"] == 1
    assert child.keys() >= {"cpu_avg", "resident_memory", "virtual_memory"}
    assert "cpu_util" not in child


def test_csv_sample_has_our_own_child() -> None:
    with burner() as pid:
        done = run("--once", "--format=csv", "--min-cpu-time=0")

    (line,) = [line for line in done.stdout.splitlines() if f",pid={pid}," in line]
    assert f",job={pid}," in line
    assert ",cputime_sec=1" in line
    assert sum(",load=" in line for line in done.stdout.splitlines()) == 1


def test_options_leave_out_processes() -> None:
    with burner() as pid:
        user = pwd.getpwuid(os.getuid()).pw_name
        commands = ["--exclude-command=nothing,pyth", "--exclude-command=nada"]
        for options in ([f"--exclude-user=nobody,{user}"], commands, ["--min-cpu-time=3600"]):
            assert pid not in processes_of(run("--once", *options).stdout)


def test_nothing_to_tell_is_a_heartbeat() -> None:
    done = run("--once", "--min-cpu-time=999999999", "--no-load", "--no-gpu")

    assert json.loads(done.stdout)["data"]["attributes"].keys() == {"time", "cluster", "node", "jobs"}
    assert jobs_of(done.stdout) == []


def test_output_file_is_appended_to(tmp_path: Path) -> None:
    target = tmp_path / "log.json"
    target.write_text("before\n")

    for _ in range(2):
        assert run("--once", f"--output={target}").returncode == 0

    before, *samples = target.read_text().splitlines()
    assert before == "before"
    assert [json.loads(sample)["data"]["type"] for sample in samples] == ["sample", "sample"]


def test_daemon_samples_at_its_interval_and_ends_cleanly_on_sigterm() -> None:
    with burner(), subprocess.Popen([*SONARD, "--cluster=test", "--interval=1"], stdout=subprocess.PIPE) as sonard:
        assert sonard.stdout is not None
        lines = [sonard.stdout.readline().decode() for _ in range(3)]
        sonard.send_signal(signal.SIGTERM)
        rest = sonard.stdout.read().decode()

    assert sonard.returncode == 0
    assert rest == "" or rest.endswith("\n")
    times = [json.loads(line)["data"]["attributes"]["time"] for line in lines]
    assert times == sorted(set(times))
    assert sonard.pid in processes_of(lines[2])


def test_current_use_appears_in_the_daemons_first_sample() -> None:
    spinner = [sys.executable, "-c", "while True: pass"]
    with (
        subprocess.Popen(spinner) as busy,
        subprocess.Popen([*SONARD, "--cluster=test", "--interval=1"], stdout=subprocess.PIPE) as sonard,
    ):
        assert sonard.stdout is not None
        lines = [sonard.stdout.readline().decode() for _ in range(2)]
        sonard.send_signal(signal.SIGINT)
        sonard.stdout.read()
        busy.kill()

    assert sonard.returncode == 0
    use = processes_of(lines[1])[busy.pid]["cpu_util"]
    assert isinstance(use, float)
    assert use > 0


def test_tells_systemd_that_it_is_ready(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"}
        with subprocess.Popen(
            [*SONARD, "--cluster=test", "--interval=1"], stdout=subprocess.PIPE, env=environment
        ) as sonard:
            told = [listener.recv(4096) for _ in range(2)]
            assert sonard.stdout is not None
            sonard.stdout.readline()
            sonard.terminate()
            sonard.stdout.read()
        while not told[-1].startswith(b"STOPPING=1"):
            told.append(listener.recv(4096))

    assert told[0].startswith(b"READY=1")
    assert b"WATCHDOG=1" in told
    assert sonard.returncode == 0


def test_reader_of_the_pipe_that_goes_away_ends_it_quietly() -> None:
    command = [*SONARD, "--cluster=test", "--interval=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sonard:
        assert sonard.stdout is not None
        sonard.stdout.readline()
        sonard.stdout.close()
        assert sonard.stderr is not None
        assert sonard.stderr.read() == ""
    assert sonard.returncode == 0


def test_failing_disk_loses_a_sample_not_the_daemon(tmp_path: Path) -> None:
    command = [*SONARD, "--cluster=test", "--interval=1", f"--output={tmp_path}/none/log.json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as sonard:
        assert sonard.stderr is not None
        assert "sample lost" in sonard.stderr.readline()
        later = tmp_path / "later"
        later.mkdir()
        os.mkfifo(later / "log.json")
        later.rename(tmp_path / "none")
        with (tmp_path / "none/log.json").open() as reader:  # waits for the writer
            line = reader.readline()
            sonard.terminate()
            reader.read()
        sonard.stderr.read()
    assert sonard.returncode == 0
    assert jobs_of(line)

    done = run("--once", f"--output={tmp_path}/nowhere/log.json")
    assert done.returncode == 1
    assert "sample lost" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--cluster=../x"], "bad cluster name '../x'"),
        (["--host=a/b"], "bad host name 'a/b'"),
        (["--interval=0"], "want a whole number from 1 on, not '0'"),
        (["--interval=1.5"], "'1.5'"),
        (["--min-cpu-time=-1"], "want a whole number from 0 on"),
        (["--format=xml"], "--format"),
        (["--spool=a", "--output=b"], "not allowed with"),
        (["--inter=5"], "unrecognized"),
    ],
)
def test_wrong_command_lines_are_refused(arguments: list[str], part: str) -> None:
    done = run("--once", *arguments)

    assert done.returncode == 2
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_help_needs_nothing_heavy() -> None:
    script = (
        "import sys\nfrom sonar.node.daemon import parser\nparser().format_help()\n"
        "print([name for name in ('pyarrow', 'numpy', 'pynvml', 'typer', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
    assert os.access(SONARD[1], os.X_OK)
