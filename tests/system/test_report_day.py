"""A day of a cluster's reports under their timers, shortened: whole files, valid ones, and each notice once.

The day is a planted one, and passes quickly: units take the time from a file that the test sets forward. Meanwhile
somebody reads all files all the time, and somebody else kills jobs at random. With SONAR_TEST_DAY=whole the clock waits
for the reports of each five minutes, so that each timer fires as often as on a real day: twenty minutes.
"""

import json
import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes, policy
from functools import partial
from pathlib import Path

import jsonschema
import pytest

from sonar.report.schema import DIRECTORY, schema_name
from sonar.times import DAY, MINUTE, iso_text

from tests.report import month as planted
from tests.system.conftest import Machine

pytestmark = pytest.mark.system

WHOLE = os.environ.get("SONAR_TEST_DAY") == "whole"
STEP_S = 1.0 if WHOLE else 0.1  # for five minutes of the day
STEPS = DAY // (5 * MINUTE)
CLUSTER = planted.CLUSTER
FIRST = 14  # the day of the month on which most happens
# Steps of five minutes between two runs.
TIMERS = {"live": 1, "hourly": 12, "scan": 24, "notices": 144, "daily": 288, "weekly": 288, "monthly": 288}
PLACES = {name: f"var/lib/sonar-server/{name}" for name in ("data", "reports", "state", "outbox")}
SINK = "var/lib/sonar-sink"
TAKER = f"""#!/bin/sh
# Takes a mail as a mail program does: wholly, or not at all.
new=$(mktemp /{SINK}/.XXXXXX) && cat >"$new" && mv "$new" "/{SINK}/${{new##*/.}}"
"""


class Reader(threading.Thread):
    """Reads all published files over and over, and keeps what was not whole."""

    def __init__(self, directory: Path) -> None:
        super().__init__(daemon=True)
        self.directory = directory
        self.stop = threading.Event()
        self.broken: list[str] = []
        self.read = 0

    def run(self) -> None:
        while not self.stop.is_set():
            for path in self.directory.rglob("[!.]*.*"):
                try:
                    text = path.read_text()
                except (FileNotFoundError, IsADirectoryError):
                    continue
                self.read += 1
                if not is_whole(path, text):
                    self.broken.append(f"{path.name}: {text[-80:]!r}")
            self.stop.wait(0.05)


def is_whole(path: Path, text: str) -> bool:
    if path.suffix == ".json":
        try:
            json.loads(text)
        except ValueError:
            return False
    return text.endswith("</html>\n" if path.suffix == ".html" else "\n")


@pytest.fixture(scope="module")
def day(machine: Machine) -> Iterator[Machine]:
    """Give the machine a cluster with a history, its timers shortened, and somebody who takes mail."""
    prepare(machine)
    for name, steps in TIMERS.items():
        unit = f"/etc/systemd/system/sonar-{name}@"
        machine.write(
            f"{unit}.timer.d/day.conf",
            "[Timer]\nOnCalendar=\nPersistent=no\nRandomizedDelaySec=0\nAccuracySec=10ms\n"
            f"OnActiveSec=1s\nOnUnitInactiveSec={steps * STEP_S:.1f}s\n",
        )
        machine.write(
            f"{unit}.service.d/day.conf",
            # Many runs within seconds are what is wanted here.
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nEnvironmentFile=/run/day/now\n",
        )
    machine.write("/etc/systemd/system/sonar-deliver.service.d/day.conf", "[Service]\nRestartSec=1s\n")
    set_time(machine, planted.at(FIRST))
    machine("systemctl", "daemon-reload")
    try:
        yield machine
    finally:
        machine("systemctl", "stop", *timers(), "sonar-deliver.path")
        machine("sh", "-c", "rm -r /etc/systemd/system/sonar-*.d/day.conf /etc/sonar/sonar.conf.d/day.conf")
        machine("sh", "-c", f"rm -r /etc/sonar/clusters/{CLUSTER}.conf /var/lib/sonar-server/*/{CLUSTER}")
        machine("systemctl", "daemon-reload")


def prepare(machine: Machine) -> None:
    whole = planted.month()
    whole.jobs = [job for job in whole.jobs if job.start < planted.at(FIRST + 1)]
    data = machine.root / PLACES["data"] / CLUSTER
    planted.write_month(data, whole)
    planted.write_description(machine.root / "etc/sonar/clusters")
    machine.write("/usr/local/bin/take-mail", TAKER, 0o755)
    machine.write("/etc/sonar/sonar.conf.d/day.conf", "[Alert]\nSendmail=/usr/local/bin/take-mail\n")
    machine("mkdir", "-p", f"/{SINK}", "/run/day")
    machine("chown", "-R", "sonar-server:sonar-server", f"/{SINK}", f"/{PLACES['data']}/{CLUSTER}")


def timers() -> list[str]:
    return [f"sonar-{name}@{CLUSTER}.timer" for name in TIMERS]


def set_time(machine: Machine, now: int) -> None:
    path = machine.root / "run/day"
    (path / "next").write_text(f"SONAR_NOW={iso_text(now)}\n")
    (path / "next").replace(path / "now")


def kill_somebody(machine: Machine) -> bool:
    """Kill one of the jobs that run; return whether one ran."""
    shown = machine("systemctl", "list-units", "--plain", "--no-legend", "--state=activating", "sonar-*.service")
    running = [line.split()[0] for line in shown.splitlines() if f"@{CLUSTER}" in line or "deliver" in line]
    if running:
        machine("systemctl", "kill", "--kill-whom=main", "-s", "KILL", random.choice(running), check=False)
    return bool(running)


def mails(machine: Machine) -> "list[tuple[str, str, str]]":
    """Return identity, kind and text of all mail that was taken."""
    found = []
    for path in (machine.root / SINK).glob("[!.]*"):
        mail = message_from_bytes(path.read_bytes(), policy=policy.default)
        body = mail.get_body(("plain",))
        found.append((mail["Message-ID"], mail["X-Sonar-Report"], body.get_content() if body else ""))
    return found


def runs(machine: Machine, name: str, since: str) -> int:
    """Return how often a job came to its end."""
    matches = (f"SONAR_REPORT={name}", f"SONAR_CLUSTER={CLUSTER}")
    text = machine("journalctl", "--output=json", "--no-pager", f"--since={since}", *matches, check=False)
    return sum("SONAR_ROWS" in json.loads(line) for line in text.splitlines())


def live_as_of(reports: Path, now: int) -> bool:
    """Return whether the last file of the live reports is of this time or a later one."""
    try:
        made = json.loads((reports / "provenance/public/hostnames.json.json").read_text())["made"]
    except FileNotFoundError:
        return False
    return bool(made >= iso_text(now))


def is_through(machine: Machine, unit: str) -> bool:
    return machine.property(unit, "ActiveState") in {"inactive", "failed"}


def test_a_day_of_reports(day: Machine) -> None:
    reports = day.root / PLACES["reports"] / CLUSTER
    reader = Reader(reports)
    since = day("date", "+%F %T")
    day("systemctl", "start", "sonar-deliver.path", *timers())
    reader.start()
    begun, kills = time.monotonic(), 0
    step = 0
    while step < STEPS:
        now = planted.at(FIRST) + step * 5 * MINUTE
        set_time(day, now)
        if random.random() < 0.05:
            kills += kill_somebody(day)
        time.sleep(STEP_S)
        if WHOLE:
            day.wait(f"live reports of {iso_text(now)}", partial(live_as_of, reports, now))
        step = step + 1 if WHOLE else int((time.monotonic() - begun) / STEP_S)
    # The day is over: every job once more, undisturbed.
    set_time(day, planted.at(FIRST + 1))
    day("systemctl", "stop", *timers())
    for name in TIMERS:
        unit = f"sonar-{name}@{CLUSTER}.service"
        day.wait(f"{unit} is through", partial(is_through, day, unit))
        day("systemctl", "start", unit, timeout=120)
    day.wait("all mail is away", lambda: day("/usr/libexec/sonar/deliver", "--list") == "")
    reader.stop.set()
    reader.join()

    finished = {name: runs(day, name, since) for name in TIMERS}
    print(f"{finished}, {kills} kills, {reader.read} files read")
    assert all(finished.values()), finished
    assert not WHOLE or all(finished[name] * steps >= STEPS for name, steps in TIMERS.items()), finished
    assert kills
    assert reader.read > 1000
    assert reader.broken == []
    check_schemas(reports)
    check_mails(day)


def check_schemas(reports: Path) -> None:
    seen = set()
    for path in reports.rglob("[!.]*.json"):
        audience = "provenance" if "provenance" in path.parts else path.parent.name
        kind = schema_name(audience, path.name)
        assert kind, path.name
        jsonschema.validate(json.loads(path.read_text()), json.loads((DIRECTORY / f"{kind}.json").read_text()))
        seen.add(kind)
    assert seen == {path.stem for path in DIRECTORY.glob("*.json")}


def check_mails(machine: Machine) -> None:
    taken = mails(machine)
    assert Counter(identity for identity, _, _ in taken).most_common(1)[0][1] == 1
    told = Counter(
        found
        for _, kind, text in taken
        if kind == "notice"
        for found in re.findall(r'on host "(\S+)":\n  Job#: (\d+)\n  User: (\S+)\n', text)
    )
    expected = Counter(
        (job.host, str(job.id), job.user)
        for job in planted.month().jobs
        if planted.at(FIRST) <= job.start < planted.at(FIRST + 1)
        for _ in job.breaks
    )
    assert told == expected
    kinds = Counter(kind for _, kind, _ in taken)
    assert kinds["weekly"] == kinds["monthly"] == 1
