"""What clusters and nodes are: paths of `/api/v2`."""

from typing import Any

from sonar.errors import SonarError
from sonar.hosts import HostPatterns
from sonar.times import iso_text
from sonar.web.v2.view import MOMENT, V2Path, View

__all__ = ["PATHS"]


def _clusters(view: View) -> Any:
    found = []
    for name in view.asker.cluster_names():
        of_one = View(view.asker, name, {})
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


def _info(view: View) -> Any:
    found: dict[str, Any] = {}
    for host, node in (view.asker.clusters.nodes(view.cluster) or {}).items():
        if not view.hosts or HostPatterns.parse(view.hosts).match(host):
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


def _last_probe(view: View) -> Any:
    return {host: iso_text(seen) for host, seen in sorted(view.seen.items())}


def _no_errors(_view: View) -> Any:
    return {}


PATHS = (
    V2Path("/cluster", ("time_in_s",), "The clusters, with their nodes and partitions", _clusters),
    V2Path("/cluster/{cluster}/nodes/info", MOMENT, "What the nodes have, as they or the description told", _info),
    *(
        V2Path(f"/cluster/{{cluster}}/nodes/{name}", MOMENT, "When each node was heard of last", _last_probe)
        for name in ("last-probe-timestamp", "last_probe_timestamp")
    ),
    *(
        V2Path(f"/cluster/{{cluster}}/{name}", MOMENT, "Errors that nodes told of: none are kept", _no_errors)
        for name in ("error-messages", "error_messages")
    ),
)
