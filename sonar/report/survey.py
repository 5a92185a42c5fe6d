"""A survey: one cluster's samples over a window, asked by the verbs in this process; what several reports need once.

Answers are the verbs' own tables, with values not yet rounded for print.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sonar.report.logfiles import hosts_in_log
from sonar.times import DAY, MINUTE, day_of

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.config.description import Cluster
    from sonar.config.nodes import NodeTable
    from sonar.verbs.declare import Result
    from sonar.verbs.query import Query

__all__ = ["EVERYONE", "Period", "Survey"]

_T = TypeVar("_T")

EVERYONE = {"user": ("-",)}


@dataclass(frozen=True, slots=True)
class Period:
    """A time in which a host, or its GPUs, were up or down; instants."""

    host: str
    device: str
    is_up: bool
    start: int
    end: int


@dataclass(slots=True)
class Survey:
    """The samples from `start` to `end` (instants, inclusive) of one cluster, as known at `now`."""

    data: Path | tuple[Path, ...]
    nodes: "NodeTable"
    start: int
    end: int
    now: int
    step_s: int = 5 * MINUTE  # between the samples of a node
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()  # names and host patterns
    described: "Cluster | None" = None
    wider: "Survey | None" = (
        None  # of a window that holds this one: what it knows of up and down need not be asked again
    )
    _answers: dict[Any, Any] = field(default_factory=dict)
    _known: set[str] | None = None

    def query(self, verb: str, options: Mapping[str, Sequence[str]], start: int | None = None) -> "Query":
        """Return the question to a verb about this window, or about its part from `start` on."""
        from sonar import verbs
        from sonar.verbs.parameters import query_of
        from sonar.verbs.query import Window

        first = self.start if start is None else start
        window = {"from": [day_of(first).isoformat()], "to": [day_of(self.end).isoformat()]}
        query, _fmt = query_of(
            verbs.verb(verb),
            {**window, **options},
            data=self.data,
            nodes=self.nodes or None,
            described=self.described,
            now=self.now,
        )
        return replace(query, window=Window(first, self.end))

    def ask(self, verb: str, options: Mapping[str, Sequence[str]], start: int | None = None) -> "Result":
        """Return a verb's answer; the same question is answered once."""
        from sonar import verbs

        key = (verb, start, tuple(sorted((name, tuple(values)) for name, values in options.items())))
        if key not in self._answers:
            self._answers[key] = verbs.verb(verb).answer(self.query(verb, options, start))
        answer: Result = self._answers[key]
        return answer

    def once(self, name: str, compute: Callable[[], _T]) -> _T:
        """Return what a function returns; of one name it is called once."""
        if name not in self._answers:
            self._answers[name] = compute()
        answer: _T = self._answers[name]
        return answer

    def jobs(self) -> "pa.Table":
        """Return everybody's jobs."""
        return self.ask("jobs", EVERYONE).rows

    def last_seen(self) -> dict[str, int]:
        """Return when each host in the window was heard of last, by name."""
        last: dict[str, int] = {}
        for period in self._all_periods():
            if period.is_up and period.device == "host":
                last[period.host] = max(period.end, last.get(period.host, 0))
        return last

    def was_known_before(self, host: str) -> bool:
        """Whether the log has samples of a host from up to 90 days before the window."""
        if not isinstance(self.data, Path):
            return False
        if self._known is None:
            self._known = hosts_in_log(self.data, self.start - 90 * DAY, self.start - DAY)
        return host in self._known

    def periods(self) -> list[Period]:
        """Return when hosts and GPUs were up and down: a gap of more than two steps is down time.

        A host that was never heard of before its first sample in the window was not down until then: it was not there.
        """
        found = self._all_periods()
        new = {one.host for one in found if _is_from_start(one, self) and not self.was_known_before(one.host)}
        return [one for one in found if not (one.host in new and _is_from_start(one, self))]

    def _all_periods(self) -> list[Period]:
        if self.wider is not None:
            return self._periods_of(self.wider)
        rows = self.ask("uptime", {"interval": [str(max(self.step_s // MINUTE, 1))]}).rows
        columns: list[list[Any]] = [
            rows.column(name).to_pylist() for name in ("host", "device", "state", "start", "end")
        ]
        return [
            Period(host, device, state == "up", start, end)
            for host, device, state, start, end in zip(*columns, strict=True)
        ]

    def _periods_of(self, wider: "Survey") -> list[Period]:
        """Return what a wider survey knows of this window, of hosts that are described or were heard of in it."""
        found = [
            replace(one, start=max(one.start, self.start), end=min(one.end, self.end))
            for one in wider._all_periods()
            if one.start <= self.end and (one.end > self.start or (one.is_up and one.end == self.start))
        ]
        heard = {one.host for one in found if one.is_up and one.device == "host"}
        return [one for one in found if one.host in heard or one.host in self.nodes]


def _is_from_start(one: Period, survey: Survey) -> bool:
    """Whether a host was down from the very start of the window."""
    return not one.is_up and one.device == "host" and one.start == survey.start
