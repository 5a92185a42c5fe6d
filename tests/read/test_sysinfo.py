"""Descriptions of nodes: every form, and what is bad in them."""

import json
from collections import Counter
from typing import Any

import pytest

from sonar.read.sysinfo import CARDS, NODES

GIB = 1 << 20


def read(*values: object) -> tuple[list[dict[str, Any]], list[dict[str, Any]], "Counter[str]"]:
    data = b"".join(json.dumps(value, indent=1).encode() + b"\n" for value in values)
    dropped: Counter[str] = Counter()
    nodes = [dict(row) for row in NODES.read(data, dropped)]
    cards = [dict(row) for row in CARDS.read(data, Counter())]
    NODES.table(nodes)  # fits its columns
    CARDS.table(cards)
    return nodes, cards, dropped


def message(**attributes: object) -> dict[str, object]:
    known = {
        "time": "2024-03-01T01:00:00+01:00", "node": "n1", "os_name": "Linux", "os_release": "5.14",
        "architecture": "x86_64", "sockets": 2, "cores_per_socket": 24, "threads_per_core": 2, "cpu_model": "EPYC",
        "memory": 251 * GIB + 1000,
    }  # fmt: skip
    return {"meta": {"version": "0.18.4"}, "data": {"type": "sysinfo", "attributes": known | attributes}}


def test_a_message_gives_a_node_and_its_cards() -> None:
    a100 = {"model": "A100", "memory": 40 * GIB, "manufacturer": "NVIDIA"}
    nodes, cards, dropped = read(
        message(cards=[{"index": 0, "uuid": "A", **a100}, {"index": 1, "uuid": "B", **a100}], numa_nodes=2,
                distances=[[10, 32], [32, 10]], topo_text="YWJj")
    )  # fmt: skip

    (node,) = nodes
    assert node["time"] == 1709251200
    assert (node["cpu_cores"], node["cards"], node["gpumem_kib"]) == (96, 2, 80 * GIB)
    assert node["description"] == "2x24 (hyperthreaded) EPYC, 251 GiB, 2x A100 @ 40GiB"
    assert (node["numa_nodes"], node["distances"], node["topo_text"]) == (2, "10 32; 32 10", "abc")
    assert [(card["host"], card["index"], card["uuid"], card["memory_kib"]) for card in cards] == [
        ("n1", 0, "A", 40 * GIB),
        ("n1", 1, "B", 40 * GIB),
    ]
    assert not dropped


def test_without_hyperthreads_and_cards_the_description_is_shorter() -> None:
    nodes, cards, _ = read(message(threads_per_core=1))

    assert nodes[0]["description"] == "2x24 EPYC, 251 GiB"
    assert (nodes[0]["cpu_cores"], nodes[0]["numa_nodes"], nodes[0]["distances"]) == (48, None, None)
    assert cards == []


@pytest.mark.parametrize(
    ("text", "build", "model", "cards"),
    [
        ("2x14 (hyperthreaded) Intel Xeon, 251 GB, 3x RTX 2080 @ 11GB", (2, 14, 2), "Intel Xeon", ("RTX 2080", 3)),
        ("2x14 (hyperthreaded) Intel Xeon, 251 GiB, 3x RTX 2080 @ 11GiB", (2, 14, 2), "Intel Xeon", ("RTX 2080", 3)),
        ("2x14 Intel Xeon, 251 GB, 3x RTX 2080 @ 11 GB", (2, 14, 1), "Intel Xeon", ("RTX 2080", 3)),
        ("2x14 Intel Xeon, 251GiB, 3x RTX 2080 @ 11 GiB", (2, 14, 1), "Intel Xeon", ("RTX 2080", 3)),
        ("2x64 AMD EPYC 7702 64-Core Processor, 503 GiB", (2, 64, 1), "AMD EPYC 7702 64-Core Processor", ("", 0)),
        ("2x64 AMD EPYC 7702 64-Core Processor, 503 GB", (2, 64, 1), "AMD EPYC 7702 64-Core Processor", ("", 0)),
        ("written by hand", (None, None, None), "", ("", 0)),
    ],
)
def test_an_old_object_is_read_from_its_text(
    text: str, build: tuple[int | None, ...], model: str, cards: tuple[str, int]
) -> None:
    known = {"timestamp": "2024-03-01T00:00:00Z", "hostname": "n2", "cpu_cores": 56, "mem_gb": 251}
    for counted in ({}, {"gpu_cards": cards[1], "gpumem_gb": 11 * cards[1]}):
        nodes, found, dropped = read(known | {"description": text} | counted)

        (node,) = nodes
        assert (node["sockets"], node["cores_per_socket"], node["threads_per_core"]) == build
        assert (node["cpu_model"], node["cpu_cores"], node["memory_kib"]) == (model, 56, 251 * GIB)
        assert [(card["index"], card["model"], card["memory_kib"]) for card in found] == [
            (at, cards[0], 11 * GIB) for at in range(cards[1])
        ]
        assert not dropped


def test_an_old_object_may_list_its_cards() -> None:
    listed = [{"bus_addr": "0:1", "index": 1, "uuid": "U", "model": "V100", "mem_size_kib": 5, "power_limit_watt": 250}]
    nodes, cards, _ = read(
        {"timestamp": "2024-03-01T00:00:00Z", "hostname": "n2", "cpu_cores": 4, "mem_gb": 8, "gpu_info": listed}
    )

    assert (nodes[0]["cards"], nodes[0]["gpumem_kib"], nodes[0]["sockets"]) == (1, 5, None)
    assert (cards[0]["address"], cards[0]["uuid"], cards[0]["power_limit"]) == ("0:1", "U", 250)


def test_forms_are_told_apart_by_content() -> None:
    nodes, _, dropped = read(
        {"timestamp": "2024-03-01T00:00:00Z", "hostname": "old", "cpu_cores": 1, "mem_gb": 1}, message()
    )

    assert [node["host"] for node in nodes] == ["old", "n1"]
    assert not dropped


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"hostname": "n", "timestamp": "yesterday"}, "bad-timestamp"),
        ({"timestamp": "2024-03-01T00:00:00Z"}, "missing-hostname"),
        ({"hostname": "n", "timestamp": "2024-03-01T00:00:00Z", "mem_gb": "big"}, "bad-mem_gb"),
        ({"hostname": "n", "timestamp": "2024-03-01T00:00:00Z", "gpu_cards": 10**9}, "bad-gpu_cards"),
        (message(node=""), "missing-node"),
        (message(time="x"), "bad-time"),
        (message(sockets=-1), "bad-sockets"),
        (message(sockets=1 << 40, cores_per_socket=1 << 40), "bad-sockets"),
        (message(distances=[1]), "bad-distances"),
        (message(cards=[1]), "bad-shape"),
        ({"errors": []}, "error-record"),
        ({"data": {"type": "sample", "attributes": {}}}, "other-type"),
        ([], "bad-shape"),
    ],
)
def test_what_is_bad_costs_itself_only(bad: object, reason: str) -> None:
    nodes, _, dropped = read(bad, message())

    assert [node["host"] for node in nodes] == ["n1"]
    assert dropped == Counter({reason: 1})


def test_a_bad_drawing_costs_the_drawing_only() -> None:
    nodes, _, dropped = read(message(topo_svg="%%%"))

    assert nodes[0]["topo_svg"] is None
    assert dropped == Counter({"bad-topo_svg": 1})
