"""sonalyze dossier: all that is known of a job in a directory or a tar file, with words for names on request."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.cli.test_sonalyze import answer, sonalyze

NAMES = ("ann", "bob", "n1.secret", "nn1234", "topsecret")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Job 7 of ann, one of its commands has her name in it, on a host where bob runs job 8."""
    day = tmp_path / "sonar" / "data" / "2024" / "01" / "10"
    day.mkdir(parents=True)
    lines = [
        f"v=0.13.0,time=2024-01-10T10:{minute:02}:00Z,host=n1.secret,user={user},job={job},epoch=0,pid={job},cmd={cmd},"
        f"cputime_sec={minute * 60},rssanonkib=1048576\n"
        for minute in range(0, 21, 5)
        for user, job, cmd in (("ann", 7, "ann-run"), ("bob", 8, "x"))
    ]
    (day / "n1.secret.csv").write_text("".join(lines))
    told = {
        "job_id": 7, "job_name": "topsecret", "user_name": "ann", "account": "nn1234", "partition": "normal",
        "job_state": "COMPLETED", "start_time": "2024-01-10T10:00:00Z", "end_time": "2024-01-10T10:21:00Z",
        "requested_cpus": 4, "nodes": ["n1.secret"],
    }  # fmt: skip
    data = {"type": "job", "attributes": {"time": "2024-01-10T11:00:00Z", "slurm_jobs": [told]}}
    (day / "0+job-slurm.json").write_text(json.dumps({"meta": {"producer": "sonar"}, "data": data}) + "\n")
    return tmp_path


def test_directory_has_reports_tables_and_their_sums(place: Path) -> None:
    assert answer(place, "dossier", "7", "-o", "d") == ""

    files = {path.name: path.read_bytes() for path in (place / "d").iterdir()}
    assert set(files) == {
        "report.txt", "explain.txt", "job.json", "hosts.parquet", "samples.parquet", "dossier.json"
    }  # fmt: skip
    assert files["report.txt"].decode() == answer(place, "job", "7")
    assert files["explain.txt"].decode() == answer(place, "explain", "7")
    (job,) = json.loads(files["job.json"])
    assert (job["job"], job["user"], job["host"], job["Account"]) == (7, "ann", ["n1.secret"], "nn1234")
    samples = parquet.read_table(io.BytesIO(files["samples.parquet"]))
    assert samples.column("user").to_pylist() == ["ann"] * 5
    facts = json.loads(files["dossier.json"])
    assert (facts["job"], facts["from"], facts["pseudonyms"]) == (7, "2024-01-10T10:00:00Z", False)
    assert facts["sha256"] == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != "dossier.json"
    }


@pytest.mark.parametrize("name", ["d.tar", "d.tar.gz", "d.tgz"])
def test_names_are_replaced_in_every_file(place: Path, name: str) -> None:
    assert answer(place, "dossier", "--job=7", "--pseudonyms", "--output", name) == ""

    with tarfile.open(place / name) as archive:
        files = {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]
    assert {path.partition("/")[0] for path in files} == {"d"}
    tables = [parquet.read_table(io.BytesIO(content)) for path, content in files.items() if path.endswith("parquet")]
    told = [content.decode() for path, content in files.items() if not path.endswith("parquet")]
    told += [repr(table.to_pylist()) for table in tables]
    for text in told:
        assert not [secret for secret in NAMES if secret in text]
    (job,) = json.loads(files["d/job.json"])
    assert (job["user"], job["host"], job["cmd"], job["Account"]) == ("user1", ["host1"], "user1-run", "account1")
    assert job["JobName"] == "job1"
    assert "Job 7  user1  job1 " in files["d/report.txt"].decode()


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (("7",), 2, "sonalyze: Option --output is required"),
        (("9", "-o", "new"), 1, "ERROR: No samples of job 9 in this time: see --from and --user"),
        (("7", "-o", "sonar"), 1, "ERROR: File exists: 'sonar'"),
        (("7", "-o", "absent/d.tar"), 1, "ERROR: No such file or directory: 'absent/d.tar'"),
        (("-o", "new"), 1, "ERROR: Exactly one job number is required"),
        (("7", "-o", "new", "--remote=x"), 2, "sonalyze: dossier reads the log itself: --remote cannot be used"),
    ],
)
def test_mistakes_leave_nothing(place: Path, argv: tuple[str, ...], status: int, message: str) -> None:
    done = sonalyze(place, "dossier", *argv)

    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert [path.name for path in place.iterdir()] == ["sonar"]
