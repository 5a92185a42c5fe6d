"""Files of JSON messages: no reader fails, and a good message after whatever it may be is read."""

import json
from collections import Counter

from sonar.read.envelopes import read_envelopes
from sonar.read.rows import Rows

from tests.read.test_topics import TOPICS, good

__all__ = ["check"]

_KNOWN = [(topic, json.dumps(good(topic)).encode()) for topic in TOPICS]
_ROW_OF = {topic.name: next(iter(topic.read(known, Counter()))) for topic, known in _KNOWN}
_AFTER = b'\n{"data":{"attributes":{"time":"2024-03-01T10:00:00Z","node":"after"}}}\n'


def check(data: bytes) -> None:
    """Read a file in all ways."""
    rows = Rows()
    read_envelopes(data + _AFTER, rows, Counter())
    assert rows.table().column("host").to_pylist()[-1] == "after"
    for topic, known in _KNOWN:
        found = list(topic.read(data + b"\n" + known + b"\n", Counter()))
        if len(found) > 1:
            assert topic.table(found).num_rows == len(found)
        if data.lstrip().startswith(b"{"):  # else it may be a file of CSV
            assert found[-1] == _ROW_OF[topic.name]
