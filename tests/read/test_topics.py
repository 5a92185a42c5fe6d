"""What is no sample, whatever its bytes: readers never fail, drop what is bad, and keep what is good beside it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonar.read.slurm import JOBS, NODE_STATES, PARTITIONS
from sonar.read.sysinfo import CARDS, NODES
from sonar.read.system import CPUS, DISKS, GPUS, LOADS
from sonar.read.topics import Topic, TopicScan
from sonar.verbs.query import Window

TOPICS = [NODES, CARDS, JOBS, PARTITIONS, NODE_STATES, CPUS, GPUS, DISKS, LOADS]
each_topic = pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)

# Keys that readers look for, and texts that they try to make something of.
_KEYS = [
    "meta", "data", "type", "attributes", "time", "node", "system", "cpus", "gpus", "disks", "stats", "jobs", "errors",
    "slurm_jobs", "job_id", "job_step", "nodes", "names", "states", "partitions", "name", "sacct", "UserCPU",
    "time_limit", "array_job_id", "cards", "memory", "sockets", "distances", "topo_svg", "index", "uuid", "boot",
    "hostname", "timestamp", "description", "gpu_cards", "gpumem_gb", "gpu_info", "performance_state", "load1",
]  # fmt: skip
_TEXTS = [
    "2024-03-01T10:00:00Z",
    "n1",
    "sample",
    "sysinfo",
    "job",
    "cluster",
    "c1-[5-7]",
    "[",
    "c[3-1]",
    "",
    "YQ=",
    "P8",
]
_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(_TEXTS)
    | st.text(max_size=8)
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=6),
    max_leaves=30,
)


def good(topic: Topic) -> dict[str, Any]:
    """Return a message that a topic has one row of."""
    attributes: dict[str, Any] = {"time": "2024-03-01T10:00:00Z", "node": "n1"}
    kind = "sample"
    if topic in (NODES, CARDS):
        kind, attributes["sockets"], attributes["cards"] = "sysinfo", 1, [{"index": 0}]
    elif topic is JOBS:
        kind, attributes["slurm_jobs"] = "job", [{"job_id": 5}]
    elif topic in (PARTITIONS, NODE_STATES):
        kind = "cluster"
        attributes |= {"partitions": [{"name": "p", "nodes": ["n1"]}], "nodes": [{"names": ["n1"], "states": ["IDLE"]}]}
    else:
        attributes["system"] = {"cpus": [1], "gpus": [{}], "disks": [{"name": "sda"}], "load1": 1}
    return {"data": {"type": kind, "attributes": attributes}}


def mutated(value: Any, path: list[int], instead: Any) -> Any:
    """Return a value with one of its parts, found by some numbers, replaced by something else."""
    if not path or not isinstance(value, dict | list) or not value:
        return instead
    if isinstance(value, dict):
        key = sorted(value)[path[0] % len(value)]
        return {**value, key: mutated(value[key], path[1:], instead)}
    at = path[0] % len(value)
    return [*value[:at], mutated(value[at], path[1:], instead), *value[at + 1 :]]


@each_topic
@settings(max_examples=80, deadline=None)
@given(values=st.lists(_values, max_size=3), path=st.lists(st.integers(0, 9), max_size=6), instead=_values)
def test_any_json_beside_a_good_message_costs_itself_only(
    topic: Topic, values: list[Any], path: list[int], instead: Any
) -> None:
    known = good(topic)
    lines = [json.dumps(value) for value in [*values, mutated(known, path, instead), known]]
    dropped: Counter[str] = Counter()

    rows = list(topic.read("\n".join([*lines, ""]).encode(), dropped))

    assert topic.table(rows).num_rows == len(rows)
    (last,) = topic.read(json.dumps(known).encode(), Counter())
    assert rows[-1] == last
    assert all(reason and " " not in reason for reason in dropped)


@each_topic
@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200) | st.builds(lambda text: b"v=0.13.0,load=" + text, st.binary(max_size=80)))
def test_any_bytes_are_read(topic: Topic, data: bytes) -> None:
    rows = list(topic.read(data, Counter()))

    assert topic.table(rows).num_rows == len(rows)


_TAGS = [
    "v", "time", "host", "load", "gpuinfo", "JobID", "JobIDRaw", "End", "ReqMem", "ExitCode", "UserCPU", "NodeList",
    "TimelimitRaw", "State", "User",
]  # fmt: skip
_VALUES = [
    "0.1.0", "2024-03-01T10:00:00Z", "n1", "(a0b", "fan%=1|2", "perf=P8|x", "5", "5_3", "5+[1-2]", "5.0", "4Gc", "1:2",
    "c1-[5-6]", "c1-[6", "UNLIMITED", "Unknown", "",
]  # fmt: skip
_FIELDS = st.builds("{}={}".format, st.sampled_from(_TAGS), st.sampled_from(_VALUES) | st.text(max_size=6))


@pytest.mark.parametrize("topic", [JOBS, CPUS, GPUS], ids=lambda topic: topic.name)
@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(_FIELDS, max_size=8), max_size=4))
def test_any_record_is_read(topic: Topic, records: list[list[str]]) -> None:
    rows = list(topic.read("\n".join(",".join(fields) for fields in records).encode(), Counter()))

    assert topic.table(rows).num_rows == len(rows)


def test_files_are_read_by_name_and_day_and_what_is_dropped_is_counted(tmp_path: Path) -> None:
    day = tmp_path / "2024" / "03" / "01"
    day.mkdir(parents=True)
    (day / "0+sysinfo-n1.json").write_text(json.dumps(good(NODES)) + "\n{}\nnot json\n")
    (day / "0+sysinfo-n2.txt").write_text(json.dumps(good(NODES)))
    (day / "n1.csv").write_text("v=0.1,x=y\n")
    window = Window(1709251200, 1709251200 + 86399)
    scan = TopicScan(tmp_path, window)

    assert scan.table(NODES).num_rows == 1
    assert [path.name for path in scan.files] == ["0+sysinfo-n1.json"]
    assert scan.discarded == {
        (day / "0+sysinfo-n1.json", "missing-hostname"): 1,
        (day / "0+sysinfo-n1.json", "bad-json"): 1,
    }
    assert TopicScan(tmp_path, Window(0, 1709251199)).table(NODES).num_rows == 0
    assert TopicScan(tmp_path, Window(1709287200, 1709287200)).table(NODES).num_rows == 1
