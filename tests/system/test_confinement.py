"""The shipped units as systemd reads them: nothing unknown, confined as promised, failures told."""

import configparser
import re
import subprocess
from pathlib import Path

import pytest

from tests.system.conftest import MACHINE, Machine

pytestmark = pytest.mark.system

SAMPLER = "sonar-sonard.service"
DAEMONS = {"sonar-infiltrate.service", "sonar-sonalyzed.service"}
# They dial out, or run a mail program: what that costs is written in their drop-ins.
DIALS_OUT = {"sonar-exfiltrate.service": 1.5, "sonar-deliver.service": 3.0}


def units_of(machine: Machine) -> list[Path]:
    return sorted(path for path in (machine.root / "lib/systemd/system").glob("sonar*") if path.is_file())


def instance(name: str) -> str:
    return name.replace("@.", "@fox.example.org.")


def test_systemd_has_no_word_to_say_about_the_units(machine: Machine) -> None:
    names = [instance(path.name) for path in units_of(machine)]

    verdict = subprocess.run(
        [MACHINE, "exec", machine.name, "systemd-analyze", "verify", *names],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "sonar-infiltrate.service" in names
    assert (verdict.stdout, verdict.stderr, verdict.returncode) == ("", "", 0)


def test_confinement_is_as_tight_as_promised(machine: Machine) -> None:
    scores = {}
    for path in units_of(machine):
        if path.suffix == ".service":
            said = machine("systemd-analyze", "security", "--no-pager", instance(path.name))
            scores[path.name] = float(re.findall(r"exposure level for \S+: ([\d.]+)", said)[0])

    for name, score in scores.items():
        limit = {SAMPLER: 1.5, **DIALS_OUT}.get(name, 0.6 if name in DAEMONS else 0.2)
        assert score <= limit, name
    assert {SAMPLER, *DAEMONS, *DIALS_OUT} < set(scores)


def read(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(path.read_text())
    return parser


def test_every_unit_has_its_manual_and_every_service_tells_of_its_failure(machine: Machine) -> None:
    for path in units_of(machine):
        unit = read(path)
        assert unit["Unit"]["Documentation"].startswith("man:"), path.name
        if path.suffix == ".service":
            assert re.search(r"SONAR_ROLE=\w+", unit["Service"]["LogExtraFields"]), path.name
            # An alert about an alert would never end; what cannot be delivered is told by the check.
            tells = unit["Unit"].get("OnFailure") == "sonar-alert@%n.service"
            assert tells is not path.name.startswith(("sonar-alert@", "sonar-deliver.")), path.name
        if path.suffix == ".timer":
            assert unit["Timer"]["OnCalendar"].endswith("UTC"), path.name
            job = read(path.with_suffix(".service"))["Service"]
            assert (job["Type"], job["Slice"]) == ("oneshot", "sonar-jobs.slice"), path.name
            assert "TimeoutStartSec" in job, path.name


def test_every_event_is_catalogued_once(machine: Machine) -> None:
    from sonar.log import Event

    catalogue = (machine.root / "usr/lib/systemd/catalog/sonar-server.catalog").read_text()
    ids = re.findall(r"^-- ([0-9a-f]{32})$", catalogue, re.MULTILINE)

    assert sorted(ids) == sorted(event.value for event in Event)
    machine("journalctl", "--update-catalog")
    listed = machine("journalctl", "--list-catalog", *ids)
    assert all(event.value in listed for event in Event)
