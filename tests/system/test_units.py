"""The shipped units under a real systemd: the whole way, confinement, crash, restart, reload."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.system.conftest import Machine

pytestmark = pytest.mark.system

DAEMONS = ("sonar-infiltrate.service", "sonar-sonalyzed.service")
SOCKETS = tuple(f"sonar-{name}.socket" for name in ("infiltrate", "sonalyzed", "infiltrate-local", "sonalyzed-local"))
STORE = "var/lib/sonar-server/data/node.example.org"


@pytest.fixture(scope="module")
def running(machine: Machine) -> Machine:
    """Start the server by preset and target, and the node's two services, as an administrator would."""
    machine("systemctl", "preset", *preset_of(machine))
    machine("systemctl", "start", "sonar.target")
    machine("systemctl", "enable", "--now", "sonar-sonard.service", "sonar-exfiltrate.service", "sonar-node.target")
    return machine


def preset_of(machine: Machine) -> list[str]:
    """Return the units of the server that the preset names."""
    lines = (machine.root / "usr/lib/systemd/system-preset/50-sonar-server.preset").read_text().splitlines()
    return [line.split()[1] for line in lines if line.startswith("enable ")]


def state_is(machine: Machine, unit: str, state: str) -> bool:
    return machine.property(unit, "ActiveState") == state


def curl(machine: Machine, *options: str) -> str:
    return machine("curl", "--silent", "--show-error", "--cacert", "/run/sonar-ca.crt", *options)


def certificate_of(machine: Machine) -> str:
    """Return the certificate that the ingest daemon shows."""
    return machine("sh", "-c", "echo | openssl s_client -connect localhost:8086 2>/dev/null | openssl x509")


def stored(machine: Machine) -> list[Path]:
    return sorted((machine.root / STORE).glob("*/*/*/0+sample-*.json"))


def post(machine: Machine, number: int) -> str:
    """Send one numbered sample by the real curl, which tries again until it is answered; return the status."""
    line = (
        f"v=0.12.1,time=2026-01-05T10:00:00+00:00,host=c{number % 8},user=u,cmd=numbered,job={number},pid={number},"
        "cputime_sec=5\n"
    )
    return curl(
        machine,
        *("--retry", "11", "--retry-all-errors", "--max-time", "60", "--output", "/dev/null"),
        *("--write-out", "%{http_code}", "--user", "node.example.org:up-secret"),
        *("--header", "Content-Type: text/csv", "--data-binary", line),
        "https://localhost:8086/sonar-freecsv?cluster=node.example.org",
    )


def test_the_whole_way_under_systemd(running: Machine) -> None:
    for unit in DAEMONS:
        running.wait(f"{unit} is active", partial(state_is, running, unit, "active"))
    assert curl(running, "https://localhost:8086/ping") == "ok"
    assert curl(running, "https://localhost:8087/ping") == "ok"

    running.wait(
        "two samples of this node are stored",
        lambda: sum(path.read_bytes().count(b"\n") for path in stored(running)) >= 2,
    )

    envelope = json.loads(stored(running)[0].read_text().splitlines()[0])
    assert envelope["data"]["attributes"]["cluster"] == "node.example.org"
    answer = curl(
        running,
        *("--user", "ada:ask-secret"),
        "https://localhost:8087/jobs?cluster=node.example.org&user=-&fmt=json,host,user,cmd&min-samples=1",
    )
    commands = {row["cmd"] for row in json.loads(answer)}
    assert any("systemd" in command for command in commands), answer

    def page() -> str:
        return curl(running, "--user", "ada:ask-secret", "https://localhost:8087/c/node.example.org")

    # Whoever comes first is told that the state is being made.
    running.wait("the page of the cluster has its table", lambda: "<table" in page())
    assert json.loads(answer)[0]["host"] in page()


def test_status_and_journal_tell_who_and_what(running: Machine) -> None:
    assert running.property(DAEMONS[0], "StatusText") != ""
    running.wait("the watchdog was fed", lambda: running.property(DAEMONS[0], "WatchdogTimestamp") != "")
    journal = running("journalctl", "-o", "json", "--no-pager", "SONAR_ROLE=ingest")
    assert all(json.loads(line)["_SYSTEMD_UNIT"] == DAEMONS[0] for line in journal.splitlines())
    assert "up-secret" not in running("journalctl", "--no-pager")


def test_files_belong_to_the_service_and_are_closed_to_others(running: Machine) -> None:
    running.wait("something is stored", lambda: bool(stored(running)))
    file = "/" + str(stored(running)[0].relative_to(running.root))
    assert running("stat", "-c", "%U:%G %a", file) == "sonar-server:sonar-server 640"


def test_the_key_of_the_sessions_is_made_once(running: Machine) -> None:
    key = "/var/lib/sonar-server/web/session-key"
    before = running("stat", "-c", "%U:%G %a %i", key)
    running("systemctl", "restart", "sonar-sonalyzed.service")

    assert before.startswith("sonar-server:sonar-server 600 ")
    assert running("stat", "-c", "%U:%G %a %i", key) == before


def test_kill_9_is_followed_by_a_restart_and_loses_nothing_answered(running: Machine) -> None:
    before = int(running.property(DAEMONS[0], "NRestarts"))

    with ThreadPoolExecutor(4) as clients:
        answers = [clients.submit(post, running, number) for number in range(1, 41)]
        running("systemctl", "kill", "-s", "KILL", DAEMONS[0])
        statuses = {answer.result(timeout=120) for answer in answers}

    assert statuses == {"200"}
    assert int(running.property(DAEMONS[0], "NRestarts")) == before + 1
    wait_until_stored(running, set(range(1, 41)))


def test_restart_refuses_no_connection(running: Machine) -> None:
    with ThreadPoolExecutor(4) as clients:
        answers = [clients.submit(post, running, number) for number in range(1001, 1061)]
        for _ in range(2):
            running("systemctl", "restart", DAEMONS[0])
        statuses = {answer.result(timeout=120) for answer in answers}

    assert statuses == {"200"}
    wait_until_stored(running, set(range(1001, 1061)))


def wait_until_stored(machine: Machine, numbers: set[int]) -> None:
    """Wait until lines with all these job numbers are in the log; each line there must be whole."""

    def read() -> set[int]:
        found = set()
        for path in (machine.root / STORE).glob("2026/01/05/c*.csv"):
            lines = path.read_text().splitlines(keepends=True)
            assert all(line.startswith("v=") and line.endswith("cputime_sec=5\n") for line in lines)
            found |= {int(line.split("job=")[1].split(",")[0]) for line in lines}
        return found

    machine.wait("all that was answered with 200 is in the log", lambda: read() >= numbers)


def test_passwords_and_certificate_are_taken_into_use_by_a_reload(running: Machine) -> None:
    name = "later.example.org"
    before = [running.property(unit, "MainPID") for unit in DAEMONS]
    shown = certificate_of(running)

    def answer(url: str, *options: str) -> str:
        return running("curl", "--silent", "--cacert", "/run/sonar-ca.crt", "--output", "/dev/null", *options,
                       "--write-out", "%{http_code}", url, check=False)  # fmt: skip

    def upload() -> str:
        line = "v=0.12.1,time=2026-01-05T10:00:00+00:00,host=l,user=u,cmd=c,job=1,pid=1,cputime_sec=5\n"
        options = ("--user", f"{name}:later-secret", "--header", "Content-Type: text/csv", "--data-binary", line)
        return answer(f"https://localhost:8086/sonar-freecsv?cluster={name}", *options)

    def ask() -> str:
        return answer("https://localhost:8087/cluster", "--user", "bob:ask-secret")

    assert (upload(), ask()) == ("401", "401")
    running("sh", "-c", f"echo later-secret | sonarctl passwd add {name} --stdin")
    running("sh", "-c", "echo ask-secret | sonarctl passwd add bob --query --role support --stdin")
    running.wait("the new users are known", lambda: (upload(), ask()) == ("200", "200"))
    running("sonarctl", "passwd", "remove", name)
    running.wait("and the removed one is not any more", lambda: upload() == "401")
    running("sonarctl", "cert", "renew", "server")
    running("systemctl", "reload", *DAEMONS)
    running.wait("the new certificate is shown", lambda: certificate_of(running) != shown)
    assert [running.property(unit, "MainPID") for unit in DAEMONS] == before


def test_no_other_service_sees_the_secrets_of_a_daemon(running: Machine) -> None:
    secrets = [f"/run/{unit.removesuffix('.service')}" for unit in DAEMONS]
    found = running("stat", "-c", "%U %a %F", *secrets).splitlines()
    assert found == ["sonar-server 700 directory"] * 2
    assert (
        running("stat", "-c", "%U %a", f"{secrets[0]}/ingest-passwords", f"{secrets[0]}/tls-key").splitlines()
        == ["sonar-server 400"] * 2
    )

    probe = ("systemd-run", "--unit=sonar-probe", "--quiet", "--wait", "--pipe", "--collect", "-p", "User=sonar-server")
    seen = running(*probe, "sh", "-c", f"id -un; ls {' '.join(secrets)} 2>/dev/null; true")

    assert seen == "sonar-server"


def test_stopping_the_target_closes_both_ports(running: Machine) -> None:
    running("systemctl", "stop", "sonar-node.target", "sonar.target")

    for unit in (*DAEMONS, *SOCKETS, "sonar-sonard.service", "sonar-check.timer"):
        running.wait(f"{unit} is down", partial(state_is, running, unit, "inactive"))
