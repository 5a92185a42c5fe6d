"""Records that parse but say absurd things: an answer, or one line of error; never a traceback or a warning."""

import subprocess
import sys
from pathlib import Path

import pytest

SONALYZE = Path(__file__).resolve().parents[2] / "libexec" / "sonalyze"

RECORDS = """\
v=0.9.0,time=2024-01-10T10:00:00Z,host=n1.x,user=a,job=1,pid=1,cmd=p,cpu%=nan,cpukib=1e30,gpus=unknown,cputime_sec=1e300
v=0.9.0,time=2024-01-10T10:05:00Z,host=n1.x,user=a,job=1,pid=1,cmd="x,\x1b[0m",cpu%=50,cpukib=-5,gpu%=1e308,cputime_sec=3
v=0.9.0,time=9999-12-31T23:59:59Z,host=n2.x,user=a,job=4294967295,pid=1,cmd=,gpukib=1e308,gpus=3,rolledup=4000000000
v=1,time=0001-01-01T00:00:00Z,host=,user=,cmd=_heartbeat_
"""


@pytest.mark.parametrize(
    "argv",
    [
        ("jobs", "-u-", "--min-samples=0"),
        ("jobs", "-u-", "--batch", "--fmt=json,default"),
        ("jobs", "-u-", "--min-samples=0", "--config-file=nodes.json", "--fmt=csv,std,rcpu,rmem,rgpu,rgpumem"),
        ("load", "--compact", "--daily"),
        ("load", "--none", "--fmt=csvnamed,default,gpus,host"),
        ("load", "--config-file=nodes.json", "--fmt=rmem,rgpu", "--host=n1", "--last"),
        ("uptime", "--interval=5"),
        ("parse", "--fmt=fixed,all"),
        ("parse", "--clean", "--fmt=json,all,nodefaults"),
        ("parse", "--merge-by-job", "--fmt=awk,all"),
        ("metadata", "--fmt=fixed,all"),
    ],
)
def test_absurd_records_are_answered_without_warnings(tmp_path: Path, argv: tuple[str, ...]) -> None:
    (tmp_path / "data.csv").write_text(RECORDS)
    (tmp_path / "nodes.json").write_text('[{"hostname": "n1.x", "cpu_cores": 0, "mem_gb": 1}]')

    done = subprocess.run(
        [sys.executable, "-W", "error", SONALYZE, *argv, "--", "data.csv"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    assert "\x1b" not in done.stdout or "json" in argv[-1]
