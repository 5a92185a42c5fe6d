"""The description of a cluster's nodes: what each has, for values relative to capacity.

The file is JSON: an array of node objects, or an object whose `nodes` is that array. Keys that are not known, such as
comments that begin with `#`, are ignored. Host names may be patterns with ranges and stand for several nodes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sonar.errors import SonarError
from sonar.hosts import expand, split_list

__all__ = ["Node", "NodeTable", "combined", "read_nodes"]


@dataclass(frozen=True, slots=True)
class Node:
    """One node. Memory is in GiB; `gpumem_gb` is that of all cards together."""

    hostname: str
    description: str
    cpu_cores: int
    mem_gb: int
    gpu_cards: int = 0
    gpumem_gb: int = 0
    gpumem_pct: bool = False  # prefer the percentage reading of GPU memory over the one in KiB
    cross_node_jobs: bool = False


NodeTable = Mapping[str, Node]


def read_nodes(path: Path) -> NodeTable:
    """Return the nodes by host name. Raise SonarError naming file, entry and key."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise SonarError(f"{error.strerror}: '{path}'") from error
    except ValueError as error:
        raise SonarError(f"'{path}': {error}") from error
    if isinstance(content, dict):
        content = content.get("nodes")
    if not isinstance(content, list):
        raise SonarError(f"'{path}': Expected an array value")
    nodes: dict[str, Node] = {}
    for number, entry in enumerate(content):
        try:
            node = _node(entry)
            for name in (name for pattern in split_list(node.hostname) for name in expand(pattern)):
                if name in nodes:
                    raise SonarError(f"System info for host {name} already defined")
                nodes[name] = replace(node, hostname=name)
        except SonarError as error:
            raise SonarError(f"'{path}', entry {number}: {error}") from error
    return nodes


def combined(nodes: list[Node], hostname: str) -> Node:
    """Return what these nodes have together: numbers added, descriptions joined by `|||`."""
    return Node(
        hostname=hostname,
        description="|||".join(node.description for node in nodes),
        cpu_cores=sum(node.cpu_cores for node in nodes),
        mem_gb=sum(node.mem_gb for node in nodes),
        gpu_cards=sum(node.gpu_cards for node in nodes),
        gpumem_gb=sum(node.gpumem_gb for node in nodes),
    )


def _node(entry: Any) -> Node:
    if not isinstance(entry, dict):
        raise SonarError("Expected an object value")
    hostname = entry.get("hostname")
    if not isinstance(hostname, str):
        raise SonarError("Field 'hostname' must be present and have a string value")
    description = entry.get("description", "")
    if not isinstance(description, str):
        raise SonarError("Field 'description' must have a string value")
    cards = _optional_count(entry, "gpu_cards")
    if cards is None and ("gpumem_gb" in entry or "gpumem_pct" in entry):
        raise SonarError("Without gpu_cards there should be no gpumem_gb or gpumem_pct")
    return Node(
        hostname=hostname,
        description=description,
        cpu_cores=_count(entry, "cpu_cores"),
        mem_gb=_count(entry, "mem_gb"),
        gpu_cards=cards or 0,
        gpumem_gb=_optional_count(entry, "gpumem_gb") or 0,
        gpumem_pct=_flag(entry, "gpumem_pct"),
        cross_node_jobs=_flag(entry, "cross_node_jobs"),
    )


def _count(entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SonarError(f"Field '{key}' must be present and have an integer value")
    if not isinstance(value, int) or value < 0:
        raise SonarError(f"Field '{key}' must have unsigned integer value")
    return value


def _optional_count(entry: Mapping[str, Any], key: str) -> int | None:
    return _count(entry, key) if key in entry else None


def _flag(entry: Mapping[str, Any], key: str) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise SonarError(f"Field '{key}' must have a boolean value")
    return value
