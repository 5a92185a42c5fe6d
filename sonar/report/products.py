"""Products: report files with where they come from, published together with that.

REPORTS/CLUSTER/AUDIENCE/FILE               a report file; the directory says who may see it
REPORTS/CLUSTER/provenance/AUDIENCE/FILE.json   where it comes from, sonar-data(5)
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sonar
from sonar.errors import SonarError
from sonar.report.audience import Audience
from sonar.report.logfiles import day_directory, files_of_day
from sonar.report.publish import publish
from sonar.times import DAY, HOUR, day_of, iso_text, parse_instant

if TYPE_CHECKING:
    from sonar.report.site import Site

__all__ = ["Product", "Task", "late_tasks", "provenance_of", "publish_all", "read_days", "remove_stale"]

_SETTLED_S = HOUR  # after its end a day counts as whole; what comes later is late


@dataclass(frozen=True, slots=True)
class Task:
    """What makes a file again: the report, its options, its window, the present time it was made at (instants)."""

    report: str
    start: int
    end: int
    now: int
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int, int, int, tuple[tuple[str, str], ...]]:
        """Return what tells tasks apart."""
        return (self.report, self.start, self.end, self.now, tuple(sorted(self.options.items())))


@dataclass(frozen=True, slots=True)
class Product:
    """One report file: its name, who may see it, its text, how many rows it has, and what makes it."""

    name: str
    audience: Audience
    text: str
    rows: int
    task: Task


def publish_all(site: "Site", products: Sequence[Product]) -> None:
    """Put all files in place, each whole, each followed by its provenance."""
    digests: dict[tuple[int, int], dict[str, Any]] = {}
    for product in products:
        window = (product.task.start, product.task.end)
        if window not in digests:
            digests[window] = read_days(site.data, *window)
        directory = site.reports / product.audience
        beside = site.reports / "provenance" / product.audience
        for path in (directory, beside):
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SonarError(f"cannot make '{path}': {error.strerror}") from None
        publish(directory / product.name, product.text)
        publish(beside / f"{product.name}.json", json.dumps(_provenance(product, digests[window]), indent=1) + "\n")


def read_days(data: Path, start: int, end: int) -> dict[str, Any]:
    """Return what a report on a window reads: files, bytes, a digest of both, and one of each UTC day.

    The digest is of names and lengths: files of the log only ever grow, so it changes if and only if something
    came.
    """
    days: dict[str, str] = {}
    files = size = 0
    for instant in range(start // DAY * DAY, end + 1, DAY):
        day = day_of(instant)
        lines = []
        for name, length in files_of_day(day_directory(data, instant)):
            lines.append(f"{name} {length}\n")
            files += 1
            size += length
        if lines:
            days[day.isoformat()] = sha256("".join(lines).encode()).hexdigest()[:16]
    whole = sha256(json.dumps(days, sort_keys=True).encode()).hexdigest()
    return {"files": files, "bytes": size, "digest": whole, "days": days}


def provenance_of(path: Path) -> dict[str, Any]:
    """Return where a report file comes from. Raise SonarError if nothing says so, or not of what is in the file."""
    beside = path.parent.parent / "provenance" / path.parent.name / f"{path.name}.json"
    try:
        content: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
        text = path.read_bytes()
    except (OSError, ValueError) as error:
        raise SonarError(f"'{path}': its provenance cannot be read: {error}") from None
    content["is_current"] = content.get("sha256") == sha256(text).hexdigest()
    return content


def late_tasks(site: "Site", *, but: Sequence[Task] = ()) -> list[Task]:
    """Return the tasks of files about days for which data came after the file was made; no task twice.

    A day counts once it is over; while it lasts, data are expected, and the next run of the rhythm has them.
    """
    taken = {(task.report, tuple(sorted(task.options.items()))) for task in but}
    found: dict[Any, Task] = {}
    known: dict[str, dict[str, str]] = {}
    for audience in Audience:
        directory = site.reports / "provenance" / audience
        for path in sorted(directory.glob("*.json")) if directory.is_dir() else ():
            content = _read(path)
            task = _task(content) if content else None
            if content is None or task is None or not (site.reports / audience / path.name[:-5]).exists():
                continue
            if (task.report, tuple(sorted(task.options.items()))) in taken:
                continue
            for day, digest in _closed_days(content, task).items():
                if day not in known:
                    begin = parse_instant(f"{day}T00:00:00Z") or 0
                    known[day] = read_days(site.data, begin, begin + DAY - 1)["days"]
                if known[day].get(day, "") != digest:
                    found[task.key] = task
                    break
    return list(found.values())


def remove_stale(site: "Site", keep: set[str], pattern: str) -> list[str]:
    """Remove the public files that match a pattern and are not to be kept, with their provenance; return names."""
    removed = []
    directory = site.reports / Audience.PUBLIC
    for path in sorted(directory.glob(pattern)) if directory.is_dir() else ():
        if path.name not in keep:
            path.unlink(missing_ok=True)
            (site.reports / "provenance" / Audience.PUBLIC / f"{path.name}.json").unlink(missing_ok=True)
            removed.append(path.name)
    return removed


def _closed_days(content: Mapping[str, Any], task: Task) -> dict[str, str]:
    """Return the digests of the days that were over when the file was made; empty for one without data."""
    days = content["read"]["days"]
    closed = {}
    for instant in range(task.start // DAY * DAY, task.end + 1, DAY):
        if instant + DAY + _SETTLED_S <= task.now:
            name = day_of(instant).isoformat()
            closed[name] = days.get(name, "")
    return closed


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _task(content: Mapping[str, Any]) -> Task | None:
    try:
        start, end, now = (parse_instant(content[name]) for name in ("from", "to", "made"))
        report, options = content["report"], dict(content["options"])
    except (KeyError, TypeError, ValueError):
        return None
    return None if start is None or end is None or now is None else Task(report, start, end, now, options)


def _provenance(product: Product, read: Mapping[str, Any]) -> dict[str, Any]:
    task = product.task
    return {
        "file": f"{product.audience}/{product.name}",
        "audience": str(product.audience),
        "report": task.report,
        "options": dict(task.options),
        "from": iso_text(task.start),
        "to": iso_text(task.end),
        "made": iso_text(task.now),
        "version": sonar.__version__,
        "rows": product.rows,
        "sha256": sha256(product.text.encode()).hexdigest(),
        "read": dict(read),
    }
