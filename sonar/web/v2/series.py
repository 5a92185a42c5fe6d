"""How busy nodes were over time: paths of `/api/v2`."""

from typing import Any

from sonar.errors import SonarError, UsageError
from sonar.web.v2.view import WINDOW, Series, V2Path, View, by_host, iso_times

__all__ = ["PATHS"]


def _load(view: View, column: str, name: str) -> Any:
    try:
        rows = view.rows("load", {"none": ["true"], "fmt": [f"host,datetime,{column}"]})
    except UsageError:
        raise
    except SonarError:
        return {}  # nobody has told what the nodes have
    return {host: iso_times(view.bucketed(rows, {name: column})) for host, rows in by_host(rows).items()}


def _gpu(view: View) -> Any:
    found: dict[str, Any] = {}
    for host, rows in by_host(view.rows("gpu")).items():
        cards: dict[tuple[int, str], Series] = {}
        for row in rows:
            cards.setdefault((row["index"], row["uuid"]), []).append(row)
        columns = {"ce_util": "ce_util", "mem_util": "memory_util"}
        found[host] = [
            {"uuid": uuid, "index": index, "data": iso_times(view.bucketed(of_card, columns))}
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


def _disks(view: View) -> Any:
    found: dict[str, Any] = {}
    for host, rows in by_host(view.rows("diskprof")).items():
        disks: dict[tuple[int, int, str], Series] = {}
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


PATHS = (
    V2Path(
        "/cluster/{cluster}/nodes/cpu/timeseries", WINDOW, "CPU use of the nodes, percent of all cores",
        lambda view: _load(view, "rcpu", "cpu_util"),
    ),
    V2Path(
        "/cluster/{cluster}/nodes/memory/timeseries", WINDOW, "Resident memory of the nodes, percent of all",
        lambda view: _load(view, "rres", "memory_util"),
    ),
    V2Path("/cluster/{cluster}/nodes/gpu/timeseries", WINDOW, "Use of each GPU, percent", _gpu),
    V2Path("/cluster/{cluster}/nodes/diskstats/timeseries", WINDOW, "Counters of each disk, means", _disks),
)  # fmt: skip
