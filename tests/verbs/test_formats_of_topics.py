"""The verbs about nodes and Slurm in every format, with rows and without."""

import json
from pathlib import Path

import pytest

from sonar import verbs
from sonar.verbs.declare import Reads

from tests.verbs.asking import ask, envelope, put

VERBS = [name for name in verbs.NAMES if verbs.verb(name).reads is Reads.TOPICS and name != "top"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Rows of each kind, with as little told as may be, and one of each with more."""
    time = "2024-03-01T10:00:00Z"
    put(tmp_path, "0+sysinfo-n1.json", envelope("sysinfo", time=time, node="n1", cards=[{}]))
    put(tmp_path, "sysinfo-n2.json", '{"hostname": "n2", "timestamp": "2024-03-01T10:00:00Z", "gpu_cards": 1}\n')
    system = {"gpus": [{}, {"index": 1, "performance_state": 3}], "disks": [{"name": "sda"}], "cpus": [1]}
    put(tmp_path, "0+sample-n1.json", envelope("sample", time=time, node="n1", jobs=[], system=system))
    jobs = [
        {"job_id": 1, "user_name": "ann"},
        {"job_id": 2, "user_name": "bob", "nodes": ["c[1-2]"], "start_time": time},
    ]
    put(tmp_path, "0+job-slurm.json", envelope("job", time=time, slurm_jobs=jobs))
    groups = {
        "nodes": [{"names": []}, {"names": ["n1"], "states": ["IDLE"]}],
        "partitions": [{"name": "p"}, {"nodes": ["n1"]}],
    }
    put(tmp_path, "0+cluzter-slurm.json", envelope("cluster", time=time, **groups))
    return tmp_path


def test_there_are_verbs_to_try() -> None:
    assert {"node", "card", "gpu", "sacct", "snode"} <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_format_has_every_row(verb: str, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    as_json = json.loads(ask(verb, tree, fmt="json,all"))
    native = json.loads(ask(verb, tree, fmt="native,all"))

    assert len(as_json) == len(native) >= 1
    assert [list(row) for row in native] == [list(row) for row in as_json]
    assert len(ask(verb, tree, fmt="csv,all,header").splitlines()) == len(as_json) + 1
    assert len(ask(verb, tree, fmt="fixed,all").splitlines()) == len(as_json) + 1
    assert len(ask(verb, tree, fmt="csvnamed,all,nodefaults").splitlines()) == len(as_json)
    assert {line.count(" ") for line in ask(verb, tree, fmt="awk,all").splitlines()} == {len(as_json[0]) - 1}
    empty = tmp_path_factory.mktemp("empty")
    assert ask(verb, empty, fmt="json,all") == "[]"
    assert len(ask(verb, empty, fmt="fixed,default").splitlines()) == 1
