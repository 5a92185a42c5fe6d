"""A survey: one cluster's samples over a window, asked by the verbs in this process; what several reports need once.

Answers are the verbs' own tables, with values not yet rounded for print.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonar.times import MINUTE, day_of

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.config.nodes import NodeTable
    from sonar.verbs.declare import Result
    from sonar.verbs.query import Query

__all__ = ["EVERYONE", "Period", "Survey"]

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
    _answers: dict[Any, Any] = field(default_factory=dict)

    def query(self, verb: str, options: Mapping[str, Sequence[str]], start: int | None = None) -> "Query":
        """Return the question to a verb about this window, or about its part from `start` on."""
        from sonar import verbs
        from sonar.verbs.parameters import query_of
        from sonar.verbs.query import Window

        first = self.start if start is None else start
        window = {"from": [day_of(first).isoformat()], "to": [day_of(self.end).isoformat()]}
        query, _fmt = query_of(
            verbs.verb(verb), {**window, **options}, data=self.data, nodes=self.nodes or None, now=self.now
        )
        return replace(query, window=Window(first, self.end))

    def ask(self, verb: str, options: Mapping[str, Sequence[str]], start: int | None = None) -> "Result":
        """Return a verb's answer; the same question is answered once."""
        from sonar import verbs

        key = (verb, start, tuple(sorted((name, tuple(values)) for name, values in options.items())))
        if key not in self._answers:
            self._answers[key] = verbs.verb(verb).run(self.query(verb, options, start))
        answer: Result = self._answers[key]
        return answer

    def jobs(self) -> "pa.Table":
        """Return everybody's jobs."""
        return self.ask("jobs", EVERYONE).rows

    def last_seen(self) -> dict[str, int]:
        """Return when each host in the window was heard of last, by name."""
        rows = self.ask("metadata", {}).rows
        hosts: list[Any] = rows.column("host").to_pylist()
        latest: list[Any] = rows.column("latest").to_pylist()
        return dict(zip(hosts, latest, strict=True))

    def periods(self) -> list[Period]:
        """Return when hosts and GPUs were up and down: a gap of more than two steps is down time."""
        rows = self.ask("uptime", {"interval": [str(max(self.step_s // MINUTE, 1))]}).rows
        columns = [rows.column(name).to_pylist() for name in ("host", "device", "state", "start", "end")]
        return [
            Period(host, device, state == "up", start, end)
            for host, device, state, start, end in zip(*columns, strict=True)
        ]
