"""What processes used, together and each over time: paths of `/api/v2`."""

from collections.abc import Mapping
from typing import Any

from sonar.gpusets import UNKNOWN
from sonar.times import iso_text
from sonar.web.v2.view import WINDOW, Series, V2Path, View, by_host, iso_times

__all__ = ["PATHS"]


def _gpu_use(view: View) -> Any:
    around = view.number("reference_time_in_s", -1)
    half = view.number("window_in_s", 300) // 2
    newest = max(view.seen.values(), default=view.asker.now)
    centre = newest if around < 0 else around
    found: dict[str, Any] = {}
    for host, rows in _samples(view.within(max(centre - half, 0), centre + half)).items():
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


def _samples(view: View) -> dict[str, Series]:
    """Return the samples of the window, of each process of a node."""
    fields = "time,host,user,job,pid,cmd,cpu_util_pct,cpu_pct,rssanonkib,gpus,gpu_pct,gpumem_pct,gpukib"
    return by_host(view.rows("parse", {"clean": ["true"], "fmt": [fields]}))


def _streams(rows: Series) -> list[Series]:
    """Return the samples of each process, in order of its number and command."""
    found: dict[tuple[int, str, str], Series] = {}
    for row in rows:
        found.setdefault((row["pid"], row["cmd"], row["user"]), []).append(row)
    return [found[key] for key in sorted(found)]


def _who(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"pid": row["pid"], "user": row["user"], "cmd": row["cmd"]}


_USE = {"cpu_pct": "util", "mem_kb": "rss_kib", "gpu_pct": "gpu_pct", "gpu_mem_pct": "gpumem_pct"}


def _processes(view: View) -> Any:
    return {
        host: [
            {
                **_who(own[-1]), **{name: round(own[-1][column], 1) for name, column in _USE.items()},
                "gpus": _uuids(view, own[-1]), "time": iso_text(own[-1]["time"]),
            }
            for own in _streams(rows)
        ]
        for host, rows in _samples(view).items()
    }  # fmt: skip


def _gpu_processes(view: View) -> Any:
    found: dict[str, Any] = {}
    for host, rows in _samples(view).items():
        for own in _streams([row for row in rows if row["gpus"]]):
            uses = [
                {
                    "time": iso_text(row["time"]), "gpu_uuid": uuid, "gpu_index": index,
                    "gpu_pct": round(row["gpu_pct"] / len(_indices(row["gpus"])), 1),
                    "gpu_mem_pct": round(row["gpumem_pct"] / len(_indices(row["gpus"])), 1),
                    "gpu_model": view.cards.get((host, index), {}).get("model"),
                }
                for row in own for index, uuid in zip(_indices(row["gpus"]), _uuids(view, row), strict=True)
            ]  # fmt: skip
            found.setdefault(host, []).append({**_who(own[0]), "gpus": uses})
    return found


def _process_series(view: View) -> Any:
    return {
        host: [{**_who(own[0]), "data": iso_times(view.bucketed(own, _USE))} for own in _streams(rows)]
        for host, rows in _samples(view).items()
    }


def _uuids(view: View, row: Mapping[str, Any]) -> list[str]:
    """Return the cards of a process by their identifiers, by their numbers where these are not known."""
    return [str(view.cards.get((row["host"], index), {}).get("uuid") or index) for index in _indices(row["gpus"])]


def _indices(mask: Any) -> list[int]:
    number = int(mask or 0)
    return [] if number == UNKNOWN else [index for index in range(64) if number >> index & 1]


PATHS = (
    V2Path(
        "/cluster/{cluster}/nodes/process/gpu/util", ("reference_time_in_s", "window_in_s", "nodename"),
        "GPU use of all processes together around an instant", _gpu_use,
    ),
    V2Path("/cluster/{cluster}/processes", WINDOW, "The last sample of each process", _processes),
    V2Path("/cluster/{cluster}/processes/gpu", WINDOW, "Processes that use GPUs, sample by sample", _gpu_processes),
    V2Path("/cluster/{cluster}/processes/timeseries", WINDOW, "Use of each process over time", _process_series),
)  # fmt: skip
