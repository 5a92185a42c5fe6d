"""What samples tell of the node as a whole: cores, cards, disks, load."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.read.json_objects import BadShapeError
from sonar.read.system import CPUS, DISKS, GPUS, LOADS, decoded_load
from sonar.read.topics import Topic

FIRST = "(){}[]<>+-abcdefghijklmnopqrstuvwxyz!@#$%^&*_"
MORE = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ~|';:.?/`"


def read(topic: Topic, data: str) -> tuple[list[dict[str, Any]], "Counter[str]"]:
    dropped: Counter[str] = Counter()
    rows = [dict(row) for row in topic.read(data.encode(), dropped)]
    topic.table(rows)  # fits its columns
    return rows, dropped


def message(system: object, **attributes: object) -> str:
    known = {"time": "2024-03-01T10:00:00Z", "node": "n1", "jobs": [], "system": system}
    return json.dumps({"meta": {}, "data": {"type": "sample", "attributes": known | attributes}}) + "\n"


def encoded(number: int) -> str:
    """Write a number to base 45, little endian: the first digit from one alphabet, more from the other."""
    text, number = FIRST[number % 45], number // 45
    while number:
        text, number = text + MORE[number % 45], number // 45
    return text


def test_numbers_are_digits_to_base_45_after_the_one_to_add() -> None:
    assert decoded_load("(&J") == [897]
    assert decoded_load("&J(") == [897]
    assert decoded_load("){&J(`") == [1 + 2, 1 + 897, 1 + 44 * 45]


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**9), min_size=1, max_size=300))
def test_loads_are_read_as_they_were_written(base: int, rest: list[int]) -> None:
    text = "".join(map(encoded, (base, *rest)))

    assert decoded_load(text) == [base + number for number in rest]


@pytest.mark.parametrize("text", ["", "(", "0(", "(é", "(" + "`" * 80])
def test_a_bad_load_is_refused(text: str) -> None:
    with pytest.raises(BadShapeError, match="bad-load"):
        decoded_load(text)


def test_cores_of_messages_and_of_records() -> None:
    rows, dropped = read(CPUS, message({"cpus": [120, 118]}) + message({"cpus": []}) + message(None))
    assert (rows, dropped) == ([{"time": 1709287200, "host": "n1", "seconds": [120, 118]}], Counter())

    line = "v=0.12.0,time=2024-03-01T10:00:00Z,host=n2,user=a,cmd=b,load="
    rows, dropped = read(CPUS, f"{line}()))\n{line.replace('load=', 'job=1')}\n{line}é\n{line}\n")
    assert rows == [{"time": 1709287200, "host": "n2", "seconds": [1, 1, 1]}]
    assert dropped == Counter({"bad-load": 1})


def test_cards_of_messages() -> None:
    sparse = [{"uuid": "GPU-aa", "memory": 2048}, {"index": 1, "uuid": "GPU-bb", "ce_util": 40, "temperature": -3}]
    rows, _ = read(GPUS, message({"gpus": [*sparse, {"index": 2, "failing": 1, "performance_state": 9}]}))

    assert [(row["index"], row["uuid"], row["memory_kib"], row["ce_util"], row["temperature"]) for row in rows] == [
        (0, "GPU-aa", 2048, 0, 0),
        (1, "GPU-bb", 0, 40, -3),
        (2, "", 0, 0, 0),
    ]
    assert [(row["failing"], row["performance_state"]) for row in rows] == [(0, None), (0, None), (1, 8)]


def test_cards_of_records() -> None:
    line = 'v=0.13.0,time=2024-03-01T10:00:00Z,host=n2,user=a,cmd=b,"gpuinfo={}"\n'
    good, bad = "fan%=27|28,perf=P8|P8,musekib=1014720|,poww=4|1", "fan%=27|many"
    zeros = ("failing", "ce_util", "memory_util", "temperature", "power_limit", "ce_clock", "memory_clock")
    common = {"time": 1709287200, "host": "n2", "uuid": "", "compute_mode": "Default", "performance_state": 8}
    common |= dict.fromkeys(zeros, 0)

    rows, dropped = read(GPUS, line.format(good) + line.format(bad))

    assert rows == [
        common | {"index": 0, "fan": 27, "memory_kib": 1014720, "power": 4},
        common | {"index": 1, "fan": 28, "memory_kib": 0, "power": 1},
    ]
    assert dropped == Counter({"bad-gpuinfo": 1})


def test_disks_of_old_kernels_have_fewer_counters() -> None:
    rows, _ = read(DISKS, message({"disks": [{"name": "sda", "major": 8, "minor": 0, "stats": list(range(1, 12))}]}))

    assert (rows[0]["name"], rows[0]["ms_reading"], rows[0]["ms_writing"], rows[0]["ms_flushing"]) == ("sda", 4, 8, 0)


def test_load_and_memory_of_the_node() -> None:
    system = {"boot": "2024-02-20T07:00:11+01:00", "used_memory": 7340032, "load1": 1.5, "runnable_entities": 3}
    rows, _ = read(LOADS, message(system) + message({"cpus": [1]}) + message(None))

    assert [(row["boot"], row["used_memory_kib"], row["load1"], row["runnable_entities"]) for row in rows] == [
        (1708408811, 7340032, 1.5, 3),
        (None, 0, 0, 0),
    ]


def test_a_bad_system_costs_its_message_only() -> None:
    rows, dropped = read(LOADS, message({"load1": "high"}) + message({"load1": 1}))

    assert [row["load1"] for row in rows] == [1]
    assert dropped == Counter({"bad-load1": 1})
