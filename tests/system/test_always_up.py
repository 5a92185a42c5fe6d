"""What may go wrong with a running server, and how each ends: hang, full disk, old certificate, bad configuration."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.system.conftest import Machine

pytestmark = pytest.mark.system

INGEST = "sonar-infiltrate.service"
QUERY = "sonar-sonalyzed.service"
DATA = "/var/lib/sonar-server/data"


@pytest.fixture(scope="module")
def server(machine: Machine) -> Machine:
    machine("systemctl", "start", "sonar-infiltrate.socket", "sonar-infiltrate-local.socket", INGEST)
    machine.wait("ingest is active", lambda: machine.property(INGEST, "ActiveState") == "active")
    return machine


def post(machine: Machine, number: int, *, host: str = "c1", wait: int = 20) -> str:
    fields = f"host={host},user=u,cmd=numbered,job={number},pid={number},cputime_sec=5"
    return machine(
        "curl", "--silent", "--cacert", "/run/sonar-ca.crt", "--user", "node.example.org:up-secret",
        "--max-time", str(wait), "--header", "Content-Type: text/csv", "--output", "/dev/null",
        "--data-binary", f"v=0.12.1,time=2026-01-06T10:00:00+00:00,{fields}\n",
        "--write-out", "%{http_code}", "https://localhost:8086/sonar-freecsv?cluster=node.example.org", check=False,
    )  # fmt: skip


def journal(machine: Machine, *matches: str, since: float) -> list[dict[str, object]]:
    text = machine("journalctl", "--output=json", "--no-pager", f"--since=@{int(since)}", *matches)
    return [json.loads(line) for line in text.splitlines()]


def event(machine: Machine, name: str, since: float) -> list[dict[str, object]]:
    return journal(machine, f"SONAR_EVENT={name}", since=since)


def explained(machine: Machine, identity: str) -> str:
    """Return what `journalctl -x` adds to a message."""
    return machine("journalctl", "--no-pager", "-x", "-n", "1", f"MESSAGE_ID={identity}")


# What runs instead of the daemon: the same program, in which calls on some files wait while /run/hang is there.
HANGING = """
import os, runpy, sys, time
from pathlib import Path
program, name, where = sys.argv[1:4]
real = getattr(os, name)
def call(first, *rest, **more):
    path = str(Path(f"/proc/self/fd/{first}").readlink()) if isinstance(first, int) else str(first)
    while where in path and os.path.exists("/run/hang"):
        time.sleep(0.05)
    return real(first, *rest, **more)
setattr(os, name, call)
sys.argv = [program, *sys.argv[4:]]
runpy.run_path(program, run_name="__main__")
"""
# What hangs: the call, the files, and where the stack says so.
HANGS = {
    "the spool": ("fdatasync", ".wal", ("spool.py", "in _write")),
    "the distributor": ("open", "/node.example.org/", ("distribute.py", "in _open_file")),
}


def stacks_of(machine: Machine, unit: str, since: float) -> str:
    return "\n".join(str(one["MESSAGE"]) for one in journal(machine, "-u", unit, since=since))


@contextmanager
def watched(machine: Machine, unit: str, extra: str = "") -> Iterator[None]:
    """Shorten the patience of a unit's watchdog; with `extra` lines for its service."""
    machine.write(f"/run/systemd/system/{unit}.d/hang.conf", f"[Service]\nWatchdogSec=6s\nRestartSec=0.2s\n{extra}")
    machine("systemctl", "daemon-reload")
    machine("systemctl", "restart", unit)
    try:
        yield
    finally:
        (machine.root / "run/hang").unlink(missing_ok=True)
        machine("rm", "-r", f"/run/systemd/system/{unit}.d")
        machine("systemctl", "daemon-reload")
        machine("systemctl", "restart", unit)


def ended_by_the_watchdog(machine: Machine, unit: str, before: int, since: float) -> None:
    """Wait for the end of what hangs; what the journal must have of it, it has."""
    machine.wait("it was restarted", lambda: int(machine.property(unit, "NRestarts")) > before, 60)
    text = stacks_of(machine, unit, since)
    assert "watchdog timeout" in text.lower(), text
    assert "Fatal Python error: Aborted" in text
    assert "most recent call first" in text
    failed = [one for one in event(machine, "self-check-failed", since) if one["_SYSTEMD_UNIT"] == unit]
    assert failed, text
    explanation = explained(machine, str(failed[0]["MESSAGE_ID"]))
    assert "look for a disk or a file system that hangs" in explanation
    # systemd's own catalog has the entry about a unit that failed in this way.
    assert "Defined-By: systemd" in machine("journalctl", "--no-pager", "-x", "-u", unit, f"--since=@{int(since)}")


@pytest.mark.parametrize("what", HANGS)
def test_a_hang_of_ingest_ends_by_the_watchdog_with_the_stack_in_the_journal(server: Machine, what: str) -> None:
    call, where, stack = HANGS[what]
    before, since = int(server.property(INGEST, "NRestarts")), time.time() - 1
    server.write("/run/hanging.py", HANGING)
    program = f"/usr/lib/sonar-server/venv/bin/python -I /run/hanging.py /usr/libexec/sonar/infiltrate {call} {where}"
    tls = "--tls-cert %t/sonar-infiltrate/tls-cert --tls-key %t/sonar-infiltrate/tls-key"
    options = f"--data {DATA} --password-file %t/sonar-infiltrate/ingest-passwords {tls}"
    with watched(server, INGEST, f"ExecStart=\nExecStart={program} {options}\n"):
        assert post(server, 0) == "200"
        server.write("/run/hang", "")
        # One that waits for the disk has no answer, and is sent again; one that the spool has is kept.
        assert post(server, 11, host=what.split()[1], wait=2) == ("200" if what == "the distributor" else "000")
        ended_by_the_watchdog(server, INGEST, before, since)
    text = stacks_of(server, INGEST, since)

    assert any(stack[0] in line and stack[1] in line for line in text.splitlines()), text
    assert post(server, 2) == "200"
    log = server.root / f"{DATA.lstrip('/')}/node.example.org/2026/01/06/distributor.csv"
    if what == "the distributor":
        server.wait("what was answered is in the log, once", lambda: log.exists() and log.read_text().count("\n") == 1)


def test_a_hang_of_the_workers_ends_sonalyzed_by_the_watchdog(server: Machine) -> None:
    since = time.time() - 1
    server("systemctl", "start", "sonar-sonalyzed.socket", "sonar-sonalyzed-local.socket", QUERY)
    before = int(server.property(QUERY, "NRestarts"))
    with watched(server, QUERY):
        group = server.property(QUERY, "ControlGroup")
        main = server.property(QUERY, "MainPID")
        server("sh", "-c", f"kill -STOP $(grep -vx {main} /sys/fs/cgroup/systemd{group}/cgroup.procs)")
        ended_by_the_watchdog(server, QUERY, before, since)

    assert "nursery.py" in stacks_of(server, QUERY, since)
    server.wait("it is active", lambda: server.property(QUERY, "ActiveState") == "active")


def test_a_kill_is_told_and_explained_by_the_run_that_follows(server: Machine) -> None:
    since, before = time.time() - 1, int(server.property(INGEST, "NRestarts"))
    told = len(event(server, "cut-off", since))
    server("systemctl", "kill", "-s", "KILL", INGEST)
    server.wait("it was restarted", lambda: int(server.property(INGEST, "NRestarts")) > before)
    server.wait("it tells of that", lambda: len(event(server, "cut-off", since)) > told)
    text = server("journalctl", "--no-pager", "-x", "-u", INGEST, f"--since=@{int(since)}")

    assert "status=9/KILL" in text
    assert "- status=9/KILL: somebody killed it, or the kernel did for want of memory" in text
    server("systemctl", "restart", INGEST)
    assert len(event(server, "cut-off", since)) == told + 1


def test_canaries_are_nobodys_data(server: Machine) -> None:
    server.wait("there is one", lambda: any((server.root / DATA.lstrip("/")).glob(".server/canary/*/*/*/h*.csv")))
    assert server("/usr/libexec/sonar/cluster", "list", "--json").count("canary") == 0
    assert "canary" not in server("/usr/libexec/sonar/verify", "--verbose", check=False)


def test_a_full_disk_is_503_and_said_and_ends_by_itself(server: Machine) -> None:
    since = time.time() - 1
    server("systemctl", "stop", INGEST)
    server.write("/etc/sonar/sonar.conf.d/test.conf", "[Ingest]\nDiskReserve=1M\n")
    server("mount", "-t", "tmpfs", "-o", "size=8m,mode=0750,uid=sonar-server,gid=sonar-server", "none", DATA)
    try:
        server("systemctl", "start", INGEST)
        assert post(server, 2) == "200"
        server("sh", "-c", f"head -c 8m /dev/zero >{DATA}/.ballast; true")
        server.wait("uploads are refused", lambda: post(server, 3) == "503")
        server.wait("that is an event", lambda: bool(event(server, "store-blocked", since)), 20)
        assert "503" in server("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket",
                               "/run/sonar/infiltrate.socket", "http://localhost/ready")  # fmt: skip
        assert server("/usr/libexec/sonar/check", "--only", "ready", check=False).startswith(
            f"{INGEST} is not ready: 503"
        )
        server("rm", f"{DATA}/.ballast")
        server.wait("uploads are taken", lambda: post(server, 4) == "200")
        server.wait("that is an event", lambda: bool(event(server, "store-free", since)), 20)
    finally:
        (server.root / "etc/sonar/sonar.conf.d/test.conf").unlink()
        server("systemctl", "stop", INGEST)
        server("umount", "-l", DATA)
        server("systemctl", "start", INGEST)
    told = event(server, "store-blocked", since)

    assert "Make room" in explained(server, str(told[0]["MESSAGE_ID"]))
    assert event(server, "self-check-failed", since) == []


def test_a_bad_configuration_on_reload_keeps_the_old_and_says_so(server: Machine) -> None:
    since = time.time() - 1
    server.write("/etc/sonar/sonar.conf.d/test.conf", "[Ingest]\nMaxBody=plenty\n")
    try:
        server("systemctl", "reload", INGEST)
        server.wait("that is an event", lambda: bool(event(server, "reload-failed", since)))
        assert server.property(INGEST, "ActiveState") == "active"
        assert "reload failed" in server.property(INGEST, "StatusText")
        assert post(server, 5) == "200"
    finally:
        (server.root / "etc/sonar/sonar.conf.d/test.conf").unlink()
    server("systemctl", "reload", INGEST)
    server.wait("the next reload is well", lambda: bool(event(server, "reloaded", since)))
    told = event(server, "reload-failed", since)

    assert "/etc/sonar/sonar.conf.d/test.conf:2: MaxBody: 'plenty'" in str(told[0]["MESSAGE"])
    assert told[0]["SONAR_ROLE"] == "ingest"
    assert "goes on with what it had" in explained(server, str(told[0]["MESSAGE_ID"]))


def test_an_old_certificate_is_told_before_and_after_its_end(server: Machine) -> None:
    since = time.time() - 1
    server("systemctl", "start", "sonar-deliver.path")
    server("cp", "-a", "/etc/sonar/tls", "/run/tls-before")
    try:
        make_certificate(server, days=5)
        server("systemctl", "start", "sonar-cert-expiry.service")
        server("systemctl", "start", "sonar-cert-expiry.service")
        make_certificate(server, days=-1)
        server("systemctl", "start", "sonar-cert-expiry.service")
        told = [str(one["MESSAGE"]) for one in event(server, "trouble", since)]
        assert len(told) == 2, told
        assert "ends on" in told[0]
        assert "ended on" in told[1]
    finally:
        server("cp", "-aT", "/run/tls-before", "/etc/sonar/tls")
    server("systemctl", "start", "sonar-cert-expiry.service")
    over = event(server, "trouble-over", since)

    assert len(over) == 2
    assert "sonarctl check" in explained(server, str(event(server, "trouble", since)[0]["MESSAGE_ID"]))
    server.wait("all alerts are away", partial(outbox_is_empty, server))


def outbox_is_empty(machine: Machine) -> bool:
    return machine("/usr/libexec/sonar/deliver", "--list") == ""


def make_certificate(machine: Machine, *, days: int) -> None:
    """Put a certificate that ends in so many days in the place of the server's."""
    program = (
        "import datetime, pathlib\n"
        "from cryptography import x509\n"
        "from cryptography.hazmat.primitives import hashes, serialization\n"
        "from cryptography.hazmat.primitives.asymmetric import ec\n"
        "now = datetime.datetime.now(datetime.UTC)\n"
        "key = ec.generate_private_key(ec.SECP256R1())\n"
        "name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, 'localhost')])\n"
        "made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())"
        ".serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=9))"
        f".not_valid_after(now + datetime.timedelta(days={days})).sign(key, hashes.SHA256())\n"
        "pathlib.Path('/etc/sonar/tls/server.crt').write_bytes(made.public_bytes(serialization.Encoding.PEM))\n"
    )
    machine("/usr/lib/sonar-server/venv/bin/python", "-I", "-c", program)
