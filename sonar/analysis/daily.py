"""What the jobs of a summary come to, and the details that are needed where a job goes on in another summary.

Steps are cells: each job has one for each run of its host from its first to its last. What samples add to the cells is
added up without sorting; all numbers are whole, so that sums are exact.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sonar.analysis.exact import ONE, PEAKS, SUMMED, WHOLE, Columns, added, floats, joined_columns, normalized
from sonar.analysis.merge import union_of_gpus
from sonar.analysis.rows import HostRows
from sonar.analysis.samples import Streams
from sonar.analysis.summary import HEAD, OUTSIDE, STREAM_KEY, heads_of
from sonar.analysis.wordsets import WordSets

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["details_apart", "details_of", "jobs_of_rows"]


@dataclass(frozen=True, slots=True)
class _Steps:
    """The cells of jobs: `cell` is that of each row; a job has those from its offset on, as many as `size` says.

    values: by name of SUMMED, what each row adds, None if nothing; sums: by name, what its rows come to in each cell;
    levels: the same by name of PEAKS, as numbers.
    """

    of_stream: np.ndarray  # number of the job
    first_stream: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    first_run: np.ndarray
    cell: np.ndarray
    widest: int  # samples in a cell
    samples: np.ndarray  # in each cell
    values: dict[str, np.ndarray | None]
    sums: dict[str, np.ndarray | None]
    levels: dict[str, np.ndarray | None]

    @property
    def cells(self) -> int:
        return len(self.samples)


def jobs_of_rows(rows: HostRows, sets: "dict[str, pa.Array[Any]]") -> tuple[Columns, _Steps]:
    """Return a row for each job, and for each stream without one; `sets` gets the sets of users and of commands."""
    steps = _steps(rows)
    first = steps.first_stream
    row = rows.starts[first]
    numbers = np.arange(len(first))
    found = _keys(rows.streams.take(first))
    for name, column in (("user", "users"), ("cmd", "cmds")):
        words = WordSets.of_groups(steps.of_stream, rows.streams[name], rows.samples.words[name], numbers)
        found[column] = words.codes
        sets[name] = words.texts
    found |= _reduced(rows, steps, steps.samples > 0, steps.levels)
    found["sums"] = normalized(_totals(steps, row, len(rows)))
    found |= _flags_of_rows(rows, row, len(first), steps)
    host = rows.runs.bounds
    of_host = found["host"]
    at_edge = steps.first_run == host[of_host]
    at_edge |= steps.first_run + steps.size == host[of_host + 1]
    found["whole"] = np.ones(len(first), bool)
    if rows.good is not None and len(first):
        counts = np.maximum.reduceat(rows.good, rows.starts)
        found["whole"] = np.minimum.reduceat(counts, first)
    found["detailed"] = at_edge | ~found["whole"]
    return found, steps


def _steps(rows: HostRows) -> _Steps:
    job, host, epoch = (rows.streams[name] for name in ("job", "host", "epoch"))
    new = np.ones(len(job), bool)
    new[1:] = (job[1:] != job[:-1]) | (host[1:] != host[:-1]) | (epoch[1:] != epoch[:-1]) | (job[1:] == 0)
    first = np.flatnonzero(new)
    of_stream = np.cumsum(new) - 1
    values = rows.summands()
    if len(first) == 0:
        none = np.zeros(0, np.int64)
        nothing = dict.fromkeys(SUMMED)
        return _Steps(of_stream, first, none, none, none, none, 0, none, values, nothing, nothing)
    ends = rows.starts + rows.length - 1
    first_run = np.minimum.reduceat(rows.run[rows.starts], first).astype(np.int64)
    size = np.maximum.reduceat(rows.run[ends], first) - first_run + 1
    offset = np.cumsum(size) - size
    cell = rows.run + np.repeat((offset - first_run)[of_stream], rows.length)
    cells = int(size.sum())
    samples = np.bincount(cell if rows.good is None else cell[rows.good], minlength=cells)
    widest = int(samples.max())
    sums = {name: None if of_rows is None else added(cell, of_rows, cells, widest) for name, of_rows in values.items()}
    levels = _levels(sums)
    return _Steps(of_stream, first, offset, size, first_run, cell, widest, samples, values, sums, levels)


def _levels(sums: dict[str, np.ndarray | None]) -> dict[str, np.ndarray | None]:
    """Return sums by name of PEAKS, as numbers."""
    levels: dict[str, np.ndarray | None] = {}
    for name in PEAKS:
        whole, part = sums[name], sums.get(f"{name}_part")
        levels[name] = whole if whole is None or part is None else whole + part / float(ONE)
    return levels


def _totals(steps: _Steps, starts: np.ndarray, size: int) -> np.ndarray:
    """Return what all rows of each job come to: rows of SUMMED."""
    totals = np.zeros((len(SUMMED), len(starts)), np.int64)
    longest = int(np.diff(np.append(starts, size)).max()) if len(starts) else 0
    for place, name in enumerate(SUMMED):
        values = steps.values[name]
        if values is not None and len(starts):
            if values.dtype.kind == "f" and float(values.max()) * longest >= WHOLE:
                values = values.astype(np.int64)
            totals[place] = np.add.reduceat(values, starts)
    return totals


def _reduced(rows: HostRows, steps: _Steps, present: np.ndarray, levels: dict[str, np.ndarray | None]) -> Columns:
    """Return number, first and last instant, and peaks of each job over the cells present; in others levels are 0."""
    jobs = len(steps.size)
    at = np.flatnonzero(present)
    low = np.searchsorted(at, steps.offset)
    high = np.searchsorted(at, steps.offset + steps.size)
    number = high - low
    time = np.zeros((2, jobs), np.int64)
    there = np.flatnonzero(number)
    peaks = np.zeros((len(PEAKS), jobs))
    if len(there):
        for which, cells in enumerate((at[low[there]], at[high[there] - 1])):
            time[which, there] = rows.runs.time[cells - steps.offset[there] + steps.first_run[there]]
        for place, name in enumerate(PEAKS):
            if (values := levels[name]) is not None:
                peaks[place] = np.maximum.reduceat(values, steps.offset)
    return {"first": time[0], "last": time[1], "n": number, "peaks": peaks}


def _flags_of_rows(rows: HostRows, starts: np.ndarray, jobs: int, steps: _Steps) -> Columns:
    """Return the cards that rows of each job use, and whether one failed."""
    found: Columns = {"gpus": np.zeros(jobs, np.uint64), "gpufail": np.zeros(jobs, np.int8)}
    for name in found:
        values = rows[name]
        if values.any():
            found[name] = _united(name, values if rows.good is None else values * rows.good, starts)
    return found


def _united(name: str, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the flags of each run of rows."""
    united = union_of_gpus(values, starts) if name == "gpus" else np.maximum.reduceat(values, starts)
    return united.astype(np.uint64 if name == "gpus" else np.int8)


def details_of(rows: HostRows, steps: _Steps, jobs: Columns, detailed: np.ndarray) -> tuple[Columns, Columns]:
    """Return the heads of the streams of some jobs, and the sums and peaks of what does not depend on heads."""
    heads, parts, _, _ = _details(rows, steps, jobs, detailed)
    return heads, parts


def details_apart(
    rows: HostRows, steps: _Steps, jobs: Columns, detailed: np.ndarray
) -> tuple[tuple[Columns, Columns], tuple[Columns, Columns]]:
    """Return the details of some jobs, and those of the others."""
    heads, parts, of_heads, of_parts = _details(rows, steps, jobs, np.ones(len(detailed), bool))

    def chosen(jobs: np.ndarray) -> tuple[Columns, Columns]:
        return (
            {name: values[jobs[of_heads]] for name, values in heads.items()},
            {name: values[..., jobs[of_parts]] for name, values in parts.items()},
        )

    return chosen(detailed), chosen(~detailed)


def _details(
    rows: HostRows, steps: _Steps, jobs: Columns, detailed: np.ndarray
) -> tuple[Columns, Columns, np.ndarray, np.ndarray]:
    """Return the details of some jobs, and the number of the job of each row.

    Cells with heads are open: what heads add to them is not known yet, but what others add is. All other cells are
    closed. What these come to is what the job does, without its open cells, for whole numbers can be taken off again.
    """
    heads = heads_of(rows, np.flatnonzero(detailed[steps.of_stream]))
    head = heads["row"][heads["kind"] <= OUTSIDE]
    counting = head[rows.counting(head)]
    is_open = np.zeros(steps.cells, bool)
    is_open[steps.cell[heads["row"][heads["kind"] == HEAD]]] = True
    opened = np.flatnonzero(is_open)
    of_opened = np.searchsorted(steps.offset, opened, "right") - 1
    place = np.searchsorted(opened, steps.cell[counting])
    left = steps.samples[opened] - np.bincount(place, minlength=len(opened))
    with_heads, others = (np.zeros((len(SUMMED), len(opened)), np.int64) for _ in range(2))
    for at, name in enumerate(SUMMED):
        sums, values = steps.sums[name], steps.values[name]
        if sums is not None and values is not None:
            with_heads[at] = sums[opened]
            others[at] = with_heads[at] - added(place, values[counting], len(opened), steps.widest)
    closed = (steps.samples > 0) & ~is_open & np.repeat(detailed, steps.size)
    of_jobs = _reduced(rows, steps, closed, {name: _without(values, opened) for name, values in steps.levels.items()})
    there = np.flatnonzero(of_jobs["n"])
    of_jobs["sums"] = normalized(
        jobs["sums"][:, there] - _sums_by_job(with_heads, of_opened, len(steps.size))[:, there]
    )

    keep = left > 0
    opened, of_opened, others = opened[keep], of_opened[keep], normalized(others[:, keep])
    of_all, of_cells = _flags(rows, steps, head, is_open, opened)
    open_time = rows.runs.time[opened - steps.offset[of_opened] + steps.first_run[of_opened]]
    parts = joined_columns(
        [
            {name: of_jobs[name][..., there] for name in ("first", "last", "n", "peaks")}
            | {
                "sums": of_jobs["sums"],
                "gpus": of_all["gpus"][there],
                "gpufail": of_all["gpufail"][there],
            },
            {
                "first": open_time,
                "last": open_time,
                "n": np.zeros(len(opened), np.int64),
                "sums": others,
                "peaks": floats(others),
                "gpus": of_cells["gpus"],
                "gpufail": of_cells["gpufail"],
            },
        ]
    )
    of_parts = np.concatenate([there, of_opened])
    parts |= _keys(rows.streams.take(steps.first_stream[of_parts]))
    of_heads = steps.of_stream[np.searchsorted(rows.starts, heads.pop("row"), "right") - 1]
    return heads, parts, of_heads, of_parts


def _keys(first: Streams) -> Columns:
    """Return the keys of jobs by their first streams; where there is no job, a stream stands for itself."""
    keys: Columns = {name: first[name] for name in ("host", "job", "epoch")}
    alone = keys["job"] == 0
    return keys | {name: np.where(alone, first[name], 0).astype(np.int64) for name in STREAM_KEY[2:]}


def _without(values: np.ndarray | None, cells: np.ndarray) -> np.ndarray | None:
    """Return values with 0 in some cells."""
    if values is None:
        return None
    rest = values.copy()
    rest[cells] = 0
    return rest


def _sums_by_job(sums: np.ndarray, job: np.ndarray, jobs: int) -> np.ndarray:
    """Return the sums of each job from those of cells, of which `job` ascends."""
    totals = np.zeros((len(SUMMED), jobs), np.int64)
    starts = np.flatnonzero(np.append(True, job[1:] != job[:-1])[: len(job)])
    if len(starts):
        totals[:, job[starts]] = np.add.reduceat(sums, starts, axis=1)
    return totals


def _flags(
    rows: HostRows, steps: _Steps, head: np.ndarray, is_open: np.ndarray, opened: np.ndarray
) -> tuple[Columns, Columns]:
    """Return cards and failures of samples that are no heads: of the closed cells of each job, and of open cells."""
    of_jobs: Columns = {"gpus": np.zeros(len(steps.size), np.uint64), "gpufail": np.zeros(len(steps.size), np.int8)}
    of_cells: Columns = {"gpus": np.zeros(len(opened), np.uint64), "gpufail": np.zeros(len(opened), np.int8)}
    for name in of_jobs:
        if not rows[name].any():
            continue
        values = rows[name].copy() if rows.good is None else rows[name] * rows.good
        values[head] = 0
        at = np.flatnonzero(values)
        at = at[is_open[steps.cell[at]]]
        place = np.searchsorted(opened, steps.cell[at])
        order = np.argsort(place, kind="stable")
        place, at = place[order], at[order]
        starts = np.flatnonzero(np.append(True, place[1:] != place[:-1])[: len(place)])
        of_cells[name][place[starts]] = _united(name, values[at], starts)
        values[at] = 0
        of_jobs[name] = _united(name, values, rows.starts[steps.first_stream])
    return of_jobs, of_cells
