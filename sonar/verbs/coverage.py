"""The fields of `jobs` and `load` that tell how well a row is covered by samples."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from sonar.verbs.declare import Field, Kind

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.analysis.coverage import Coverage

__all__ = ["COVERAGE_FIELDS", "is_asked_for", "with_coverage"]

COVERAGE_FIELDS = (
    Field("seen", Kind.INT, "runs of the sampler on its hosts in that time, heartbeats too", "runs_seen"),
    Field("expected", Kind.INT, "runs that there should have been, by the stated or usual interval", "runs_expected"),
    Field("coverage", Kind.INT, "the share that was seen", "runs_coverage", unit="%"),
    Field("brief", Kind.BOOL, "fewer than 3 runs: too few to judge", "runs_brief"),
)


def is_asked_for(fields: Collection[str]) -> bool:
    """Return whether a question needs to know the coverage."""
    return any(field.name in fields for field in COVERAGE_FIELDS)


def with_coverage(rows: "pa.Table", coverage: "Coverage") -> "pa.Table":
    """Return rows with the columns of the fields."""
    import numpy as np
    import pyarrow as pa

    from sonar.analysis.coverage import FEWEST

    seen, expected = coverage
    percent = np.where(expected > 0, seen * 100 // np.maximum(expected, 1), 0)
    columns = (
        ("runs_seen", seen),
        ("runs_expected", expected),
        ("runs_coverage", percent),
        ("runs_brief", seen < FEWEST),
    )
    for name, values in columns:
        rows = rows.append_column(name, pa.array(values))
    return rows
