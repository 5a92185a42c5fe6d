"""The description of a cluster's nodes (cluster-config.json): capacities that relative values are computed from.

Version 1 of the file is an array of nodes, version 2 an object whose member `nodes` is that array. Host names may hold
ranges (`c1-[5-7].fox`); each name gets a copy of the description. Unknown members are ignored.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from sonar import hosts
from sonar.errors import SonarError

__all__ = ["Node", "NodeTable", "combined", "read_json_description", "read_nodes"]

_LARGEST_FILE = 64 << 20
_LARGEST_NUMBER = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Node:
    """What one node has. GPU memory is of all its cards together; memory is in GiB."""

    hostname: str
    description: str
    cpu_cores: int
    mem_gb: int
    gpu_cards: int = 0
    gpumem_gb: int = 0
    gpumem_pct: bool = False  # of the two readings of GPU memory in a sample, believe the percentage
    cross_node_jobs: bool = False  # job numbers are those of a batch system, unique in the cluster


NodeTable: TypeAlias = Mapping[str, Node]


def read_nodes(path: Path) -> NodeTable:
    """Return the nodes of a file by their full names; raise SonarError naming the file and the node that is wrong.

    A file `NAME.conf` is a description as sonar-cluster(5) has it; any other is JSON.
    """
    from sonar.config.description import read_described

    return read_described(path).nodes


def read_json_description(path: Path) -> tuple[Mapping[str, Any], NodeTable]:
    """Return the members beside the nodes (version 2 has some) and the nodes of a JSON file; raise as `read_nodes`."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise SonarError(f"{error.strerror}: '{path}'") from None
    if len(data) > _LARGEST_FILE:
        raise SonarError(f"'{path}': larger than {_LARGEST_FILE} bytes")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SonarError(f"'{path}': {error}") from None
    described = content.get("nodes") if isinstance(content, dict) else content
    if not isinstance(described, list):
        raise SonarError(f"'{path}': Expected an array value")
    nodes: dict[str, Node] = {}
    for number, one in enumerate(described, 1):
        try:
            _add(nodes, one)
        except SonarError as error:
            raise SonarError(f"'{path}': node {number}: {error}") from None
    return content if isinstance(content, dict) else {}, nodes


def combined(nodes: Sequence[Node], hostname: str) -> Node:
    """Return what these nodes have together: numbers added, descriptions joined by `|||`."""
    return Node(
        hostname=hostname,
        description="|||".join(node.description for node in nodes),
        cpu_cores=sum(node.cpu_cores for node in nodes),
        mem_gb=sum(node.mem_gb for node in nodes),
        gpu_cards=sum(node.gpu_cards for node in nodes),
        gpumem_gb=sum(node.gpumem_gb for node in nodes),
    )


def _add(nodes: dict[str, Node], described: Any) -> None:
    if not isinstance(described, dict):
        raise SonarError("Expected an object value")
    pattern = described.get("hostname")
    if not isinstance(pattern, str):
        raise SonarError("Field 'hostname' must be present and have a string value")
    description = described.get("description", "")
    if not isinstance(description, str):
        raise SonarError("Field 'description' must have a string value")
    cpu_cores = _whole(described, "cpu_cores", required=True)
    mem_gb = _whole(described, "mem_gb", required=True)
    gpu_cards = _whole(described, "gpu_cards")
    gpumem_gb = _whole(described, "gpumem_gb")
    gpumem_pct = _truth(described, "gpumem_pct")
    cross_node_jobs = _truth(described, "cross_node_jobs")
    if not gpu_cards and (gpumem_gb or gpumem_pct):
        raise SonarError(f"Without gpu_cards there should be no gpumem_gb or gpumem_pct, host {pattern}")
    names = hosts.expand(pattern)
    if len(nodes) + len(names) > hosts.LARGEST_EXPANSION:
        raise SonarError(f"more than {hosts.LARGEST_EXPANSION} nodes")
    for name in names:
        if name in nodes:
            raise SonarError(f"System info for host {name} already defined")
        nodes[name] = Node(
            name, description, cpu_cores, mem_gb, gpu_cards, gpumem_gb, gpumem_pct, cross_node_jobs
        )  # fmt: skip


def _whole(described: dict[str, Any], name: str, *, required: bool = False) -> int:
    value = described.get(name, None if required else 0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SonarError(f"Field '{name}' must {'be present and ' if required else ''}have an integer value")
    if not isinstance(value, int) or not 0 <= value <= _LARGEST_NUMBER:
        raise SonarError(f"Field '{name}' must have unsigned integer value")
    return value


def _truth(described: dict[str, Any], name: str) -> bool:
    value = described.get(name, False)
    if not isinstance(value, bool):
        raise SonarError(f"Field '{name}' must have a boolean value")
    return value
