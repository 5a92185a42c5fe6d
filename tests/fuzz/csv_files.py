"""Files of samples in CSV: the fast parser gives the rows of the plain one, and no reader fails."""

from collections import Counter

from sonar.read.slurm import JOBS
from sonar.read.system import CPUS, GPUS

from tests.read.test_tokens import KEPT, both

__all__ = ["check"]


def check(data: bytes) -> None:
    """Read a file in all ways."""
    plain, fast = both(data, KEPT)
    assert fast == plain
    for topic in (JOBS, CPUS, GPUS):
        rows = list(topic.read(data, Counter()))
        assert not rows or topic.table(rows).num_rows == len(rows)
