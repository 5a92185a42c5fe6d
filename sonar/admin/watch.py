"""What check and alert do: look for trouble, tell of it once and once more when it is over."""

import json
import logging
import os
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from sonar.admin import units
from sonar.admin.alerts import alerts_of, host_name
from sonar.admin.check import KINDS, cluster_of, find
from sonar.admin.troubles import Trouble, compare, locked_memory
from sonar.config.settings import load_settings
from sonar.errors import SonarError
from sonar.log import Event, about
from sonar.outbox import put_alert
from sonar.times import present

__all__ = ["notify_of_troubles", "notify_of_unit", "print_troubles"]

_log = logging.getLogger(__name__)

_MEMORY = "troubles.json"
_LINES = 10
_LOUDNESS = {Event.TROUBLE: logging.WARNING, Event.TROUBLE_OVER: logging.INFO, Event.UNIT_FAILED: logging.ERROR}


def print_troubles(kinds: Collection[str], certificates: Sequence[Path], *, as_json: bool) -> int:
    """Print what is wrong and return the exit status: 1 if anything is."""
    found = find(load_settings(), present(), kinds=kinds or KINDS, certificates=certificates).troubles
    if as_json:
        print(json.dumps([asdict(trouble) for trouble in found], ensure_ascii=False, indent=1))
    for trouble in () if as_json else found:
        print(trouble.text)
    return 1 if found else 0


def notify_of_troubles(kinds: Collection[str], certificates: Sequence[Path]) -> int:
    """Leave an alert for each trouble that is new and each that is over; return the exit status, 0."""
    settings, now = load_settings(), present()
    with locked_memory(settings.paths.state / _MEMORY) as memory:
        found = find(
            settings, now, kinds=kinds or KINDS, restarts_before=memory.restarts, certificates=certificates
        )  # fmt: skip
        if "units" in found.kinds:
            memory.restarts = found.restarts
        new, over = compare(memory, found.troubles, found.kinds, now, settings.alert.repeat_after)
        for trouble in new:
            _record(Event.TROUBLE, trouble, trouble.text)
        for trouble in over:
            _record(Event.TROUBLE_OVER, trouble, f"over: {trouble.text}")
        # Before the memory is written: an alert that is left twice does less harm than one that is not left.
        for alert in alerts_of(new, over, now, host_name()):
            put_alert(settings.paths.outbox, alert)
    _log.info("troubles: %d, of them new: %d; over: %d", len(found.troubles), len(new), len(over))
    return 0


def notify_of_unit(name: str) -> int:
    """Leave an alert for a unit that has failed, unless its failure was told already; return the exit status, 0.

    systemd passes on why it failed in $MONITOR_SERVICE_RESULT (systemd.exec(5)).
    """
    settings, now = load_settings(), present()
    unit = units.Unit(name=units.check_name(name), description="not loaded", result="unknown")
    try:
        unit = {one.name: one for one in units.show([name])}.get(name, unit)
    except SonarError as error:
        _log.warning("%s, going on without its details", error)
    result = os.environ.get("MONITOR_SERVICE_RESULT") or unit.result
    text = f"{name} ({unit.description}) has failed: {result}"
    trouble = Trouble(kind="units", what=name, text=text, unit=name, cluster=cluster_of(name))
    with locked_memory(settings.paths.state / _MEMORY) as memory:
        lasting = [one for one, _ in memory.told.values() if one.key != trouble.key]
        new, _ = compare(memory, [*lasting, trouble], (), now, settings.alert.repeat_after)
        _record(Event.UNIT_FAILED, trouble, text)
        for alert in alerts_of([one for one in new if one.key == trouble.key], (), now, host_name()):
            put_alert(settings.paths.outbox, replace(alert, text=f"{text}\n\n{_last_words(name)}"))
    return 0


def _record(event: Event, trouble: Trouble, text: str) -> None:
    fields = {"SONAR_CLUSTER": trouble.cluster, "SONAR_HOST": trouble.node, "SONAR_UNIT": trouble.unit}
    given = {key: value for key, value in fields.items() if value}
    _log.log(_LOUDNESS[event], "%s", text, extra=about(event, **given))


def _last_words(unit: str) -> str:
    """Return the last lines that the journal has of a unit, for those who read the alert away from the machine."""
    argv = ["journalctl", "--no-pager", "--quiet", "--output=short-iso", f"--lines={_LINES}", f"--unit={unit}"]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
