"""What a report says that it read: the log, and nothing that was made of it."""

import subprocess
import sys
from pathlib import Path

from sonar.report.logfiles import files_of_day

LIBEXEC = Path(__file__).resolve().parents[2] / "libexec"

LINE = "v=0.12.1,time=2026-03-02T10:{minute:02}:00+00:00,host=c1,user=ann,cmd=python,job=7,pid=7,cores=8,cpu%=50\n"


def test_columns_and_roll_ups_of_a_day_are_no_data_of_it(tmp_path: Path) -> None:
    day = tmp_path / "fox/2026/03/02"
    day.mkdir(parents=True)
    (day / "c1.csv").write_text("".join(LINE.format(minute=minute) for minute in range(0, 60, 5)))
    before = files_of_day(day)

    subprocess.run([sys.executable, LIBEXEC / "columnize", "--data", tmp_path], check=True, capture_output=True)

    assert {path.name[:9] for path in day.iterdir()} == {"c1.csv", "0+columns", "0+rollup-"}
    assert files_of_day(day) == before == [("c1.csv", (day / "c1.csv").stat().st_size)]
