"""Capacities of nodes from what they told of themselves, for where no configuration file describes them."""

from typing import TYPE_CHECKING

from sonar.config.nodes import Node, NodeTable
from sonar.times import DAY

if TYPE_CHECKING:
    from sonar.read.topics import TopicScan

__all__ = ["stored_nodes", "whole_gb"]

_KIB_PER_GB = 1 << 20
_DAYS_BACK = 14  # nodes describe themselves daily; one that was down for longer has had its chance


def stored_nodes(topics: "TopicScan", start: int, end: int) -> NodeTable:
    """Return for each node its newest description before `end`, looked for from `start`, or two weeks back."""
    from sonar.read.sysinfo import NODES

    newest = topics.newest(NODES, min(start, end - _DAYS_BACK * DAY), end)
    return {
        row["host"]: Node(
            hostname=row["host"],
            description=row["description"],
            cpu_cores=row["cpu_cores"],
            mem_gb=whole_gb(row["memory_kib"]),
            gpu_cards=row["cards"],
            gpumem_gb=whole_gb(row["gpumem_kib"]),
        )
        for row in newest.to_pylist()
    }


def whole_gb(kib: float) -> int:
    """Return GiB, rounded half up."""
    return int((kib + _KIB_PER_GB / 2) // _KIB_PER_GB)
