"""What has to be read for each host of a tree: rows of columns, and what files of the log hold beyond them.

A plan is made from names, sizes and metadata only. It can be sent to another process or machine that sees the tree.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sonar.places import known_state
from sonar.read.columns import COLUMNS_NAME, Identity, covered, facts_at, identity_of, open_columns
from sonar.read.files import DayFiles, LogFile, SampleReader, host_of
from sonar.read.tree import read_bytes

if TYPE_CHECKING:
    from sonar.analysis.samples import Samples
    from sonar.hosts import HostPatterns
    from sonar.read.sources import Listing

__all__ = ["ColumnsChangedError", "Foreign", "HostPlan", "HostReading", "Text", "plans_of", "prepare_plan"]


_TEXT = 1 << 41  # places in text come behind those in columns
_PIECE_ROWS = 1 << 15  # days are given together up to about so many rows


@dataclass(frozen=True, slots=True)
class Text:
    """The bytes of a file of the log from an offset on."""

    file: LogFile
    offset: int = 0


@dataclass(frozen=True, slots=True)
class DayPlan:
    """What is to be read for a host in one directory. `sources` are those whose rows count; None is all."""

    directory: Path
    columns: "Identity | None"
    sources: frozenset[int] | None
    texts: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What is to be read for a host, day by day; rows outside the days are left out."""

    host: str
    days: tuple[DayPlan, ...]
    limits: tuple[int, int]

    @property
    def size(self) -> int:
        """About how many bytes of text are to be parsed, or would be without columns."""
        return sum((1 << 18 if day.columns else 0) + (len(day.texts) << 20) for day in self.days)


@dataclass(frozen=True, slots=True)
class Foreign:
    """Rows of a host that stood in the file of another."""

    text: Text
    samples: "Samples"
    record: np.ndarray


def plans_of(
    days: Sequence[DayFiles],
    limits: tuple[int, int],
    hosts: "HostPatterns | None",
    *,
    use_columns: bool = True,
) -> tuple[dict[str, HostPlan], Counter[tuple[Path, str]]]:
    """Return the plan of each host, and how many bad records were met when the columns that count were made."""
    by_host: dict[str, list[DayPlan]] = {}
    dropped: Counter[tuple[Path, str]] = Counter()
    for day in days:
        plan = _plan_of_day(day, hosts, use_columns=use_columns)
        for host, of_host in plan.hosts.items():
            by_host.setdefault(host, []).append(of_host)
        dropped.update(plan.dropped)
    plans = {host: HostPlan(host, tuple(by_host[host]), limits) for host in sorted(by_host)}
    return plans, dropped


@dataclass(frozen=True, slots=True)
class _Planned:
    """What is to be read for each host in one directory."""

    hosts: dict[str, DayPlan]
    dropped: Counter[tuple[Path, str]]
    is_whole: bool  # all is in columns, each host's rows from a file of its own


def prepare_plan(directory: Path, noted: "Listing") -> None:
    """Make the plan of a day, which is kept with the listing of its directory."""
    _plan_of_day(DayFiles.of(directory, noted.files, noted), None, use_columns=True)


def _plan_of_day(day: DayFiles, hosts: "HostPatterns | None", *, use_columns: bool) -> _Planned:
    """Return the plan of a day; one that was made of the same files before holds as long as no file had to be read."""
    if day.noted is None or not use_columns:
        return _plan_day(day, hosts, use_columns=use_columns)
    known: _Planned | None = day.noted.made.get("plan")
    if known is not None and hosts is None:
        return known
    if known is not None and hosts is not None and not known.dropped:
        return replace(known, hosts={host: plan for host, plan in known.hosts.items() if hosts.match(host)})
    plan = _plan_day(day, hosts, use_columns=True)
    if hosts is None and plan.is_whole:
        day.noted.made["plan"] = plan
    return plan


def _plan_day(day: DayFiles, hosts: "HostPatterns | None", *, use_columns: bool) -> _Planned:
    directory, files = day.directory, day.samples
    dropped: Counter[tuple[Path, str]] = Counter()
    texts: dict[str, list[Text]] = {}
    states = _states(day) if use_columns else {}
    found = facts_at(directory / COLUMNS_NAME, states.get(COLUMNS_NAME)) if COLUMNS_NAME in states else None
    identity, facts = found or (None, None)
    valid: set[int] = set()
    offsets: dict[str, int] = {}
    is_whole = True
    for number, source in enumerate(facts.sources if facts else ()):
        host = host_of(source.name)
        if hosts is not None and not hosts.match(host):
            continue
        if states.get(source.name) == (source.inode, source.mtime_ns, source.size):
            offset: int | None = source.offset
        else:
            offset = covered(source, directory / source.name)
            is_whole = False
        if offset is not None:
            offsets[source.name] = offset
        if offset is not None or source.removed:  # what has the name of a removed file came later
            valid.add(number)
            for reason, count in source.dropped.items():
                dropped[directory / source.name, reason] += count
    for file in files:
        offset = offsets.get(file.path.name, 0)
        now = states.get(file.path.name)
        if not offset or (now is not None and now[2] > offset):
            texts.setdefault(file.host, []).append(Text(file, offset))
    stored = facts.hosts if facts else {}
    everything = facts is not None and len(valid) == len(facts.sources)
    plans = {}
    named = [host_of(source.name) for source in facts.sources] if facts else []
    for host in {*stored, *texts}:
        if hosts is not None and not hosts.match(host):
            continue
        rows = stored.get(host)
        if rows is not None and rows.source >= 0 and rows.source not in valid:
            rows = None
        is_whole &= rows is not None and rows.source >= 0 and named[rows.source] == host
        sources = None if everything or rows is None or rows.source >= 0 else frozenset(valid)
        if rows is not None or host in texts:
            plans[host] = DayPlan(
                directory, identity if rows is not None else None, sources, tuple(texts.get(host, ()))
            )
    return _Planned(plans, dropped, is_whole and not texts)


def _states(day: DayFiles) -> "Mapping[str, Identity]":
    """Return the state of the columns and of each file of samples, as far as there are columns."""
    if day.noted is not None:
        return day.noted.files
    states = {}
    if day.has_columns:
        for path in (day.directory / COLUMNS_NAME, *(file.path for file in day.samples)):
            with contextlib.suppress(OSError):
                states[path.name] = identity_of(known_state(path))
    return states


@dataclass(slots=True)
class HostReading:
    """Reads what a plan says; notes bad records, and rows of other hosts that came to light."""

    plan: HostPlan
    columns: tuple[str, ...]
    reader: SampleReader
    known_foreign: Sequence[Foreign] = ()
    hosts: "HostPatterns | None" = None
    foreign: dict[str, list[Foreign]] = field(default_factory=dict)
    dropped: Counter[tuple[Path, str]] = field(default_factory=Counter)

    def pieces(self) -> "Iterator[Samples]":
        """Yield the host's samples some days at a time, each piece later than the one before.

        Within a piece rows that could be equal are in reading order: envelopes first, then by path, then by line.
        An envelope's samples count instead of those of a CSV record at the same instant.
        """
        waiting: list[_Chunk] = []
        rows = 0
        for chunk in self._days():
            if rows + len(chunk) > _PIECE_ROWS and waiting and chunk.earliest > max(one.latest for one in waiting):
                yield self._joined(waiting)
                waiting, rows = [], 0
            waiting.append(chunk)
            rows += len(chunk)
        if waiting:
            yield self._joined(waiting)

    def _days(self) -> "Iterator[_Chunk]":
        directories = {day.directory for day in self.plan.days}
        days = list(self.plan.days)
        days += [
            DayPlan(directory, None, None, ())
            for directory in sorted({one.text.file.path.parent for one in self.known_foreign} - directories)
        ]
        for day in sorted(days, key=lambda day: day.directory):
            chunk = self._day(day)
            if chunk is not None:
                yield chunk

    def _day(self, day: DayPlan) -> "_Chunk | None":
        parts = self._from_columns(day)
        for text in day.texts:
            parts += self._from_text(text)
        parts += [
            _Part(one.text.file.reading_order, one.samples.select(self.columns), one.record, one.text.offset + _TEXT)
            for one in self.known_foreign
            if one.text.file.path.parent == day.directory
        ]
        parts = [part for one in parts if len((part := self._cut(one)).samples)]
        return _Chunk(parts) if parts else None

    def _from_columns(self, day: DayPlan) -> "list[_Part]":
        if day.columns is None:
            return []
        from sonar.analysis.samples import samples_of

        opened = open_columns(day.directory / COLUMNS_NAME, day.columns)
        if opened is None:
            raise ColumnsChangedError
        where = opened.facts.hosts[self.plan.host]
        names = [source.name for source in opened.facts.sources]
        if where.source >= 0:
            table = opened.read(self.plan.host, self.columns)
            return [_Part(LogFile(day.directory / names[where.source]).reading_order, samples_of(table))]
        table = opened.read(self.plan.host, self.columns, with_source=True)
        source = table.column("source").to_numpy()
        record = table.column("record").to_numpy()
        samples = samples_of(table.select(list(self.columns)))
        parts = []
        for number in sorted(set(source.tolist())):
            if day.sources is None or number in day.sources:
                rows = np.flatnonzero(source == number)
                order = LogFile(day.directory / names[number]).reading_order
                parts.append(_Part(order, samples.take(rows), record[rows]))
        return parts

    def _from_text(self, text: Text) -> "list[_Part]":
        content = read_bytes(text.file.path, must_exist=False)[text.offset :]
        if not content:
            return []
        dropped: Counter[str] = Counter()
        is_json = text.file.is_json(content)
        samples = self.reader.samples(content, is_json=is_json, dropped=dropped, begins_file=not text.offset)
        self.dropped.update({(text.file.path, reason): number for reason, number in dropped.items()})
        order, base = text.file.reading_order, text.offset + _TEXT
        if samples.words["host"] == [self.plan.host]:
            return [_Part(order, samples.select(self.columns), None, base)]
        own = []
        for code, host in enumerate(samples.words["host"]):
            rows = np.flatnonzero(samples["host"] == code)
            if host == self.plan.host:
                own = [_Part(order, samples.select(self.columns).take(rows), rows, base)]
            elif len(rows) and (self.hosts is None or self.hosts.match(host)):
                self.foreign.setdefault(host, []).append(Foreign(text, samples.take(rows), rows))
        return own

    def _cut(self, part: "_Part") -> "_Part":
        """Return the rows within the days asked for."""
        time = part.samples["time"]
        first, last = self.plan.limits
        if len(time) == 0 or (first <= time.min() and time.max() <= last):
            return part
        keep = (first <= time) & (time <= last)
        return part.filtered(keep)

    def _joined(self, chunks: "list[_Chunk]") -> "Samples":
        """Return the rows of some days together, in reading order where that matters."""
        from sonar.analysis.samples import concatenated

        parts = [part for chunk in chunks for part in chunk.parts]
        orders = {part.order for part in parts}
        if len({is_csv for is_csv, _ in orders}) > 1:
            parts = _without_seen(parts)
        if all(len({part.order for part in chunk.parts}) == 1 for chunk in chunks):
            parts.sort(key=lambda part: part.order)  # stable: columns before what was appended since
            return concatenated([part.samples for part in parts])
        ranks = {order: rank for rank, order in enumerate(sorted(orders))}
        rank = np.repeat([ranks[part.order] for part in parts], [len(part.samples) for part in parts])
        record = np.concatenate([part.places for part in parts])
        return concatenated([part.samples for part in parts]).take(np.lexsort((record, rank)))


class ColumnsChangedError(Exception):
    """The columns are no longer those that the plan was made for: make a new one."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of one file: what the file is read by, and their places in it, counted from a base; None is in order."""

    order: tuple[bool, Path]
    samples: "Samples"
    record: np.ndarray | None = None
    base: int = 0

    @property
    def places(self) -> np.ndarray:
        """The places of the rows in the file: those in columns come before those in text."""
        record = np.arange(len(self.samples)) if self.record is None else self.record
        return record.astype(np.int64) + self.base

    def filtered(self, keep: np.ndarray) -> "_Part":
        """Return some of the rows."""
        return _Part(self.order, self.samples.take(keep), self.places[keep] - self.base, self.base)


@dataclass(slots=True)
class _Chunk:
    """The rows of a day."""

    parts: list[_Part]
    earliest: int = 0
    latest: int = 0

    def __len__(self) -> int:
        return sum(len(part.samples) for part in self.parts)

    def __post_init__(self) -> None:
        times = [part.samples["time"] for part in self.parts]
        self.earliest = min(int(time.min()) for time in times)
        self.latest = max(int(time.max()) for time in times)


def _without_seen(parts: list[_Part]) -> list[_Part]:
    """Return the parts without rows of CSV at instants at which there is an envelope."""
    seen = np.concatenate([part.samples["time"] for part in parts if not part.order[0]])
    return [part.filtered(~np.isin(part.samples["time"], seen)) if part.order[0] else part for part in parts]
