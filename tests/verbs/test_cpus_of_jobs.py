"""The CPUs of a job of the batch system are those of all its nodes: what it got, else what it asked for."""

from pathlib import Path

import pytest

from tests.verbs.asking import envelope, put, rows

ASKED = {"requested_cpus": 40, "requested_node_count": 2}


@pytest.mark.parametrize(
    ("told", "cpus"),
    [
        (ASKED, 40),
        (ASKED | {"allocated_resources": "billing=9,cpu=80,mem=4G,node=2"}, 80),
        (ASKED | {"sacct": {"AllocTRES": "cpu=64,node=2"}}, 64),
        (ASKED | {"allocated_resources": "gres/gpu=4"}, 40),
        ({}, 0),
    ],
)
def test_cpus_times_elapsed_time_is_what_was_there_to_use(tmp_path: Path, told: dict[str, object], cpus: int) -> None:
    sacct = {"ElapsedRaw": 100, "UserCPU": 1500, "SystemCPU": 100} | told.get("sacct", {})  # type: ignore[operator]
    job = {"job_id": 7, "user_name": "ann", "job_state": "COMPLETED"} | told | {"sacct": sacct}
    put(tmp_path, "0+job-slurm.json", envelope("job", time="2024-03-01T03:00:00Z", slurm_jobs=[job]))

    share = round(1600 / cpus) if cpus else 0
    assert rows("sacct", tmp_path, "RequestedCPU,UsedCPU,rcpu") == [
        {"RequestedCPU": str(cpus * 100), "UsedCPU": "1600", "rcpu": str(share)}
    ]
    assert len(rows("sacct", tmp_path, "JobID", min_reserved_cores="64")) == (cpus >= 64)
