"""Worked examples of streams, merging and windows, through the command line as users see it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SONALYZE = Path(__file__).resolve().parents[2] / "libexec" / "sonalyze"
DAY = "2024-03-01T"


def sonalyze(directory: Path, *argv: str) -> str:
    done = subprocess.run(
        [sys.executable, SONALYZE, *argv],
        cwd=directory,
        env={"HOME": str(directory), "LOGNAME": "nobody", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def lines(job: int, user: str, cmd: str, pid: int, rows: list[tuple[str, float, float]], **more: object) -> list[str]:
    """Return tagged records: (time, CPU seconds, mean CPU %)."""
    extra = {"host": "n1.x.no", "cpukib": 1 << 20} | more
    tags = ",".join(f"{name}={value}" for name, value in extra.items())
    return [
        f"v=0.7.1,time={time if 'T' in time else DAY + time}Z,user={user},cmd={cmd},job={job},pid={pid},cores=8,"
        f"cputime_sec={used},cpu%={mean},{tags}"
        for time, used, mean in rows
    ]


@pytest.fixture
def log(tmp_path: Path):  # type: ignore[no-untyped-def]
    def write(*groups: list[str]) -> Path:
        (tmp_path / "x.csv").write_text("".join(line + "\n" for group in groups for line in group))
        return tmp_path

    return write


def utils(output: str) -> list[tuple[str, float]]:
    return [(row["time"][11:19], float(row["cpu_util_pct"])) for row in json.loads(output)]


SIM = lines(
    100, "ann", "sim", 11,
    [("10:00:00", 300, 90), ("10:05:00", 900, 95), ("10:06:00", 930, 95), ("10:06:05", 935, 95),
     ("10:10:00", 920, 95), ("10:15:00", 1220, 95)],
)  # fmt: skip
POST = lines(
    100, "ann", "post", 12,
    [("10:00:00", 30, 10), ("10:05:00", 60, 10), ("10:05:00", 999, 10)], cpukib=1 << 19,
)  # fmt: skip


def test_cleaning_drops_a_duplicate_and_a_falling_counter(log) -> None:  # type: ignore[no-untyped-def]
    output = sonalyze(log(SIM), "parse", "--clean", "--fmt=json,time,cpu_util_pct", "--", "x.csv")

    assert utils(output) == [
        ("10:00:00", 90.0),
        ("10:05:00", 200.0),
        ("10:06:00", 50.0),
        ("10:06:05", 100.0),
        # 10:10:00 fell by 15 s and is dropped; 10:15:00 has reached the last kept value again and bridges it.
        ("10:15:00", (1220 - 935) / 535 * 100),
    ]


def test_a_process_that_ended_a_minute_ago_counts_once_more(log) -> None:  # type: ignore[no-untyped-def]
    output = sonalyze(
        log(SIM, POST), "parse", "--merge-by-host-and-job", "--fmt=json,time,cpu_util_pct,rolledup", "--", "x.csv"
    )

    steps = [(time, util) for time, util in utils(output)][:4]
    assert steps == [("10:00:00", 100.0), ("10:05:00", 210.0), ("10:06:00", 60.0), ("10:06:05", 100.0)]
    assert [row["rolledup"] for row in json.loads(output)] == ["1", "1", "1", "0", "0"]


def test_a_job_over_hosts_is_one_row_with_batch(log) -> None:  # type: ignore[no-untyped-def]
    directory = log(
        lines(200, "ann", "mpi", 11, [("10:00:00", 10, 100), ("10:05:00", 310, 100), ("10:10:00", 610, 100)]),
        lines(
            200, "ann", "mpi", 71, [("10:00:04", 5, 50), ("10:05:12", 159, 50), ("10:10:09", 307, 50)], host="n2.x.no"
        ),
        lines(200, "ann", "mpi", 31, [("10:09:30", 7, 70)], host="n3.x.no"),
    )
    fmt = "--fmt=csv,job,host,cpu-avg,cpu-peak,mem-avg,mem-peak,duration"

    together = sonalyze(directory, "jobs", "-u-", "--batch", fmt, "--", "x.csv")
    apart = sonalyze(directory, "jobs", "-u-", "--min-samples=1", fmt, "--", "x.csv")

    assert together == "200,n[1-3].x.no,118,220,2,3,0d 0h10m\n"
    assert [row.split(",")[1:4] for row in apart.splitlines()] == [
        ["n1.x.no", "100", "100"],
        ["n2.x.no", "50", "50"],
        ["n3.x.no", "70", "70"],
    ]


def test_short_processes_at_minute_sampling_have_a_tail(log) -> None:  # type: ignore[no-untyped-def]
    shorts = [lines(400, "ann", "abc"[at], 2 + at, [(f"10:0{at}:00", 1, 40)]) for at in range(3)]
    directory = log(
        lines(400, "ann", "a", 1, [("10:00:00", 100, 100), ("10:01:00", 160, 100), ("10:02:00", 220, 100),
                                   ("10:03:01", 281, 100)]),
        *shorts,
    )  # fmt: skip

    output = sonalyze(directory, "parse", "--merge-by-host-and-job", "--fmt=json,time,cpu_util_pct", "--", "x.csv")

    assert utils(output) == [("10:00:00", 140.0), ("10:01:00", 180.0), ("10:02:00", 180.0), ("10:03:01", 100.0)]


def test_the_first_sample_of_a_window_knows_its_predecessor(log) -> None:  # type: ignore[no-untyped-def]
    directory = log(
        lines(300, "ann", "x", 11, [("2024-03-01T23:55:00", 100, 20), ("2024-03-02T00:00:00", 400, 25),
                                    ("2024-03-02T00:05:00", 550, 30)])
    )  # fmt: skip

    output = sonalyze(directory, "parse", "--clean", "-f2024-03-02", "--fmt=json,time,cpu_util_pct", "--", "x.csv")

    assert utils(output) == [("00:00:00", 100.0), ("00:05:00", 50.0)]


def test_a_group_that_lost_a_member_begins_anew(log) -> None:  # type: ignore[no-untyped-def]
    directory = log(
        lines(500, "ann", "py", 0, [("10:00:00", 1000, 300), ("10:05:00", 200, 300), ("10:10:00", 800, 300),
                                    ("10:15:00", 1400, 300)], rolledup=3)
    )  # fmt: skip

    output = sonalyze(directory, "parse", "--clean", "--fmt=json,time,cpu_util_pct", "--", "x.csv")

    assert utils(output) == [("10:00:00", 300.0), ("10:10:00", 200.0), ("10:15:00", 200.0)]


def test_a_heartbeat_is_load_nothing_and_moves_the_end(log) -> None:  # type: ignore[no-untyped-def]
    directory = log(
        lines(401, "bob", "z", 5, [("10:40:00", 40, 300), ("10:50:00", 340, 300)]),
        lines(0, "_sonar_", "_heartbeat_", 0, [("12:10:00", 0, 0)], cpukib=0),
    )

    load = sonalyze(directory, "load", "--hourly", "--fmt=csv,time,cpu", "--", "x.csv")
    jobs = sonalyze(directory, "jobs", "-u-", "--fmt=csv,jobm", "--", "x.csv")

    assert load == "10:00,175\n11:00,0\n12:00,0\n"
    assert jobs == "401<\n"


def test_envelopes_and_csv_of_one_sample_count_once(tmp_path: Path) -> None:
    day = tmp_path / "data" / "2024" / "03" / "01"
    day.mkdir(parents=True)
    process = {"cmd": "py", "pid": 70, "cpu_avg": 150.5, "cpu_time": 300, "virtual_memory": 1 << 20}
    attributes: dict[str, object] = {
        "time": "2024-03-01T11:00:00+01:00",
        "node": "n1",
        "system": {"cpus": [1, 2, 3, 4]},
    }
    attributes["jobs"] = [{"job": 500, "user": "ann", "processes": [process]}]
    envelope = {"meta": {"version": "0.18.0"}, "data": {"type": "sample", "attributes": attributes}}
    (day / "0+sample-n1.json").write_text(json.dumps(envelope) + "\n")
    (day / "n1.csv").write_text(lines(500, "ann", "py", 70, [("10:00:00", 300, 150.5)], host="n1")[0] + "\n")

    output = sonalyze(
        tmp_path, "jobs", "-u-", "--min-samples=1", "--data-path=data", "-f2024-03-01", "-t2024-03-01",
        "--fmt=csv,job,user,host,cpu-avg,mem-avg",
    )  # fmt: skip

    assert output == "500,ann,n1,151,1\n"


def test_parsed_and_printed_records_are_valid_input_again(log) -> None:  # type: ignore[no-untyped-def]
    directory = log(SIM, POST)

    again = sonalyze(directory, "parse", "--fmt=csvnamed,roundtrip", "--", "x.csv")
    (directory / "y.csv").write_text(again)

    one, two = (sonalyze(directory, "jobs", "-u-", "--", name) for name in ("x.csv", "y.csv"))
    assert "100" in one
    assert one == two
