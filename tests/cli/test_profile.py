"""sonalyze profile: one job over time, as table, CSV, JSON and page."""

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

SONALYZE = Path(__file__).resolve().parents[2] / "libexec" / "sonalyze"


def record(time: str, cmd: str, pid: int, used: int, *, host: str = "n1", rolledup: int = 0) -> str:
    return (
        f'v=0.12.1,time=2024-03-01T10:{time}:00Z,host={host},user=ann,"cmd={cmd}",job=7,pid={pid},cputime_sec={used},'
        f"cpu%=50,cpukib={used << 20},rolledup={rolledup}\n"
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "x.csv"
    path.write_text(
        record("00", "py", 1, 0)
        + record("05", "py", 1, 300)
        + record("05", "<we,b>", 2, 10)
        + record("10", "<we,b>", 2, 40)
        + record("15", "py", 1, 900)
    )
    return path


def profile(log: Path, *argv: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, SONALYZE, "profile", *argv, "--", log], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if status == 0 else done.stderr


def test_the_table_names_each_instant_once(log: Path) -> None:
    assert profile(log, "-j7", "--fmt=time,cpu,cmd").splitlines() == [
        "time              cpu  cmd",
        "2024-03-01 10:00  50   py",
        "2024-03-01 10:05  100  py",
        "                  50   <we,b>",
        "2024-03-01 10:10  10   <we,b>",
        "2024-03-01 10:15  100  py",
    ]


def test_the_number_of_processes_is_shown_where_it_is_above_one(log: Path) -> None:
    assert "nproc" not in profile(log, "-j7")
    with log.open("a") as file:
        file.write(record("20", "many", 0, 5, rolledup=3))
    table = profile(log, "-j7")
    assert "nproc" in table
    assert table.splitlines()[-1].split()[-2:] == ["4", "many"]


def test_csv_has_a_column_a_process_and_leaves_gaps_empty(log: Path) -> None:
    assert profile(log, "-j7", "--fmt=csv,cpu").splitlines() == [
        'time,py (1),"<we,b> (2)"',
        "2024-03-01 10:00,50,",
        "2024-03-01 10:05,100,50",
        "2024-03-01 10:10,,10",
        "2024-03-01 10:15,100,",
    ]


def test_buckets_are_means_of_what_is_there(log: Path) -> None:
    assert profile(log, "-j7", "--fmt=csv,cpu", "--bucket=2").splitlines()[1:] == [
        "2024-03-01 10:05,75,50",
        "2024-03-01 10:15,100,10",
    ]


def test_values_beyond_the_limit_are_cut_or_errors(log: Path) -> None:
    assert [line.split(",")[1] for line in profile(log, "-j7", "--fmt=csv,mem", "--max=450").splitlines()[1:]] == [
        "0", "300", "", "450"
    ]  # fmt: skip


def test_json_has_an_object_an_instant(log: Path) -> None:
    steps = json.loads(profile(log, "-j7", "--fmt=json,all"))

    assert [step["time"][11:] for step in steps] == ["10:00", "10:05", "10:10", "10:15"]
    assert [point["command"] for point in steps[1]["points"]] == ["py", "<we,b>"]
    assert steps[1]["points"][0] == {
        "command": "py",
        "pid": 1,
        "cpu": 100,
        "mem": 300,
        "gpu": 0,
        "gpumem": 0,
        "nproc": 1,
    }


def test_the_page_needs_no_other_host_and_escapes_names(log: Path) -> None:
    page = profile(log, "-j7", "--fmt=html,cpu")
    tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)
            assert not [name for name, _ in attrs if name in {"src", "href"}]

    Reader().feed(page)
    assert "script" not in tags
    assert tags.count("path") == 2
    assert "&lt;we,b&gt; (2)" in page
    assert page.rstrip().endswith("</html>")


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([], "Exactly one specific job number"),
        (["-j7", "-j8"], "Exactly one specific job number"),
        (["-j7", "--fmt=csv,time"], "Not a known field: time"),
        (["-j7", "--fmt=csv,cpu,mem"], "exactly one valid field"),
        (["-j7", "--fmt=csv,json,cpu"], "one type of output"),
        (["-j7", "--fmt=csvnamed,cpu"], "Named fields"),
        (["-j7", "--bucket=2"], "Bucketing not implemented for fixed"),
    ],
)
def test_what_makes_no_sense_is_refused_before_output(log: Path, argv: list[str], text: str) -> None:
    assert text in profile(log, *argv, status=1)


def test_a_job_on_two_hosts_asks_for_one(log: Path) -> None:
    with log.open("a") as file:
        file.write(record("00", "py", 1, 0, host="n2"))

    assert "single-host" in profile(log, "-j7", status=1)
    assert "py" in profile(log, "-j7", "--host", "n2")


def test_a_job_of_the_batch_system_has_several_hosts(log: Path) -> None:
    lines = [record("00", "py", 1, 0), record("05", "py", 1, 300)]
    lines += [line.replace("host=n1", "host=n2").replace(":00Z", ":09Z") for line in lines]
    log.write_text("".join(lines))

    assert "single-host" in profile(log, "-j7", status=1)
    assert profile(log, "-j7", "--host=n[1-2]", "--fmt=csv,cpu").splitlines() == [
        "time,py (1@n1),py (1@n2)",
        "2024-03-01 10:00,50,50",
        "2024-03-01 10:05,100,100",
    ]
    log.write_text("".join(line.replace(",job=7", ",job=7,epoch=0") for line in lines))
    assert [line.split()[-1] for line in profile(log, "-j7").splitlines()] == ["host", "n1", "n2", "n1", "n2"]
    points = [step["points"] for step in json.loads(profile(log, "-j7", "--fmt=json,cpu"))]
    assert [[point["host"] for point in of_step] for of_step in points] == [["n1", "n2"]] * 2
    assert "`n[1-2]`" in profile(log, "-j7", "--fmt=html,cpu")


def test_resident_memory_is_a_quantity_where_it_is_named(log: Path) -> None:
    log.write_text(log.read_text().replace(",rolledup", ",rssanonkib=2097152,rolledup"))

    assert profile(log, "-j7", "--fmt=csv,rss").splitlines()[1] == "2024-03-01 10:00,2,"
    assert json.loads(profile(log, "-j7", "--fmt=json,res"))[0]["points"][0]["res"] == 2
    assert "res" not in json.loads(profile(log, "-j7", "--fmt=json,cpu"))[0]["points"][0]
