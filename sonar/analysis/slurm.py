"""Jobs of the batch system: from all that was ever sent about each to one row a job."""

import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["accounted_jobs", "gpus_of", "newest_states"]

# What does not change in a job's life, so that a later message which does not tell it means the same.
_LASTING = (
    "name", "user", "account", "partition", "reservation", "layout", "array_job", "array_task", "het_job",
    "het_offset", "submit", "timelimit_s", "requested", "allocated", "alloc_tres", "req_cpus", "req_nodes",
    "req_mem_kib",
)  # fmt: skip

# Of messages of the same instant the one that knows most: a job that has ended does not run again.
_RANKS = {"": 0, "PENDING": 0, "RUNNING": 1, "SUSPENDED": 1, "COMPLETING": 1}
_ENDED = 2

_CPU = re.compile(r"cpu=(\d{1,9})", re.ASCII)
_GPU = re.compile(r"gres/gpu(?::([^=]+))?=(\d{1,9})(?:\.0*)?", re.ASCII)


def newest_states(jobs: "pa.Table") -> "pa.Table":
    """Return the newest row of each job and step, with what earlier ones told and it does not; sorted by both."""
    import pyarrow as pa

    if len(jobs) == 0:
        return jobs
    steps: list[Any] = jobs.column("step").to_pylist()
    rank_of_step = {step: rank for rank, step in enumerate(sorted(set(steps)))}
    step = np.array([rank_of_step[text] for text in steps])
    rank = np.array([_RANKS.get(state or "", _ENDED) for state in jobs.column("state").to_pylist()])
    job = jobs.column("job").to_numpy()
    order = np.lexsort((rank, jobs.column("time").to_numpy(), step, job))
    job, step = job[order], step[order]
    new = np.append(True, (job[1:] != job[:-1]) | (step[1:] != step[:-1]))
    starts = np.flatnonzero(new)
    last = np.append(starts[1:], len(order)) - 1
    newest = jobs.take(pa.array(order[last]))
    for name in _LASTING:
        column: Any = jobs.column(name)
        told = _is_told(column)[order]
        known = np.maximum.reduceat(np.where(told, np.arange(len(order)), -1), starts)
        rows = order[np.where(known < 0, last, known)]
        newest = newest.set_column(newest.column_names.index(name), name, column.take(pa.array(rows)))
    return newest


def accounted_jobs(jobs: "pa.Table") -> "pa.Table":
    """Return one row for each job that has told its user: its newest state, and what its steps add to that.

    The most memory is that of the job or of any of its steps; CPU times are the sums over the steps where the job
    itself has none. Added columns: `gpus`, the cards that it got or asked for, as `MODEL=N,…`; `cpus`, the CPUs that it
    got or asked for, on all its nodes together.
    """
    import pyarrow as pa

    newest = newest_states(jobs)
    is_job = [not step and bool(user) for step, user in zip(*_lists(newest, "step", "user"), strict=True)]
    whole = newest.filter(pa.array(is_job, pa.bool_()))
    numbers = {number: place for place, number in enumerate(whole.column("job").to_pylist())}
    place = np.array([numbers.get(number, -1) for number in newest.column("job").to_pylist()], np.int64)
    of_known = place >= 0
    is_step = np.array([bool(step) for step in newest.column("step").to_pylist()], bool) & of_known
    for name in ("max_rss_kib", "max_vmsize_kib"):
        highest = np.zeros(len(whole))
        np.maximum.at(highest, place[of_known], _floats(newest, name)[of_known])
        whole = _with(whole, name, pa.array(highest))
    for name in ("user_cpu_s", "system_cpu_s"):
        total = np.zeros(len(whole))
        np.add.at(total, place[is_step], _floats(newest, name)[is_step])
        own = _floats(whole, name)
        whole = _with(whole, name, pa.array(np.where(own > 0, own, total)))
    resources = zip(*_lists(whole, "allocated", "requested", "alloc_tres"), strict=True)
    gpus = [next((found for text in texts if (found := gpus_of(text or ""))), "") for texts in resources]
    resources = zip(*_lists(whole, "allocated", "alloc_tres", "req_cpus"), strict=True)
    cpus = [_cpus_of(allocated or "") or _cpus_of(tres or "") or asked or 0 for allocated, tres, asked in resources]
    whole = whole.append_column("gpus", pa.array(gpus, pa.string()))
    return whole.append_column("cpus", pa.array(cpus, pa.int64()))


def gpus_of(resources: str) -> str:
    """Return the GPUs in a list of resources as `MODEL=N,…`, or `*=N` where no model is told; empty if none."""
    found = [(match[1], int(match[2])) for match in map(_GPU.fullmatch, resources.split(",")) if match]
    models = [f"{model}={number}" for model, number in found if model and number]
    return ",".join(models) or ",".join(f"*={number}" for model, number in found if not model and number)


def _cpus_of(resources: str) -> int:
    """Return the CPUs in a list of resources, which are those of all nodes together; 0 if it has none."""
    return next((int(match[1]) for match in map(_CPU.fullmatch, resources.split(",")) if match), 0)


def _is_told(column: Any) -> np.ndarray:
    """Return where a column says something: neither null nor empty."""
    return np.array([value is not None and value != "" for value in column.to_pylist()], bool)


def _lists(table: "pa.Table", *names: str) -> list[list[Any]]:
    return [table.column(name).to_pylist() for name in names]


def _floats(table: "pa.Table", name: str) -> np.ndarray:
    column: Any = table.column(name)
    values: np.ndarray = column.fill_null(0.0).to_numpy()
    return values


def _with(table: "pa.Table", name: str, values: Any) -> "pa.Table":
    return table.set_column(table.column_names.index(name), name, values)
