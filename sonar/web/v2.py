"""The interface `/api/v2`: facts and series of clusters, nodes and processes as JSON, as dashboards of the family ask.

    nodename=LIST                      nodes, compressed: c1-[5-7],gpu-1
    time_in_s, start_time_in_s, end_time_in_s    the window, in seconds since 1970; both names of its start are taken
    resolution_in_s=300                length of the slots of a series

Without a window it is the last hour of the data; with one end, an hour from there; it is never longer than 14 days. A
slot's value is the mean of its samples, null without any; the first slot begins at the first sample. Everything is
asked of verbs, so nobody sees processes that are not the own ones unless the role says so.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sonar.errors import SonarError, UsageError
from sonar.gpusets import UNKNOWN
from sonar.names import ClusterName
from sonar.times import DAY, HOUR, day_of, iso_text
from sonar.web.questions import Asker

if TYPE_CHECKING:
    from sonar.config.clusters import Clusters
    from sonar.serve.passwords import Identity
    from sonar.web.nursery import Reply

__all__ = ["PATHS", "described_paths", "v2_answer"]

_LONGEST_S = 14 * DAY
_RESOLUTION_S = 300
_LATEST = 2**40
_WINDOW = ("start_time_in_s", "end_time_in_s", "resolution_in_s", "nodename")
_MOMENT = ("time_in_s", "nodename")


@dataclass(frozen=True, slots=True)
class _Path:
    """One path below `/api/v2`: what it takes beside the cluster, what it answers, and how that is found."""

    path: str
    parameters: tuple[str, ...]
    summary: str
    find: "Callable[[_View], Any]"


def v2_answer(
    reply: "Reply",
    clusters: "Clusters",
    who: "Identity",
    now: int,
    path: str,
    cluster: str | None,
    parameters: Sequence[tuple[str, str]],
) -> None:
    """Write the answer to a request. Raise UsageError, UnknownClusterError, SonarError."""
    declared = next(one for one in PATHS if one.path == path)
    given: dict[str, str] = {}
    for name, value in parameters:
        if name not in declared.parameters:
            raise UsageError(f"Bad parameter {name[:80]}")
        if name in given:
            raise UsageError(f"Bad parameter {name}: it is given twice")
        given[name] = value
    asker = Asker(clusters, who, now)
    view = _View(asker, asker.cluster(cluster) if cluster is not None else None, given)
    document = declared.find(view)
    reply.start(200, "application/json")
    reply.write(json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


class _View:
    """A request: its cluster, nodes and window, and the rows that it is answered from."""

    def __init__(self, asker: Asker, cluster: ClusterName | None, given: Mapping[str, str]) -> None:
        self.asker = asker
        self._cluster = cluster
        self._given = given

    @property
    def cluster(self) -> ClusterName:
        assert self._cluster is not None
        return self._cluster

    @cached_property
    def hosts(self) -> list[str]:
        from sonar.web.pages.jobs import split_names

        return split_names(self._given.get("nodename", ""))

    @cached_property
    def resolution(self) -> int:
        return self.number("resolution_in_s", _RESOLUTION_S, least=1)

    def number(self, name: str, default: int, *, least: int = 0) -> int:
        text = self._given.get(name, "")
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 16 and least <= int(text) < _LATEST):
            raise UsageError(f"Bad parameter {name}: {text[:40]!r} is not a number of seconds")
        return int(text)

    @cached_property
    def window(self) -> tuple[int, int]:
        """The first and last instant asked for."""
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

    def ask(self, verb: str, given: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        question = {**given, **({"host": self.hosts} if self.hosts else {})}
        return self.asker.ask(verb, self.cluster, question).rows

    def rows(
        self, verb: str, given: Mapping[str, Sequence[str]] | None = None, *, before: int = 0
    ) -> list[dict[str, Any]]:
        """Return the rows of the window, and of so many seconds before it, in order of time."""
        start, end = self.window
        days = {"from": [str(day_of(max(start - before, 0)))], "to": [str(day_of(min(end, self.asker.now)))]}
        if start - before > self.asker.now:
            return []
        rows = [row for row in self.ask(verb, {**days, **(given or {})}) if start - before <= row["time"] <= end]
        return sorted(rows, key=lambda row: int(row["time"]))

    def by_host(self, rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            found.setdefault(row["host"], []).append(row)
        return dict(sorted(found.items()))

    def newest(self, verb: str) -> list[dict[str, Any]]:
        """Return what nodes told last in the day before the window's end."""
        return self.rows(verb, before=DAY)

    @cached_property
    def cards(self) -> dict[tuple[str, int], dict[str, Any]]:
        return {(row["host"], int(row["index"])): row for row in self.newest("card")}

    def processes(self) -> list[dict[str, Any]]:
        fields = "time,host,user,job,pid,cmd,cpu_util_pct,cpu_pct,rssanonkib,gpus,gpu_pct,gpumem_pct,gpukib"
        return self.rows("parse", {"clean": ["true"], "fmt": [fields]})

    def uuids(self, row: Mapping[str, Any]) -> list[str]:
        """Return the cards of a process by their identifiers, by their numbers where these are not known."""
        return [str(self.cards.get((row["host"], index), {}).get("uuid") or index) for index in _indices(row["gpus"])]

    def bucketed(
        self, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, whole: bool = False
    ) -> list[dict[str, Any]]:
        """Return the mean of each column in each slot; times as instants."""
        if not rows:
            return []
        first = int(rows[0]["time"])
        slots: dict[int, list[Mapping[str, Any]]] = {}
        for row in rows:
            slots.setdefault((int(row["time"]) - first) // self.resolution, []).append(row)
        last = max(slots)
        if last > 1_000_000:
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


def _indices(mask: Any) -> list[int]:
    number = int(mask or 0)
    return [] if number == UNKNOWN else [index for index in range(64) if number >> index & 1]


def _at(series: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**point, "time": iso_text(point["time"])} for point in series]


def _clusters(view: _View) -> Any:
    found = []
    for name in view.asker.cluster_names():
        of_one = _View(view.asker, name, {})
        partitions: list[Any] = []
        try:
            partitions = of_one.ask("spart", {"from": ["2d"]})
        except SonarError:
            partitions = []
        latest = max((row["time"] for row in partitions), default=0)
        newest = max(of_one.seen.values(), default=None)
        found.append(
            {
                "time": None if newest is None else iso_text(newest), "cluster": name, "slurm": int(bool(partitions)),
                "partitions": sorted({row["partition"] for row in partitions if row["time"] == latest}),
                "nodes": sorted({*of_one.seen, *(view.asker.clusters.nodes(name) or {})}),
            }
        )  # fmt: skip
    return found


def _info(view: _View) -> Any:
    found: dict[str, Any] = {}
    for host, node in (view.asker.clusters.nodes(view.cluster) or {}).items():
        if not view.hosts or _matches(view, host):
            found[host] = {
                "time": None, "cluster": view.cluster, "node": host, "os_name": None, "os_release": None,
                "memory": node.mem_gb << 20, "sockets": 1, "cores_per_socket": node.cpu_cores, "threads_per_core": 1,
                "cards": [],
            }  # fmt: skip
    for row in view.newest("node"):
        found[row["host"]] = {
            "time": iso_text(row["time"]), "cluster": view.cluster, "node": row["host"], "os_name": row["os_name"],
            "os_release": row["os_release"], "memory": round(row["mem_gb"] * (1 << 20)),
            "sockets": row["sockets"], "cores_per_socket": row["cores_per_socket"],
            "threads_per_core": row["threads_per_core"], "cards": [],
        }  # fmt: skip
    for (host, _), card in sorted(view.cards.items()):
        if host in found:
            found[host]["cards"].append({"uuid": card["uuid"], "model": card["model"], "mem_size": card["memory_kib"]})
    return found


def _matches(view: _View, host: str) -> bool:
    from sonar.hosts import HostPatterns

    return HostPatterns.parse(view.hosts).match(host)


def _last_probe(view: _View) -> Any:
    return {host: iso_text(seen) for host, seen in sorted(view.seen.items())}


def _no_errors(_view: _View) -> Any:
    return {}


def _load(view: _View, column: str, name: str) -> Any:
    try:
        rows = view.rows("load", {"none": ["true"], "fmt": [f"host,datetime,{column}"]})
    except UsageError:
        raise
    except SonarError:
        return {}  # nobody has told what the nodes have
    return {host: _at(view.bucketed(rows, {name: column})) for host, rows in view.by_host(rows).items()}


def _gpu(view: _View) -> Any:
    found: dict[str, Any] = {}
    for host, rows in view.by_host(view.rows("gpu")).items():
        cards: dict[tuple[int, str], list[dict[str, Any]]] = {}
        for row in rows:
            cards.setdefault((row["index"], row["uuid"]), []).append(row)
        columns = {"ce_util": "ce_util", "mem_util": "memory_util"}
        found[host] = [
            {"uuid": uuid, "index": index, "data": _at(view.bucketed(of_card, columns))}
            for (index, uuid), of_card in sorted(cards.items())
        ]
    return found


_DISK = {
    "reads_completed": "reads_completed", "reads_merged": "reads_merged", "sectors_read": "sectors_read",
    "ms_spent_reading": "ms_reading", "writes_completed": "writes_completed", "writes_merged": "writes_merged",
    "sectors_written": "sectors_written", "ms_spent_writing": "ms_writing",
    "ios_currently_in_progress": "ios_in_progress", "ms_spent_doing_ios": "ms_doing_ios",
    "weighted_ms_spent_doing_ios": "weighted_ms_doing_ios", "discards_completed": "discards_completed",
    "discards_merged": "discards_merged", "sectors_discarded": "sectors_discarded",
    "ms_spent_discarding": "ms_discarding", "flush_requests_completed": "flushes_completed",
    "ms_spent_flushing": "ms_flushing",
}  # fmt: skip


def _disks(view: _View) -> Any:
    found: dict[str, Any] = {}
    for host, rows in view.by_host(view.rows("diskprof")).items():
        disks: dict[tuple[int, int, str], list[dict[str, Any]]] = {}
        for row in rows:
            disks.setdefault((row["major"], row["minor"], row["name"]), []).append(row)
        found[host] = [
            {
                "major": major, "minor": minor, "name": name,
                "data": [
                    {**point, "delta_time_in_s": view.resolution}
                    for point in view.bucketed(of_disk, _DISK, whole=True)
                ],
            }
            for (major, minor, name), of_disk in sorted(disks.items())
        ]  # fmt: skip
    return found


def _gpu_use(view: _View) -> Any:
    around = view.number("reference_time_in_s", -1)
    half = view.number("window_in_s", 300) // 2
    newest = max(view.seen.values(), default=view.asker.now)
    centre = newest if around < 0 else around
    view.__dict__["window"] = (max(centre - half, 0), centre + half)
    found: dict[str, Any] = {}
    for host, rows in view.by_host(view.processes()).items():
        using = [row for row in rows if row["gpus"] or row["gpu_pct"]]
        times = sorted({row["time"] for row in using})
        if times:
            found[host] = {
                "gpu_memory": round(sum(row["gpu_kib"] for row in using) / len(times)),
                "gpu_memory_util": round(sum(row["gpumem_pct"] for row in using) / len(times), 1),
                "gpu_util": round(sum(row["gpu_pct"] for row in using) / len(times), 1),
                "pids": sorted({row["pid"] for row in using}),
                "time": iso_text(times[-1]),
            }
    return found


def _streams(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the samples of each process, in order of its number and command."""
    found: dict[tuple[int, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["pid"], row["cmd"], row["user"]), []).append(row)
    return [found[key] for key in sorted(found)]


def _who(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"pid": row["pid"], "user": row["user"], "cmd": row["cmd"]}


_USE = {"cpu_pct": "util", "mem_kb": "rss_kib", "gpu_pct": "gpu_pct", "gpu_mem_pct": "gpumem_pct"}


def _processes(view: _View) -> Any:
    return {
        host: [
            {
                **_who(own[-1]), **{name: round(own[-1][column], 1) for name, column in _USE.items()},
                "gpus": view.uuids(own[-1]), "time": iso_text(own[-1]["time"]),
            }
            for own in _streams(rows)
        ]
        for host, rows in view.by_host(view.processes()).items()
    }  # fmt: skip


def _gpu_processes(view: _View) -> Any:
    found: dict[str, Any] = {}
    for host, rows in view.by_host(view.processes()).items():
        for own in _streams([row for row in rows if row["gpus"]]):
            uses = [
                {
                    "time": iso_text(row["time"]), "gpu_uuid": uuid, "gpu_index": index,
                    "gpu_pct": round(row["gpu_pct"] / len(_indices(row["gpus"])), 1),
                    "gpu_mem_pct": round(row["gpumem_pct"] / len(_indices(row["gpus"])), 1),
                    "gpu_model": view.cards.get((host, index), {}).get("model"),
                }
                for row in own for index, uuid in zip(_indices(row["gpus"]), view.uuids(row), strict=True)
            ]  # fmt: skip
            found.setdefault(host, []).append({**_who(own[0]), "gpus": uses})
    return found


def _process_series(view: _View) -> Any:
    return {
        host: [{**_who(own[0]), "data": _at(view.bucketed(own, _USE))} for own in _streams(rows)]
        for host, rows in view.by_host(view.processes()).items()
    }


PATHS = (
    _Path("/cluster", ("time_in_s",), "The clusters, with their nodes and partitions", _clusters),
    _Path("/cluster/{cluster}/nodes/info", _MOMENT, "What the nodes have, as they or the description told", _info),
    *(
        _Path(f"/cluster/{{cluster}}/nodes/{name}", _MOMENT, "When each node was heard of last", _last_probe)
        for name in ("last-probe-timestamp", "last_probe_timestamp")
    ),
    *(
        _Path(f"/cluster/{{cluster}}/{name}", _MOMENT, "Errors that nodes told of: none are kept", _no_errors)
        for name in ("error-messages", "error_messages")
    ),
    _Path(
        "/cluster/{cluster}/nodes/cpu/timeseries", _WINDOW, "CPU use of the nodes, percent of all cores",
        lambda view: _load(view, "rcpu", "cpu_util"),
    ),
    _Path(
        "/cluster/{cluster}/nodes/memory/timeseries", _WINDOW, "Resident memory of the nodes, percent of all",
        lambda view: _load(view, "rres", "memory_util"),
    ),
    _Path("/cluster/{cluster}/nodes/gpu/timeseries", _WINDOW, "Use of each GPU, percent", _gpu),
    _Path("/cluster/{cluster}/nodes/diskstats/timeseries", _WINDOW, "Counters of each disk, means", _disks),
    _Path(
        "/cluster/{cluster}/nodes/process/gpu/util", ("reference_time_in_s", "window_in_s", "nodename"),
        "GPU use of all processes together around an instant", _gpu_use,
    ),
    _Path("/cluster/{cluster}/processes", (*_WINDOW, "time_in_s"), "The last sample of each process", _processes),
    _Path("/cluster/{cluster}/processes/gpu", _WINDOW, "Processes that use GPUs, sample by sample", _gpu_processes),
    _Path("/cluster/{cluster}/processes/timeseries", _WINDOW, "Use of each process over time", _process_series),
)  # fmt: skip


def described_paths() -> dict[str, Any]:
    """Return the paths as OpenAPI has them."""
    from sonar.web.openapi import errors

    found = {}
    for one in PATHS:
        parameters: list[dict[str, Any]] = []
        if "{cluster}" in one.path:
            text = "name or alias of a cluster"
            parameters.append(
                {"name": "cluster", "in": "path", "required": True, "description": text, "schema": {"type": "string"}}
            )
        for name in one.parameters:
            schema = {"type": "string"} if name == "nodename" else {"type": "integer", "minimum": 0, "maximum": 2**38}
            if name == "resolution_in_s":
                schema = {**schema, "minimum": 1, "default": _RESOLUTION_S}
            text = {"nodename": "nodes, such as c1-[5-7],gpu-1"}.get(name, "seconds, since 1970 where it is an instant")
            parameters.append({"name": name, "in": "query", "required": False, "description": text, "schema": schema})
        kind = "array" if one.path == "/cluster" else "object"
        content = {"application/json": {"schema": {"type": kind}}}
        responses = {"200": {"description": "so it is; by node", "content": content}, **errors(as_json=True)}
        operation = {
            "summary": one.summary,
            "tags": ["facts and series"],
            "parameters": parameters,
            "responses": responses,
        }
        found[f"/api/v2{one.path}"] = {"get": operation}
    return found
