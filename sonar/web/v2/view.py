"""A request of `/api/v2`: its cluster, its nodes, its window, and the rows that it is answered from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sonar.errors import SonarError, UsageError
from sonar.hosts import HostPatterns
from sonar.times import DAY, HOUR, day_of, iso_text

if TYPE_CHECKING:
    from sonar.names import ClusterName
    from sonar.web.questions import Asker

__all__ = ["MOMENT", "RESOLUTION_S", "WINDOW", "Series", "V2Path", "View", "by_host", "iso_times"]

RESOLUTION_S = 300
WINDOW = ("start_time_in_s", "time_in_s", "end_time_in_s", "resolution_in_s", "nodename")
MOMENT = ("time_in_s", "nodename")

_LONGEST_S = 14 * DAY
_LATEST = 2**40
_MOST_SLOTS = 1_000_000

Series = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class V2Path:
    """One path below `/api/v2`: what it takes beside the cluster, what it answers, and how that is found."""

    path: str
    parameters: tuple[str, ...]
    summary: str
    find: "Callable[[View], Any]"


class View:
    """A request: its cluster, nodes and window, and the rows that it is answered from."""

    def __init__(self, asker: "Asker", cluster: "ClusterName | None", given: Mapping[str, str]) -> None:
        """Raise UsageError if a parameter is not what it should be, also where nothing needs it."""
        self.asker = asker
        self._cluster = cluster
        self._given = given
        for name in given.keys() - {"nodename"}:
            self.number(name, 0, least=int(name == "resolution_in_s"))
        try:
            HostPatterns.parse(self.hosts)
        except SonarError as error:
            raise UsageError(f"Bad parameter nodename: {error}") from None

    def within(self, start: int, end: int) -> "View":
        """Return the view of another window."""
        window = {"start_time_in_s": str(start), "end_time_in_s": str(end)}
        return View(self.asker, self._cluster, {**self._given, **window})

    @property
    def cluster(self) -> "ClusterName":
        """The cluster of a path that names one."""
        assert self._cluster is not None
        return self._cluster

    @cached_property
    def hosts(self) -> list[str]:
        """Patterns of the nodes that are asked about; none of them: all."""
        from sonar.web.pages.jobs import split_names

        return split_names(self._given.get("nodename", ""))

    @cached_property
    def resolution(self) -> int:
        """Seconds of a slot."""
        return self.number("resolution_in_s", RESOLUTION_S, least=1)

    def number(self, name: str, default: int, *, least: int = 0) -> int:
        """Return the seconds of a parameter. Raise UsageError if it is no number of them."""
        text = self._given.get(name, "")
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 16 and least <= int(text) < _LATEST):
            raise UsageError(f"Bad parameter {name}: {text[:40]!r} is not a number of seconds")
        return int(text)

    @cached_property
    def window(self) -> tuple[int, int]:
        """The first and last instant asked for. Raise UsageError if they are the wrong way round."""
        start = self.number("start_time_in_s", -1)
        start = self.number("time_in_s", start)
        end = self.number("end_time_in_s", -1)
        if start < 0 and end < 0:
            newest = max(self.seen.values(), default=self.asker.now)
            return newest - HOUR, newest
        start, end = (end - HOUR if start < 0 else start), (start + HOUR if end < 0 else end)
        if start > end:
            raise UsageError("the window's start is after its end")
        return max(start, end - _LONGEST_S), end

    @cached_property
    def seen(self) -> dict[str, int]:
        """The last sample of each node of the last days."""
        for since in ("2d", "14d"):
            if rows := self.ask("metadata", {"from": [since]}):
                return {row["host"]: row["latest"] for row in rows}
        return {}

    def ask(self, verb: str, given: Mapping[str, Sequence[str]]) -> Series:
        """Return the rows of a verb about the nodes."""
        question = {**given, **({"host": self.hosts} if self.hosts else {})}
        return self.asker.ask(verb, self.cluster, question).rows

    def rows(self, verb: str, given: Mapping[str, Sequence[str]] | None = None, *, before: int = 0) -> Series:
        """Return the rows of the window, and of so many seconds before it, in order of time."""
        start, end = self.window
        days = {"from": [str(day_of(max(start - before, 0)))], "to": [str(day_of(min(end, self.asker.now)))]}
        if start - before > self.asker.now:
            return []
        rows = [row for row in self.ask(verb, {**days, **(given or {})}) if start - before <= row["time"] <= end]
        return sorted(rows, key=lambda row: int(row["time"]))

    def newest(self, verb: str) -> Series:
        """Return what nodes told last in the day before the window's end."""
        return self.rows(verb, before=DAY)

    @cached_property
    def cards(self) -> dict[tuple[str, int], dict[str, Any]]:
        """What nodes told last of each GPU, by node and number."""
        return {(row["host"], int(row["index"])): row for row in self.newest("card")}

    def bucketed(self, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, whole: bool = False) -> Series:
        """Return the mean of each column in each slot; times as instants."""
        if not rows:
            return []
        first = int(rows[0]["time"])
        slots: dict[int, list[Mapping[str, Any]]] = {}
        for row in rows:
            slots.setdefault((int(row["time"]) - first) // self.resolution, []).append(row)
        last = max(slots)
        if last > _MOST_SLOTS:
            raise UsageError("resolution_in_s: too many slots in this window")
        series = []
        for slot in range(last + 1):
            point: dict[str, Any] = {"time": first + slot * self.resolution}
            for name, column in columns.items():
                values = [row[column] for row in slots.get(slot, ()) if row[column] is not None]
                mean = sum(values) / len(values) if values else None
                point[name] = mean if mean is None else round(mean) if whole else round(mean, 1)
            series.append(point)
        return series


def by_host(rows: Series) -> dict[str, Series]:
    """Return the rows of each node, in order of their names."""
    found: dict[str, Series] = {}
    for row in rows:
        found.setdefault(row["host"], []).append(row)
    return dict(sorted(found.items()))


def iso_times(series: Series) -> Series:
    """Return a series with its times as texts."""
    return [{**point, "time": iso_text(point["time"])} for point in series]
