"""What may go wrong with a running server, and how each ends: hang, full disk, old certificate, bad configuration."""

import json
import time
from functools import partial

import pytest

from tests.system.conftest import Machine

pytestmark = pytest.mark.system

INGEST = "sonar-infiltrate.service"
DATA = "/var/lib/sonar-server/data"


@pytest.fixture(scope="module")
def server(machine: Machine) -> Machine:
    machine("systemctl", "start", "sonar-infiltrate.socket", "sonar-infiltrate-local.socket", INGEST)
    machine.wait("ingest is active", lambda: machine.property(INGEST, "ActiveState") == "active")
    return machine


def post(machine: Machine, number: int) -> str:
    line = (
        f"v=0.12.1,time=2026-01-06T10:00:00+00:00,host=c1,user=u,cmd=numbered,job={number},pid={number},cputime_sec=5\n"
    )
    return machine(
        "curl", "--silent", "--cacert", "/run/sonar-ca.crt", "--user", "node.example.org:up-secret", "--max-time", "20",
        "--header", "Content-Type: text/csv", "--data-binary", line, "--output", "/dev/null",
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


def test_a_hang_ends_by_the_watchdog_with_the_stack_in_the_journal(server: Machine) -> None:
    before, since = int(server.property(INGEST, "NRestarts")), time.time() - 1
    server.write(f"/run/systemd/system/{INGEST}.d/hang.conf", "[Service]\nWatchdogSec=2s\n")
    server("systemctl", "daemon-reload")
    server("systemctl", "restart", INGEST)
    try:
        server("systemctl", "kill", "--kill-whom=main", "-s", "STOP", INGEST)
        # A stopped process cannot be aborted before it goes on; SIGCONT is what systemd sends with the signal.
        server.wait("it was restarted", lambda: int(server.property(INGEST, "NRestarts")) > before, 40)
        server.wait("it is active", lambda: server.property(INGEST, "ActiveState") == "active")
    finally:
        server("rm", f"/run/systemd/system/{INGEST}.d/hang.conf")
        server("systemctl", "daemon-reload")
    text = "\n".join(str(one["MESSAGE"]) for one in journal(server, "-u", INGEST, since=since))

    assert "watchdog" in text.lower()
    assert "Fatal Python error: Aborted" in text
    assert "most recent call first" in text
    # systemd's own catalog has the entry about a unit that failed in this way.
    assert "Defined-By: systemd" in server("journalctl", "--no-pager", "-x", "-u", INGEST, f"--since=@{int(since)}")
    assert post(server, 1) == "200"


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
