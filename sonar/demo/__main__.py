"""Run the whole way on loopback: sample, deliver over HTTPS, store, analyse, report, show.

All state lies below one directory that may be deleted. Every process that is started is stopped again, also on
Ctrl-C, SIGTERM and errors.
"""

import argparse
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from sonar.demo import history
from sonar.errors import SonarError
from sonar.log import run
from sonar.serve import certificates
from sonar.serve.passwords import Hash
from sonar.times import present

LIBEXEC = Path(__file__).resolve().parents[2] / "libexec"
HISTORY = "demo.example.org"
HERE = "here.example.org"
PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Site:
    """Where the demonstration keeps its things, and the secrets it made up."""

    state: Path
    upload_password: str
    query_password: str

    @property
    def data(self) -> Path:
        return self.state / "data"

    @property
    def ca(self) -> Path:
        return self.state / "tls" / "ca.crt"

    def log(self, program: str) -> Path:
        return self.state / "log" / f"{program}.log"


def main(argv: Sequence[str]) -> int:
    """Run the demonstration; return 0 when it ended by itself or by Ctrl-C."""
    parser = argparse.ArgumentParser(prog="sonar.demo", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--state", type=Path, default=Path("demo-state"), help="directory of all state (%(default)s)")
    parser.add_argument("--seconds", type=float, help="end after so many seconds; by default at Ctrl-C")
    args = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    started = time.monotonic()
    with ExitStack() as processes:
        site = prepare(args.state.absolute())
        query_url = start(site, processes)
        show(site)
        say(f"\nThe page of the generated cluster:  {query_url}/c/{HISTORY}")
        say(f"The page of this machine:           {query_url}/c/{HERE}")
        say(f"  log in as 'demo' with password '{site.query_password}'; the browser may be told to trust {site.ca}")
        say(f"  curl --cacert {site.ca} {query_url}/ping")
        say(f"All state, with reports and logs, is in {site.state} and may be deleted.")
        if args.seconds is None:
            say("Press Ctrl-C to end.")
        try:
            while args.seconds is None or time.monotonic() - started < args.seconds:
                time.sleep(0.2)
        except KeyboardInterrupt:
            say("")
    say("All stopped.")
    return 0


def prepare(state: Path) -> Site:
    """Make the state directory anew: certificates, passwords, and the history of a cluster of three nodes."""
    if state.exists() and not (state / "data").is_dir() and any(state.iterdir()):
        raise SonarError(f"'{state}' is not the state of an earlier demonstration; not touching it")
    shutil.rmtree(state, ignore_errors=True)
    for directory in ("data", "log", "spool", "tls"):
        (state / directory).mkdir(parents=True, mode=0o700)
    site = Site(state, secrets.token_urlsafe(12), secrets.token_urlsafe(12))
    say("Making a private certificate authority and a certificate for this machine …")
    certificates.make_authority(state / "tls", "Sonar demonstration")
    certificates.make_server_certificate(state / "tls", "server", ["localhost", "127.0.0.1"])
    _secret(state / "upload-passwords", f"{HERE}:{site.upload_password}\n")
    _secret(state / "query-passwords", f"demo:{Hash.of(site.query_password)}:role=admin\n")
    say("Writing two weeks of history of a cluster of three nodes …")
    history.write_history(site.data / HISTORY, now=present())
    history.write_config(state / f"{HISTORY}-config.json")
    return site


def start(site: Site, processes: ExitStack) -> str:
    """Start the four daemons, wait until this machine's own samples can be read, and return the query server's URL."""
    tls = ["--tls-cert", str(site.state / "tls" / "server.crt"), "--tls-key", str(site.state / "tls" / "server.key")]
    urls = {}
    for program, passwords in (("infiltrate", "upload-passwords"), ("sonalyzed", "query-passwords")):
        ports = site.state / f"{program}.ports"
        arguments = ["--data", str(site.data), "--password-file", str(site.state / passwords), *tls]
        arguments += ["--listen-tls", "127.0.0.1:0", "--port-file", str(ports)]
        if program == "sonalyzed":
            arguments += ["--cluster-config", str(site.state)]
        process = processes.enter_context(daemon(site, program, arguments))
        wait_until(ports.exists, f"{program} listens", process, site.log(program))
        urls[program] = f"https://127.0.0.1:{ports.read_text().split()[2]}"
        answer = fetch(site, f"{urls[program]}/ping").decode().strip()
        say(f"{program} listens at {urls[program]}, /ping says {answer}")

    spool = ["--spool", str(site.state / "spool")]
    sonard = processes.enter_context(daemon(site, "sonard", ["--cluster", HERE, "--interval", "5", *spool]))
    exfiltrate = ["--cluster", HERE, "--url", urls["infiltrate"], "--ca-cert", str(site.ca), "--window", "0", *spool]
    exfiltrate += ["--auth-file", str(site.state / "upload-passwords")]
    processes.enter_context(daemon(site, "exfiltrate", exfiltrate))
    say("sonard samples this machine every 5 seconds, exfiltrate delivers; waiting for two samples …")
    wait_until(lambda: len(delivered(site)) >= 2, "two samples have arrived", sonard, site.log("exfiltrate"))
    return urls["sonalyzed"]


def show(site: Site) -> None:
    """Print the tables of both clusters and write the load reports."""
    # What did anything at all: a machine has many process groups that only wait.
    tool("sonalyze", "jobs", "--data-path", str(site.data / HERE), "-u", "-", "--min-cpu-peak", "2")
    tool("sonalyze", "load", "--data-path", str(site.data / HERE), "--none")
    config = ["--config-file", str(site.state / f"{HISTORY}-config.json")]
    history_data = ["--data-path", str(site.data / HISTORY), "--from", "1d"]
    tool("sonalyze", "jobs", *history_data, "-u", "-", "--min-runtime", "4h", "--numjobs", "2")
    tool("sonalyze", "load", *history_data, *config, "--half-daily", "--fmt=host,date,time,cpu,rcpu,mem,rgpu,rgpumem")
    reports = site.state / "reports" / HISTORY
    reports.mkdir(parents=True)
    source = ["--data-dir", str(site.data / HISTORY), "--report-dir", str(reports), *config]
    tool("naicreport", "load", *source, "--tag", "daily", "--hourly", "--from", "1d")
    tool("naicreport", "load", *source, "--tag", "weekly", "--hourly", "--from", "7d", "--with-downtime")
    say("".join(f"  {path.name}  {path.stat().st_size} bytes\n" for path in sorted(reports.iterdir())))


@contextmanager
def daemon(site: Site, program: str, arguments: Sequence[str]) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a daemon of libexec, its output in a log file; stop it on leaving, by SIGTERM and then by SIGKILL."""
    with site.log(program).open("wb") as log:
        process = subprocess.Popen([sys.executable, LIBEXEC / program, *arguments], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tool(name: str, *arguments: str) -> None:
    """Show a command as a user would type it, and what it prints."""
    here = f"{Path.cwd()}/"
    say(f"\n$ {name} {' '.join(argument.removeprefix(here) for argument in arguments)}")
    done = subprocess.run([sys.executable, LIBEXEC / name, *arguments], check=False)
    if done.returncode:
        raise SonarError(f"{name} ended with status {done.returncode}")


def delivered(site: Site) -> set[bytes]:
    """Return the distinct samples of this machine that the store has."""
    lines = (
        line for path in site.data.glob(f"{HERE}/*/*/*/0+sample-*.json") for line in path.read_bytes().splitlines()
    )
    return set(lines)


def wait_until(condition: Callable[[], bool], what: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the condition holds; raise SonarError when the process ends before, or patience does."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-2000:]
            raise SonarError(f"gave up waiting until {what}; the end of '{log}':\n{tail}")
        time.sleep(0.05)


def fetch(site: Site, url: str) -> bytes:
    """Return the body behind an address of one of the daemons, its certificate checked."""
    context = ssl.create_default_context(cafile=site.ca)
    try:
        with urllib.request.urlopen(url, context=context, timeout=10) as answer:
            body: bytes = answer.read()
            return body
    except URLError as error:
        raise SonarError(f"{url}: {error.reason}") from error


def say(text: str) -> None:
    """Print at once, so that the text stands in the right order beside that of the tools."""
    print(text, flush=True)


def _secret(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(run("sonar.demo", main))
