"""Events of the journal's catalog: each has an id of its own, and is logged in one place."""

import re
from pathlib import Path

from sonar.log import Event

TOP = Path(__file__).resolve().parents[1]


def test_each_event_is_logged_in_one_place_and_has_one_entry() -> None:
    sources = {path: path.read_text() for path in (TOP / "sonar").rglob("*.py")}
    catalogue = (TOP / "units/sonar-server.catalog").read_text()

    assert len({event.value for event in Event}) == len(Event)
    for event in Event:
        used = [path for path, text in sources.items() if re.search(rf"\bEvent\.{event.name}\b", text)]
        assert len(used) == 1, f"{event.name}: {used}"
        assert catalogue.count(f"-- {event.value}\n") == 1, event.name
