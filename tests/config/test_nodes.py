"""The description of nodes: both versions of the file, ranges, and what is said about a wrong one."""

import json
from pathlib import Path
from typing import Any

import pytest

from sonar.config.nodes import Node, combined, read_nodes
from sonar.errors import SonarError

_NODE = {"hostname": "n1.x", "cpu_cores": 8, "mem_gb": 64}


def _file(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "nodes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_array_of_nodes_is_read(tmp_path: Path) -> None:
    full = {
        **_NODE,
        "description": "8 cores",
        "gpu_cards": 2,
        "gpumem_gb": 22,
        "gpumem_pct": True,
        "cross_node_jobs": True,
        "# note": 1,
    }

    nodes = read_nodes(_file(tmp_path, [full]))

    assert nodes == {"n1.x": Node("n1.x", "8 cores", 8, 64, 2, 22, gpumem_pct=True, cross_node_jobs=True)}


def test_object_with_nodes_is_read_and_ranges_are_copied_to_each_name(tmp_path: Path) -> None:
    content = {"name": "fox.example.org", "aliases": ["fox"], "nodes": [{**_NODE, "hostname": "c1-[5-7,9].fox"}]}

    nodes = read_nodes(_file(tmp_path, content))

    assert list(nodes) == ["c1-5.fox", "c1-6.fox", "c1-7.fox", "c1-9.fox"]
    assert nodes["c1-9.fox"] == Node("c1-9.fox", "", 8, 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (5, "Expected an array value"),
        ({"name": "x"}, "Expected an array value"),
        ([5], "Expected an object value"),
        ([{}], "Field 'hostname' must be present and have a string value"),
        ([{**_NODE, "hostname": 1}], "Field 'hostname' must be present"),
        ([{**_NODE, "hostname": "n*"}], "Suffix wildcard not allowed"),
        ([{**_NODE, "hostname": "n[2-1]"}], "Backward range"),
        ([{**_NODE, "description": 1}], "Field 'description' must have a string value"),
        ([{"hostname": "n1", "mem_gb": 1}], "Field 'cpu_cores' must be present and have an integer value"),
        ([{**_NODE, "cpu_cores": "8"}], "Field 'cpu_cores' must be present and have an integer value"),
        ([{**_NODE, "cpu_cores": True}], "Field 'cpu_cores' must be present and have an integer value"),
        ([{**_NODE, "cpu_cores": 56.7}], "Field 'cpu_cores' must have unsigned integer value"),
        ([{**_NODE, "mem_gb": -1}], "Field 'mem_gb' must have unsigned integer value"),
        ([{**_NODE, "mem_gb": 10**30}], "Field 'mem_gb' must have unsigned integer value"),
        ([{**_NODE, "gpu_cards": "2"}], "Field 'gpu_cards' must have an integer value"),
        ([{**_NODE, "gpumem_pct": 1}], "Field 'gpumem_pct' must have a boolean value"),
        ([{**_NODE, "gpumem_gb": 8}], "Without gpu_cards there should be no gpumem_gb or gpumem_pct"),
        ([{**_NODE, "gpumem_pct": True}], "Without gpu_cards there should be no gpumem_gb or gpumem_pct"),
        ([_NODE, {**_NODE, "hostname": "n[1-2].x"}], "System info for host n1.x already defined"),
        ("[", "line 1 column"),
        ("[" * 100_000, "nodes.json"),
    ],
)
def test_wrong_description_is_told_with_file_and_node(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(SonarError, match=message) as caught:
        read_nodes(_file(tmp_path, content))

    assert "nodes.json" in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SonarError, match=r"No such file or directory: '.*absent\.json'"):
        read_nodes(tmp_path / "absent.json")


def test_nodes_are_combined_by_adding_what_they_have() -> None:
    nodes = [Node("a", "left", 8, 64, 2, 22, gpumem_pct=True), Node("b", "right", 4, 32)]

    assert combined(nodes, "a,b") == Node("a,b", "left|||right", 12, 96, 2, 22)
