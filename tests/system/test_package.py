"""The Debian package in a machine of its own: from nothing to reports, through an upgrade under load, to the purge.

The tests build on each other, as an administrator's weeks do.
"""

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.system.conftest import LIBRARY, MACHINE, TOP, Machine
from tests.system.load import post_numbered

pytestmark = pytest.mark.system

CLUSTER = "node.example.org"
REPORTS = f"var/lib/sonar-server/reports/{CLUSTER}"
MODULE = "sonar.gpusets"
# Something that runs through an upgrade, and imports a module when it is over.
BYSTANDER = (
    f"import sonar, sys; print('ready', flush=True); sys.stdin.readline(); import {MODULE} as m; print(m.RELEASE)"
)
# The lines of the original's crontabs, and the timer that does the work of each; @reboot lines are services.
OLD_CRONTAB = {
    "2,7,12,17,22,27,32,37,42,47,52,57 * * * *": "sonar-live@",
    "3 0-23 * * *": "sonar-hourly@",
    "3 0 1-31 * *": "sonar-daily@",
    "2 0-23/2 * * *": "sonar-scan@",
    "3 0-23/12 * * *": "sonar-notices@",
}


@pytest.fixture(scope="module")
def packages(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with two versions of the package."""
    made = tmp_path_factory.mktemp("packages")
    for version in ("0.1.0", "0.1.1"):
        tree = made / "tree"
        # Hard links: the tree of the other tests stays as it is.
        subprocess.run(["cp", "-al", installed, tree], check=True)
        make_version(tree / LIBRARY, version)
        subprocess.run(
            ["make", "-s", "deb-only", f"DEB_TREE={tree}", f"VERSION={version}", "DEB_COMPRESSION=-Znone", "NO_DEPS=1",
             f"DEB_FILE={made}/sonar-server_{version}.deb"],
            cwd=TOP, check=True, timeout=120, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        shutil.rmtree(tree)
    return made


def make_version(library: Path, version: str) -> None:
    """Make another version of an installation, as `make install` would from other sources: MODULE knows which it is."""
    old = (library / "venv").resolve()
    new = old.rename(library / f"venv-{version}-{'0' * 12}")
    (library / "venv").unlink()
    (library / "venv").symlink_to(new.name)
    for path in (new / "libexec").iterdir():
        replace(path, path.read_text().replace(old.name, new.name), 0o755)
    (module,) = new.glob(f"lib/python3*/site-packages/{MODULE.replace('.', '/')}.py")
    replace(module, f"{module.read_text()}\nRELEASE = {version!r}\n", 0o644)
    for compiled in (module.parent / "__pycache__").glob(f"{module.stem}.*"):
        compiled.unlink()


def replace(path: Path, text: str, mode: int) -> None:
    path.unlink()
    path.write_text(text)
    path.chmod(mode)


@pytest.fixture(scope="module")
def server(packages: Path) -> Iterator[Machine]:
    machine = Machine("p" + packages.name[-6:], f"--bind={packages}:/srv")
    try:
        machine("dpkg", "--force-not-root", "--install", "/srv/sonar-server_0.1.0.deb", timeout=120)
        yield machine
    finally:
        machine.close()


def active(machine: Machine, unit: str) -> bool:
    return machine.property(unit, "ActiveState") == "active"


def ctl(machine: Machine, *argv: str, check: bool = True) -> str:
    return machine("/usr/bin/sonarctl", *argv, check=check)


def post(machine: Machine, host: str, *, password: str = "up-secret", cluster: str = CLUSTER) -> str:
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    line = (
        f"v=0.12.1,time={now},host={host},cores=8,user=u,cmd=c,job=7,pid=7,cputime_sec=5,cpu%=100,memtotalkib=9000000\n"
    )
    return machine(
        "curl", "--silent", "--cacert", "/etc/sonar/tls/ca.crt", "--user", f"{cluster}:{password}",
        "--header", "Content-Type: text/csv", "--data-binary", line, "--output", "/dev/null", "--max-time", "20",
        "--write-out", "%{http_code}", f"https://localhost:8086/sonar-freecsv?cluster={cluster}", check=False,
    )  # fmt: skip


def told(machine: Machine) -> list[str]:
    path = machine.root / "var/lib/sonar-server/told"
    return path.read_text().splitlines() if path.exists() else []


def check(machine: Machine) -> None:
    """Let the check run as its timer does, and wait until what it tells has gone out."""
    machine("systemctl", "reset-failed", "sonar-check.service")  # it may start more often here
    machine("systemctl", "start", "sonar-check.service")
    machine.wait("all is delivered", lambda: ctl(machine, "deliver", "--list") == "")


def told_of_nodes(machine: Machine) -> list[str]:
    """Return what has been told of nodes; the machine's clock, say, may have been a trouble before."""
    return [line for line in told(machine) if line.startswith("Nodes of ")]


def tells_more(machine: Machine, lines: int) -> bool:
    """Let the check run; return whether more has been told of nodes than so many lines."""
    check(machine)
    return len(told_of_nodes(machine)) > lines


@contextmanager
def sending(machine: Machine, host: str) -> Iterator[None]:
    """Have a node send all the time."""
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.3):
            post(machine, host)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_after_the_installation_all_waits_for_the_first_cluster(server: Machine) -> None:
    assert active(server, "sonar.target")
    assert active(server, "sonar-check.timer")
    assert active(server, "sonar-deliver.path")
    assert not active(server, "sonar-infiltrate.socket")
    assert server.property("sonar-infiltrate.socket", "ConditionResult") == "no"
    assert (
        server("systemctl", "is-enabled", "sonar.target", "sonar-infiltrate.socket", "sonar-check.timer").split()
        == ["enabled"] * 3
    )
    assert server("stat", "-c", "%U %a", "/var/lib/sonar-server/data", "/etc/sonar/tls/server.key").splitlines() == [
        "sonar-server 750",
        "root 600",
    ]
    said = ctl(server, "doctor", check=False)
    assert "there is no '/etc/sonar/ingest-passwords'" in said
    assert "mend: sonarctl cluster add NAME" in said


def test_one_command_adds_a_cluster_and_its_nodes_can_post(server: Machine) -> None:
    added = server(
        "sh", "-c", f"echo up-secret | sonarctl cluster add {CLUSTER} --title Node --interval 2s --stdin "
        "--nodes n[1-2] --cores 8 --memory 64G",
    )  # fmt: skip
    server.write("/run/sonar-ca.crt", (server.root / "etc/sonar/tls/ca.crt").read_text())
    server.wait("the port is open", partial(active, server, "sonar-infiltrate.socket"))

    assert f"Added {CLUSTER}" in added
    assert active(server, f"sonar-cluster@{CLUSTER}.target")
    timers = [
        line.split()[0]
        for line in server("systemctl", "list-units", "--plain", "--no-legend", "sonar-*@*.timer").splitlines()
    ]
    assert len(timers) == 7
    assert post(server, "n1") == "200"
    assert post(server, "n1", password="wrong") == "401"
    assert "SONAR_EVENT=cluster-added" in server(
        "journalctl", "-o", "export", f"SONAR_CLUSTER={CLUSTER}", "SONAR_EVENT=cluster-added"
    )


def test_people_can_ask_after_one_command_more(server: Machine) -> None:
    server("sh", "-c", "echo ask-secret | sonarctl passwd add ada --query --role admin --stdin")
    server("systemctl", "start", "sonar.target")
    server.wait("the port is open", partial(active, server, "sonar-sonalyzed.socket"))

    def rows() -> list[dict[str, str]]:
        text = server(
            "curl", "--silent", "--show-error", "--cacert", "/etc/sonar/tls/ca.crt", "--user", "ada:ask-secret",
            f"https://localhost:8087/parse?cluster={CLUSTER}&fmt=json,host,user", check=False,
        )  # fmt: skip
        return json.loads(text) if text.startswith("[") else []

    server.wait("the sample can be asked for", lambda: bool(rows()))
    assert rows()[0]["host"] == "n1"


def test_a_report_is_made_by_its_timer(server: Machine) -> None:
    server.write(
        f"/run/systemd/system/sonar-live@{CLUSTER}.timer.d/soon.conf",
        "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/2\nRandomizedDelaySec=0\nAccuracySec=100ms\n",
    )
    server("systemctl", "daemon-reload")
    server("systemctl", "restart", f"sonar-live@{CLUSTER}.timer")
    server.wait("a report is there", lambda: any((server.root / REPORTS).rglob("*minutely*.json")))
    server("rm", "-r", f"/run/systemd/system/sonar-live@{CLUSTER}.timer.d")
    server("systemctl", "daemon-reload")
    server("systemctl", "restart", f"sonar-live@{CLUSTER}.timer")

    assert server("journalctl", "-o", "cat", f"SONAR_CLUSTER={CLUSTER}", "SONAR_REPORT=live", "SONAR_ROLE=report")
    for rhythm in ("hourly", "daily", "notices", "weekly", "monthly"):
        server("systemctl", "start", f"sonar-{rhythm}@{CLUSTER}.service", timeout=120)
        assert server.property(f"sonar-{rhythm}@{CLUSTER}.service", "Result") == "success", rhythm
    assert server.property(f"sonar-scan@{CLUSTER}.service", "ExecMainStartTimestamp"), "notices begin with a scan"


def test_columns_are_made_and_the_log_is_verified_under_the_confinement(server: Machine) -> None:
    for job in ("columnize", "verify"):
        server("systemctl", "start", f"sonar-{job}.service", timeout=120)
        assert server.property(f"sonar-{job}.service", "Result") == "success", job

    assert any((server.root / f"var/lib/sonar-server/data/{CLUSTER}").rglob("0+columns.parquet"))


def test_a_silent_node_is_told_once_and_once_more_when_it_is_back(server: Machine) -> None:
    server.write(
        "/etc/sonar/sonar.conf.d/site.conf",
        "[Alert]\nCommand=/usr/bin/tee -a /var/lib/sonar-server/told\n[Check]\nRequireClockSync=no\nFreeSpace=0\n",
    )
    assert {post(server, "n1"), post(server, "n2")} == {"200"}
    with sending(server, "n2"):
        check(server)
        before = len(told_of_nodes(server))
        server.wait("somebody is told of a silent node", lambda: tells_more(server, before))
        check(server)
        silent = told_of_nodes(server)[before:]
        with sending(server, "n1"):
            server.wait("somebody is told that it is back", lambda: tells_more(server, before + len(silent)))
            check(server)
            back = told_of_nodes(server)[before + len(silent) :]

    assert silent == [f"Nodes of {CLUSTER} that are silent: n1"]
    assert back == [f"Nodes of {CLUSTER} that are sending again: n1"]


def test_a_failed_job_is_told_with_the_last_words_of_the_journal(server: Machine) -> None:
    unit = f"sonar-daily@{CLUSTER}.service"
    before = len(told(server))
    server.write(
        f"/run/systemd/system/{unit}.d/fail.conf",
        "[Service]\nExecStart=\nExecStart=/bin/sh -c 'echo last words; exit 3'\n",
    )
    server("systemctl", "daemon-reload")
    server("systemctl", "start", unit, check=False)
    server.wait("it is told", lambda: len(told(server)) > before)
    server("systemctl", "start", unit, check=False)
    server.wait("all is delivered", lambda: ctl(server, "deliver", "--list") == "")
    check(server)
    text = "\n".join(told(server)[before:])
    server("rm", "-r", f"/run/systemd/system/{unit}.d")
    server("systemctl", "daemon-reload")
    server("systemctl", "start", unit)
    check(server)

    assert text.count("has failed: exit-code") == 1
    assert "last words" in text
    assert any(line.startswith(f"Over: {unit}") for line in told(server)[before:])
    explained = server("journalctl", "-x", "--no-pager", "SONAR_EVENT=unit-failed", f"SONAR_UNIT={unit}")
    assert f"systemctl start {unit}" in explained


def test_each_line_of_the_old_crontab_has_its_timer(server: Machine) -> None:
    for line, timer in OLD_CRONTAB.items():
        unit = (server.root / f"lib/systemd/system/{timer}.timer").read_text()
        calendar = re.findall(r"^OnCalendar=(.*)$", unit, re.MULTILINE)[0]
        said = server(
            "systemd-analyze", "calendar", "--iterations=300", "--base-time=2026-03-01 00:00:00 UTC", calendar
        )  # fmt: skip
        runs = len(re.findall(r"2026-03-01 \d\d:\d\d:\d\d", said.partition("Next elapse")[2]))
        minutes, hours, *_ = line.split()
        wanted = len(minutes.split(",")) * {"*": 24, "0-23": 24, "0": 1, "0-23/2": 12, "0-23/12": 2}[hours]
        # A run at midnight itself is that of the day before the base time's first full period.
        assert abs(runs - wanted) <= 1, (timer, runs, wanted)
        assert ("Persistent=yes" in unit) is (timer != "sonar-live@"), timer


def test_a_missed_run_is_made_up_for(server: Machine) -> None:
    timer, job = f"sonar-hourly@{CLUSTER}.timer", f"sonar-hourly@{CLUSTER}.service"
    server("systemctl", "stop", timer)
    before = server.property(job, "ExecMainStartTimestampMonotonic")
    server("touch", "--date=2 days ago", f"/var/lib/systemd/timers/stamp-{timer}")
    server.write(f"/run/systemd/system/{timer}.d/now.conf", "[Timer]\nRandomizedDelaySec=0\n")
    server("systemctl", "daemon-reload")

    server("systemctl", "start", timer)

    server.wait("it runs at once", lambda: server.property(job, "ExecMainStartTimestampMonotonic") != before)


def test_a_slow_run_is_not_joined_by_another(server: Machine) -> None:
    timer, job = f"sonar-scan@{CLUSTER}.timer", f"sonar-scan@{CLUSTER}.service"
    log = "/var/lib/sonar-server/state/runs"
    server.write(
        f"/run/systemd/system/{job}.d/slow.conf",
        f"[Service]\nExecStart=\nExecStart=/bin/sh -c 'echo begin >>{log}; sleep 1.5; echo end >>{log}'\n",
    )
    server.write(
        f"/run/systemd/system/{timer}.d/often.conf",
        "[Timer]\nOnCalendar=\nOnCalendar=*:*:*\nRandomizedDelaySec=0\nAccuracySec=10ms\n",
    )
    server("systemctl", "daemon-reload")
    server("systemctl", "restart", timer)
    path = server.root / log.lstrip("/")
    server.wait("it ran three times", lambda: path.exists() and path.read_text().count("end") >= 3)
    server("rm", "-r", f"/run/systemd/system/{job}.d", f"/run/systemd/system/{timer}.d")
    server("systemctl", "daemon-reload")
    server("systemctl", "restart", timer)

    lines = path.read_text().split()
    assert lines[:6] == ["begin", "end"] * 3


def test_three_restarts_and_an_upgrade_lose_nothing(server: Machine) -> None:
    restart = partial(server, "systemctl", "restart", "sonar-infiltrate.service")
    upgrade = partial(server, "dpkg", "--force-not-root", "--install", "/srv/sonar-server_0.1.1.deb", timeout=120)
    library = server.root / LIBRARY
    (old,) = library.glob("venv-*")
    python = (MACHINE, "exec", server.name, f"/{LIBRARY}/{old.name}/bin/python", "-I", "-c", BYSTANDER)
    bystander = subprocess.Popen(python, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert bystander.stdout is not None
    assert bystander.stdout.readline() == "ready\n"

    sent = post_numbered(server, clients=8, least=10_400, meanwhile=[restart, upgrade, restart, restart])

    assert server("dpkg-query", "-W", "-f=${Version}", "sonar-server") == "0.1.1"
    assert sent.answered == sent.posts >= 10_000
    server.wait("all are stored", lambda: len(sent.stored()) >= sent.posts)
    assert sent.stored() == set(range(sent.posts))
    assert active(server, f"sonar-cluster@{CLUSTER}.target")
    # What ran through all of it still has its own modules, though dpkg has removed those of the old package.
    assert bystander.communicate("go on\n", timeout=60)[0] == "0.1.0\n"
    assert old.is_dir()
    server(f"/{LIBRARY}/prune")
    assert [path.name for path in library.glob("venv-*")] == [f"venv-0.1.1-{'0' * 12}"]
    program = f"import {MODULE} as m; print(m.RELEASE)"
    assert server(f"/{LIBRARY}/venv/bin/python", "-I", "-c", program) == "0.1.1"


def test_status_shows_the_server_at_work(server: Machine) -> None:
    text = ctl(server, "status")
    state = json.loads(ctl(server, "status", "--json"))

    assert re.search(r"^sonar-infiltrate +active running", text, re.MULTILINE), text
    assert re.search(rf"^{CLUSTER} .* ago +\d+ ", text, re.MULTILINE), text
    assert re.search(rf"^reports of {CLUSTER} +\w\w\w 20.*success$", text, re.MULTILINE), text
    (cluster,) = state["clusters"]
    assert cluster["records_an_hour"] >= 10_400
    assert cluster["nodes"] >= 2


def test_clusters_come_and_go_without_a_restart_and_the_last_leaves_all_running(server: Machine) -> None:
    ingest, other = "sonar-infiltrate.service", "other.example.org"
    before = [server.property(ingest, name) for name in ("MainPID", "NRestarts")]
    server("sh", "-c", f"echo up-secret | sonarctl cluster add {other} --stdin")
    server.wait("its nodes can upload", lambda: post(server, "o1", cluster=other) == "200")
    ctl(server, "cluster", "remove", other)
    server.wait("and cannot any more", lambda: post(server, "o1", cluster=other) == "401")
    assert post(server, "n1") == "200"

    said = ctl(server, "cluster", "remove", CLUSTER)

    assert "infiltrate runs on, and refuses all uploads" in said
    server.wait("nobody is let in", lambda: post(server, "n1") == "401")
    assert "nobody is let in: the password file has no users" in server.property(ingest, "StatusText")
    assert [server.property(ingest, name) for name in ("MainPID", "NRestarts")] == before
    assert "'/etc/sonar/ingest-passwords' has no users: nobody is let in" in ctl(server, "doctor", check=False)
    server("systemctl", "restart", ingest)
    assert post(server, "n1") == "401"


def test_purge_leaves_the_data_only_and_says_so(server: Machine) -> None:
    log = server("sh", "-c", "dpkg --force-not-root --purge sonar-server 2>&1", timeout=120)

    assert "left in place: /var/lib/sonar-server" in log
    assert sorted(path.name for path in (server.root / "var/lib/sonar-server").iterdir()) == ["data", "reports", "told"]
    assert any((server.root / f"var/lib/sonar-server/data/{CLUSTER}").rglob("*.csv"))
    ours = ("-iname", "*sonar*", "-not", "-path", "/var/lib/sonar-server*", "-not", "-path", "/var/lib/dpkg/*")
    left = server("find", "/etc", "/usr", "/var", "-xdev", *ours)
    assert left == ""
    assert not (server.root / "run/sonar").exists()
    units = server("systemctl", "list-units", "--all", "--plain", "--no-legend", "sonar*")
    assert " running " not in units
    assert " active " not in units
