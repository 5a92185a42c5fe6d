"""The state of an installation on one screen: units, clusters, rates, disks, what is wrong."""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from sonar.admin import units
from sonar.admin.arrivals import arrivals_of
from sonar.admin.check import find
from sonar.config import values
from sonar.config.clusters import Clusters
from sonar.config.settings import Settings, load_settings
from sonar.errors import SonarError
from sonar.names import ClusterName
from sonar.outbox import waiting
from sonar.places import ObjectPath
from sonar.times import HOUR, iso_text, present

__all__ = ["ClusterState", "Disk", "State", "print_status", "state_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """What arrives from a cluster: instants are seconds, rates those of the last hour."""

    name: str
    title: str
    last_data: int | None
    nodes: int
    silent: int
    posts_an_hour: int
    records_an_hour: int
    refused_an_hour: int
    bytes_today: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """How full a file system is."""

    path: str
    free_bytes: int
    free_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that the screen shows."""

    at: int
    units: Sequence[units.Unit]
    clusters: Sequence[ClusterState]
    disks: Sequence[Disk]
    waiting: int
    warnings: Sequence[str] = field(default_factory=tuple)


def state_of(settings: Settings, now: int) -> State:
    """Return the state of this machine's installation; what cannot be found out is among the warnings."""
    warnings = []
    try:
        known = units.show()
    except SonarError as error:
        known = []
        warnings.append(str(error))
    found = find(
        settings, now, kinds=("units", "ready", "nodes", "disk", "clock", "configuration", "outbox"), listed=known
    )
    warnings += [trouble.text for trouble in found.troubles]
    return State(
        at=now,
        units=known,
        clusters=[_cluster(settings, name, now) for name in _names(settings)],
        disks=_disks(settings),
        waiting=sum(1 for _ in waiting(settings.paths.outbox)),
        warnings=warnings,
    )


def print_status(args: argparse.Namespace) -> int:
    """Print the state; return 0."""
    state = state_of(load_settings(), present())
    if args.json:
        content = asdict(state)
        content["units"] = [{**asdict(unit), "failed": unit.failed} for unit in state.units]
        print(json.dumps(content, ensure_ascii=False, indent=1))
    else:
        print(*_screen(state), sep="\n")
    return 0


def _names(settings: Settings) -> list[ClusterName]:
    clusters = Clusters(settings.paths.data, settings.paths.clusters)
    return sorted({*clusters.described(), *(clusters.names() if settings.paths.data.is_dir() else ())})


def _cluster(settings: Settings, name: ClusterName, now: int) -> ClusterState:
    from sonar.store.ledger import read_arrivals

    arrivals = arrivals_of(settings.paths.data / name, now, settings.check.forget_after)
    try:
        described = Clusters(settings.paths.data, settings.paths.clusters).describe(name)
        title, limit = described.title, described.usual_interval_s * settings.check.silent_after
    except SonarError:
        title, limit = name, 300 * settings.check.silent_after
    posts = records = refused = 0
    for one in read_arrivals(settings.paths.data, name, now - HOUR, now + 1):
        taken = one.status == 200
        posts += one.posts if taken else 0
        records += one.records
        refused += 0 if taken else one.posts
    return ClusterState(
        name=name,
        title=title,
        last_data=arrivals.newest,
        nodes=len(arrivals.last),
        silent=sum(1 for at in arrivals.last.values() if now - at > limit),
        posts_an_hour=posts,
        records_an_hour=records,
        refused_an_hour=refused,
        bytes_today=arrivals.bytes_today,
    )


def _disks(settings: Settings) -> list[Disk]:
    found: dict[int, Disk] = {}
    for path in (settings.paths.data, settings.paths.reports):
        if isinstance(path, ObjectPath):
            continue
        existing = next(one for one in (path, *path.parents) if one.exists())
        status = os.statvfs(existing)
        free = status.f_bavail * status.f_frsize
        percent = 100 * status.f_bavail / status.f_blocks if status.f_blocks else 100.0
        found.setdefault(
            existing.stat().st_dev, Disk(path=str(existing), free_bytes=free, free_percent=round(percent, 1))
        )
    return list(found.values())


def _screen(state: State) -> Iterator[str]:
    yield f"Sonar at {iso_text(state.at)}"
    yield ""
    yield from _table(("SERVICE", "STATE", "RESTARTS", "MEMORY", "SAYS"), [
        (unit.name.removesuffix(".service"), " ".join(dict.fromkeys((unit.active, unit.sub))), str(unit.restarts),
         values.SIZE.text((unit.memory >> 20) << 20) if unit.memory else "", unit.status[:80])
        for unit in state.units if unit.name.endswith(".service") and _is_daemon(unit)
    ])  # fmt: skip
    yield ""
    yield from _table(("TIMER", "LAST RUN", "NEXT RUN", "RESULT"), list(_timers(state.units)))
    yield ""
    yield from _table(("CLUSTER", "LAST DATA", "NODES", "SILENT", "POSTS/H", "RECORDS/H", "REFUSED/H", "TODAY"), [
        (one.name, _ago(state.at, one.last_data), str(one.nodes), str(one.silent), str(one.posts_an_hour),
         str(one.records_an_hour), str(one.refused_an_hour), _mib(one.bytes_today))
        for one in state.clusters
    ])  # fmt: skip
    yield ""
    yield from (f"{disk.path}: {_mib(disk.free_bytes)} free, {disk.free_percent} %" for disk in state.disks)
    yield f"Mail and alerts that wait: {state.waiting}"
    yield ""
    yield "Warnings:" if state.warnings else "No warnings."
    yield from (f"  {text}" for text in state.warnings)


def _is_daemon(unit: units.Unit) -> bool:
    """Whether a unit is there all the time; a job that failed is shown among them."""
    return bool(unit.status or unit.restarts or unit.failed or unit.active == "active")


def _timers(known: Sequence[units.Unit]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each timer of the server, and one for all the reports of each cluster."""
    jobs = {unit.name.removesuffix(".service"): unit for unit in known if unit.name.endswith(".service")}
    timers: dict[str, list[units.Unit]] = {}
    for unit in known:
        if unit.name.endswith(".timer"):
            stem, _, cluster = unit.name.removesuffix(".timer").partition("@")
            timers.setdefault(f"reports of {cluster}" if cluster else stem, []).append(unit)
    for name in sorted(timers):
        ran = [timer.last_run for timer in timers[name] if timer.last_run]
        comes = [timer.next_run for timer in timers[name] if timer.next_run]
        last, following = max(ran, key=_instant, default="never"), min(comes, key=_instant, default="none")
        stems = [timer.name.removesuffix(".timer") for timer in timers[name] if timer.last_run]
        words = {stem: _result(jobs[stem]) for stem in stems if stem in jobs}
        odd = [
            f"{stem.partition('@')[0].removeprefix('sonar-')}: {word}" if "@" in stem else word
            for stem, word in words.items()
            if word != "success"
        ]
        yield name, last, following, ", ".join(odd) or ("success" if words else "")


def _result(job: units.Unit) -> str:
    return "running" if job.active == "activating" else job.result


def _instant(text: str) -> str:
    return text.partition(" ")[2]  # systemd's text, without the day of the week


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    lines = [head, *rows] if rows else [head, ("-",) * len(head)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _ago(now: int, instant: int | None) -> str:
    if instant is None:
        return "never"
    age = max(0, now - instant)
    return f"{values.span_text(age if age < 120 else age // 60 * 60)} ago"


def _mib(number: int) -> str:
    return f"{number / (1 << 30):.1f} GiB" if number >= 1 << 30 else f"{number / (1 << 20):.1f} MiB"
