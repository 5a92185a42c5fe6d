"""Several verbs about the same cluster and time read its samples once: for what is computed for many people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from sonar.names import ClusterName
from sonar.read.scan import Scan

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.read.scan import Partial
    from sonar.verbs.query import Query

__all__ = ["SharedScans"]


class SharedScans:
    """The scans that were read already, kept in memory while this is."""

    def __init__(self) -> None:
        self._scans: dict[tuple[object, ...], Scan] = {}

    def of(self, cluster: ClusterName, query: "Query") -> Scan:
        """Return the scan of a question: that of an earlier one about the same cluster, hosts and time."""
        if query.filter.hosts is not None or not query.scan.files:
            return query.scan
        return self._scans.setdefault((cluster, query.window), cast("Scan", _Remembered(query.scan)))


class _Remembered:
    """A scan that reads once: the samples of all hosts stay in memory."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._tables: list[tuple[str, pa.Table]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scan, name)

    def map(self, partial_of: "Partial[Any]", columns: Sequence[str] | None = None) -> list[tuple[str, Any]]:
        """Return what the function makes of each host's samples, as `Scan.map` does."""
        from sonar.analysis.samples import samples_of

        del columns  # all are there
        results = [(host, partial_of(host, [samples_of(table)])) for host, table in self._read()]
        return [(host, result) for host, result in results if result is not None]

    def by_host(self, columns: Sequence[str] | None = None) -> "list[tuple[str, pa.Table]]":
        """Return the samples of each host, as `Scan.by_host` does."""
        return [(host, table if columns is None else table.select(list(columns))) for host, table in self._read()]

    def _read(self) -> "list[tuple[str, pa.Table]]":
        if self._tables is None:
            self._tables = list(self._scan.by_host())
        return self._tables
