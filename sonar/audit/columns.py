"""Whether the columns of a day hold what they say: rows can be read, and those of a file of the log are its records.

Columns that the log has outrun, or whose files have been rewritten, are none of that: readers know it, and
sonarctl-columnize(8) makes them anew.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sonar.read.files import COLUMNS_NAME

__all__ = ["column_problems"]


def column_problems(directory: Path) -> Iterator[tuple[Path, str]]:
    """Yield what is wrong with the columns in a directory of the log, if there are any."""
    path = directory / COLUMNS_NAME
    if not path.exists():
        return
    import numpy as np

    from sonar.read.columns import ColumnsFile, covered
    from sonar.read.files import SampleReader
    from sonar.read.schema import COLUMNS

    try:
        columns = ColumnsFile(path)
        rows: Counter[int] = Counter()
        for host in columns.facts.hosts:
            table = columns.read(host, COLUMNS, with_source=True)
            rows.update(Counter(np.asarray(table.column("source")).tolist()))
    except (OSError, ValueError, KeyError, TypeError) as error:  # of which pyarrow's are some
        yield path, f"cannot be read: {str(error).partition(chr(10))[0][:200]}"
        return
    reader = SampleReader()
    for number, source in enumerate(columns.facts.sources):
        file = directory / source.name
        if source.removed:
            continue
        if not file.exists():
            yield path, f"covers '{source.name}', which is not in the log, and was not removed by columnize"
            continue
        offset = covered(source, file)
        if offset is None:
            continue
        with file.open("rb") as opened:
            content = opened.read(offset)
        dropped: Counter[str] = Counter()
        found = len(reader.table(content, is_json=source.is_json, dropped=dropped))
        if found != rows[number] or dropped != source.dropped:
            yield path, f"has {rows[number]} records of '{source.name}', whose first {offset} bytes have {found}"
