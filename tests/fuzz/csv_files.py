"""Files of samples in CSV: the fast parser gives the rows of the plain one, and no reader fails."""

from collections import Counter

from tests.read.test_tokens import KEPT, both
from tests.read.test_topics import TOPICS

__all__ = ["check"]


def check(data: bytes) -> None:
    """Read a file in all ways."""
    plain, fast = both(data, KEPT)
    assert fast == plain
    for topic in TOPICS:
        rows = list(topic.read(data, Counter()))
        assert topic.table(rows).num_rows == len(rows)
