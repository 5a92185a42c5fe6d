"""From the sender of old to the log, as the original's own acceptance test has it: two sends, one file."""

import os
import subprocess
import sys
from pathlib import Path

from sonar.serve.passwords import Hash

from tests.ingest.conftest import PASSWORD, PROGRAM, Starter

FIRST = (
    "v=0.7.0,time=2023-11-15T00:00:03+01:00,host=myhost,cores=56,user=limeng,job=1511785,pid=0,cmd=python,cpu%=675,"
    'cpukib=123249780,"gpus=3,1,2,0",gpu%=396,gpumem%=276,gpukib=37986304,cputime_sec=2652658,rolledup=36\n'
)
SECOND = (
    "v=0.7.0,time=2023-11-15T00:05:03+01:00,host=myhost,cores=56,user=balintl,job=4159295,pid=4159295,cmd=watch,"
    "cpu%=0.1,cpukib=1916,gpus=none,gpu%=0,gpumem%=0,gpukib=0,cputime_sec=2663\n"
)
STORED = (
    "v=0.7.0,time=2023-11-15T00:00:03+01:00,host=myhost,cores=56,user=limeng,job=1511785,pid=0,cmd=python,cpu%=675,"
    'cpukib=123249780,"gpus=3,1,2,0",gpu%=396,gpumem%=276,gpukib=37986304,gpufail=0,cputime_sec=2652658,rolledup=36\n'
    "v=0.7.0,time=2023-11-15T00:05:03+01:00,host=myhost,cores=56,user=balintl,job=4159295,pid=4159295,cmd=watch,"
    "cpu%=0.1,cpukib=1916,gpus=none,gpu%=0,gpumem%=0,gpukib=0,gpufail=0,cputime_sec=2663,rolledup=0\n"
)


def test_two_sends_make_one_file(start: Starter, password_file: Path, tmp_path: Path) -> None:
    password_file.write_text(f"dead:{Hash.of(PASSWORD)}:clusters=test\n")
    server = start()
    auth = tmp_path / "auth"
    auth.write_text(f"dead/{PASSWORD}")
    for given in (FIRST, SECOND):
        done = subprocess.run(
            [sys.executable, PROGRAM.with_name("exfiltrate"), "-cluster", "test", "-source", "sonar/csvnamed",
             "-output", "json", "-target", f"http://127.0.0.1:{server.port}", "-window", "0", "-auth-file", auth],
            input=given, capture_output=True, text=True, timeout=60, check=False,
            env=os.environ | {"SONAR_SPOOL": str(tmp_path / "spool")},
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert server.stop() == 0
    assert server.stored()["test/2023/11/15/myhost.csv"].decode() == STORED
