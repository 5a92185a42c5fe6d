"""The command line of sonalyze as users type it: options, messages, exit statuses, and an answer of each verb."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SONALYZE = Path(__file__).resolve().parents[2] / "libexec" / "sonalyze"
INTERRUPTIBLE = ("env", "--default-signal=INT")  # a shell has its background jobs ignore it, and so the tests' children
VERBS = ("jobs", "load", "uptime", "parse", "metadata")

# ann's job 10 runs on two hosts, bob's job 20 on one and to the end of the data; the last record is torn.
RECORDS = """\
v=0.9.0,time=2024-01-10T10:00:00Z,host=n1.x,user=ann,job=10,pid=1,cmd=python,cpu%=50,cpukib=1048576,cputime_sec=0
v=0.9.0,time=2024-01-10T10:05:00Z,host=n1.x,user=ann,job=10,pid=1,cmd=python,cpu%=50,cpukib=2097152,cputime_sec=300
v=0.9.0,time=2024-01-10T10:00:00Z,host=n2.x,user=ann,job=10,pid=5,cmd=python,cpu%=10,cputime_sec=0
v=0.9.0,time=2024-01-10T10:05:00Z,host=n2.x,user=ann,job=10,pid=5,cmd=python,cpu%=10,cputime_sec=30
v=0.9.0,time=2024-01-10T10:05:00Z,host=n1.x,user=bob,job=20,pid=2,cmd=train,cpu%=0,gpus=0,gpu%=60,cputime_sec=0
v=0.9.0,time=2024-01-10T10:10:00Z,host=n1.x,user=bob,job=20,pid=2,cmd=train,cpu%=0,gpus=0,gpu%=40,cputime_sec=0
v=0.9.0,time=2024-01-10T10:10:00Z,host=n2.x,user=_sonar_,job=0,pid=0,cmd=_heartbeat_
v=0.9.0,time=2024-01-10T10:1
"""
NODES = '[{"hostname": "n[1-2].x", "cpu_cores": 4, "mem_gb": 8}]'


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a file of records, the same in a log tree, and a description of the nodes."""
    (tmp_path / "data.csv").write_text(RECORDS)
    (tmp_path / "nodes.json").write_text(NODES)
    day = tmp_path / "sonar" / "data" / "2024" / "01" / "10"
    day.mkdir(parents=True)
    for host in ("n1.x", "n2.x"):
        lines = [line for line in RECORDS.splitlines(keepends=True) if f"host={host}" in line]
        (day / f"{host}.csv").write_text("".join(lines))
    return tmp_path


def sonalyze(place: Path, *argv: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run the program in `place`, which is its home too, as account ann at noon after the last sample."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(place), "LOGNAME": "ann", "SONAR_NOW": "2024-01-10T12:00:00Z"}
    kept = {name: os.environ[name] for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE") if name in os.environ}
    return subprocess.run(
        [sys.executable, SONALYZE, *argv],
        cwd=place,
        env=clean | kept | env,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def answer(place: Path, *argv: str, **env: str) -> str:
    done = sonalyze(place, *argv, **env)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_jobs_are_ones_own_of_the_last_day_by_default(place: Path) -> None:
    assert answer(place, "jobs", "--fmt=jobm,user,duration,host,cpu-avg,mem-peak,cmd") == (
        "jobm  user  duration  host  cpu-avg  mem-peak  cmd\n"
        "10<   ann   0d 0h 5m  n1    75       2         python\n"
        "10<   ann   0d 0h 5m  n2    10       0         python\n"
    )
    assert answer(place, "jobs", "--fmt=csv,job,user", LOGNAME="bob") == "20,bob\n"
    assert answer(place, "jobs", "--fmt=csv,job", SONAR_NOW="2024-01-12T12:00:00Z") == ""


def test_rows_are_chosen_by_a_query_and_sorted(place: Path) -> None:
    assert answer(place, "jobs", "-q", "cpu-avg > 20 or gpus >= '0'", "--fmt=csv,job,host") == "10,n1.x\n20,n1.x\n"
    assert answer(place, "jobs", "--query=host <= n2", "--fmt=csv,job,user") == "10,ann\n"
    assert answer(place, "jobs", "-q", "user = ann", "-n1", "--fmt=csv,job,host") == "10,n2.x\n"
    assert answer(place, "jobs", "-u-", "--sort=-job,-host", "--fmt=csv,job,host") == "20,n1.x\n10,n2.x\n10,n1.x\n"
    assert answer(place, "jobs", "-qrcpu-avg > 10", "--config-file=nodes.json", "--fmt=csv,job,host") == "10,n1.x\n"
    assert answer(place, "load", "-q", "cpu > 10", "--fmt=datetime,cpu") == (
        "HOST: n1.x\ndatetime          cpu\n2024-01-10 10:00  50\n"
    )
    assert answer(place, "load", "-q", "cpu > 10", "--fmt=json,cpu") == (
        '[{"system":{"hostname":"n1.x","description":"Unknown","gpucards":"0"},"records":[{"cpu":"50"}]}]'
    )
    assert answer(place, "parse", "--clean", "-q", "cpu% = 10", "--sort=-time", "--fmt=host,time/sec") == (
        "*\nn2.x,1704881100\nn2.x,1704880800\n"
    )


def test_account_is_found_without_logname(place: Path) -> None:
    assert answer(place, "jobs", "--fmt=csv,job", LOGNAME="", USER="bob") == "20\n"


def test_jobs_are_merged_over_hosts_and_related_to_what_they_have(place: Path) -> None:
    argv = ("--config-file", "nodes.json", "--batch", "--fmt=csv,header,job,host,rcpu-peak,rmem-peak")

    assert answer(place, "jobs", *argv) == "job,host,rcpu-peak,rmem-peak\n10,n[1-2].x,14,13\n"


def test_load_is_a_table_a_host(place: Path) -> None:
    assert answer(place, "load", "--compact", "--fmt=datetime,cpu,gpu") == (
        "HOST: n1.x\n"
        "datetime          cpu  gpu\n"
        "2024-01-10 10:00  50   33\n"
        "HOST: n2.x\n"
        "datetime          cpu  gpu\n"
        "2024-01-10 10:00  6    0\n"
    )


def test_uptime_tells_of_hosts_and_cards(place: Path) -> None:
    assert answer(
        place, "uptime", "--interval", "5", "--host", "n1", "--only-up", "--fmt=csv,all", "--", "data.csv"
    ) == ("host,n1.x,up,2024-01-10 10:00,2024-01-10 10:10\ngpu,n1.x,up,2024-01-10 10:00,2024-01-10 10:10\n")


def test_parse_prints_what_can_be_read_again(place: Path) -> None:
    first = answer(place, "parse", "--fmt=csvnamed,roundtrip", "--", "data.csv")
    (place / "again.csv").write_text(first)

    assert len(first.splitlines()) == 7
    assert answer(place, "parse", "--fmt=csvnamed,roundtrip", "--", "again.csv") == first


def test_metadata_tells_when_the_samples_of_a_host_begin_and_end(place: Path) -> None:
    assert answer(place, "metadata", "--host=n2", "--", "data.csv") == "n2.x,2024-01-10 10:00,2024-01-10 10:10\n"


@pytest.mark.parametrize(
    "argv",
    [
        ("-u", "bob"),
        ("-ubob",),
        ("-u=bob",),
        ("--user", "bob"),
        ("--user=bob",),
        ("-bu", "bob"),
        ("-bubob",),
        ("-bu=bob",),
        ("-u-", "--exclude-user=ann"),
        ("-j20",),
        ("-u", "-", "--command", "train"),
        ("-u-", "--some-gpu"),
        ("-u=-", "-n1", "--exclude-job", "10"),
        ("-f", "2024-1-10", "-t2024-01-10", "-u", "bob"),
    ],
)
def test_option_has_all_its_gnu_forms(place: Path, argv: tuple[str, ...]) -> None:
    assert answer(place, "jobs", "--fmt=csv,job", *argv) == "20\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("frobnicate",), "No such verb: 'frobnicate'"),
        (("--frobnicate",), "--frobnicate"),
        (("version", "x"), r"\(x\)"),
        (("version", "--", "f"), "'f'"),
        (("jobs", "--frobnicate"), "--frobnicate"),
        (("jobs", "-z"), "-z"),
        (("jobs", "--us=ann"), "--us"),
        (("jobs", "data.csv"), "data.csv"),
        (("jobs", "--fmt=job", "extra", "--", "data.csv"), "extra"),
        (("jobs", "--no-gpu", "--no-gpu"), "--no-gpu"),
        (("jobs", "--fmt=job", "--fmt=user"), "--fmt"),
        (("jobs", "-bb"), "--batch"),
        (("jobs", "--no-gpu=true"), "--no-gpu"),
        (("jobs", "--user"), "--user"),
        (("jobs", "-u"), "-u"),
        (("jobs", "--min-samples=x"), "--min-samples: 'x'"),
        (("jobs", "--min-runtime=5"), "--min-runtime: .*'5'"),
        (("parse", "--from=3D"), "--from: .*'3D'"),
        (("parse", "--config-file=nodes.json"), "--config-file"),
        (("uptime",), "--interval"),
        (("load", "--daily", "--hourly"), "--daily"),
        (
            ("jobs", "-q", "user = ann and"),
            "--query: expected a field, found the end, at column 15 of 'user = ann and'",
        ),
        (("jobs", "-q", "rcpuu > 1"), "--query: no field 'rcpuu', at column 1"),
        (("uptime", "--interval=5", "--sort=-start,ends"), "--sort: no field 'ends'"),
        (("profile", "-j1", "--sort=bogus"), "--sort: no field 'bogus'"),
        (("jobs", "--fmt=tag:\udcff"), "not UTF-8"),
    ],
)
def test_wrong_command_line_is_one_line_that_names_the_option(place: Path, argv: tuple[str, ...], words: str) -> None:
    done = sonalyze(place, *argv)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sonalyze: ")
    assert done.stderr.endswith("--help')\n")
    assert len(done.stderr.splitlines()) == 1
    assert re.search(words, done.stderr)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("jobs", "--fmt=bogus"), "No output fields were selected: unknown 'bogus'"),
        (("jobs", "-j", "1,2"), "Invalid value for --job: '1,2' is not a whole number"),
        (("jobs", "--host=a["), "Invalid value for --host: Expected number in host pattern 'a['"),
        (("jobs", "--fmt=job,rcpu"), "Relative values requested without config file"),
        (("jobs", "--config-file=absent"), "No such file or directory: 'absent'"),
        (("jobs", "--data-path=absent"), "Not a viable log directory: absent"),
        (("jobs", "--", "absent"), "No such file or directory: 'absent'"),
        (("jobs", "-f1d", "-t2d"), "The --from time is greater than the --to time"),
        (("load", "--group", "--none"), "Grouping across hosts requires first bucketing by time"),
        (("jobs", "--data-path=x", "--cluster=c"), "--data-path may not be used with --remote or --cluster"),
        (("jobs", "--config-file=x", "--cluster=c"), "--config-file may not be used with --remote or --cluster"),
        (("jobs", "--cluster=c", "--", "x"), "-- logfile ... may not be used with --remote or --cluster"),
        (("jobs", "--cluster=c"), "--remote and --cluster must be used together"),
        (("jobs", "--remote=http://h"), "--remote and --cluster must be used together"),
    ],
)
def test_error_while_running_is_one_line(place: Path, argv: tuple[str, ...], message: str) -> None:
    done = sonalyze(place, *argv)

    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"ERROR: {message}\n")


def test_data_path_is_option_then_variable_then_home(place: Path) -> None:
    (place / "other").mkdir()

    assert (
        answer(place, "metadata", "--fmt=csv,host", "--data-path", "sonar/data", SONAR_ROOT="other") == "n1.x\nn2.x\n"
    )
    assert answer(place, "metadata", SONAR_ROOT="other") == ""
    assert sonalyze(place, "metadata", HOME="").stderr.startswith("ERROR: No data path")


def test_help_and_version_go_to_stdout(place: Path) -> None:
    for word in ("help", "-h", "--help"):
        assert answer(place, word).startswith("Usage: sonalyze VERB")
    for argv in (("help", "load"), ("load", "help"), ("load", "-h"), ("load", "--help")):
        assert answer(place, *argv).startswith("Usage: sonalyze load [OPTION ...] [-- FILE ...]\n")
    assert answer(place, "version") == "sonalyze version(0.1.0) features(untagged_sonar_data)\n"
    assert answer(place, "-V") == answer(place, "--version") == "sonalyze 0.1.0\n"


def test_missing_verb_prints_the_help_on_stderr(place: Path) -> None:
    done = sonalyze(place)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: sonalyze VERB")


@pytest.mark.parametrize("name", VERBS)
def test_format_help_comes_before_anything_else(place: Path, name: str) -> None:
    listed = answer(place, name, "--fmt=help", "--data-path=absent", "--remote=nowhere")

    assert "  --fmt=(field|alias|control),...\n" in listed
    assert "\n  host " in listed


def test_unknown_format_word_is_a_warning(place: Path) -> None:
    done = sonalyze(place, "jobs", "--fmt=csv,job,bogus,host")

    assert (done.returncode, done.stdout) == (0, "10,n1.x\n10,n2.x\n")
    assert done.stderr == "sonalyze: unknown word 'bogus' in --fmt, ignoring\n"


def test_verbose_tells_on_stderr_what_was_read_and_dropped(place: Path) -> None:
    done = sonalyze(place, "jobs", "-v", "--fmt=csv,job", "--to=2024-01-10", "--", "data.csv")

    assert (done.returncode, done.stdout) == (0, "10\n10\n")
    lines = done.stderr.splitlines()
    assert lines[:3] == ["Log files: 1", "  data.csv", "Number of records discarded: 1"]
    assert lines[3].startswith("  data.csv: 1 ")
    assert lines[4:] == ["From: as the data", "To: 2024-01-10T23:59:59Z", "Fields: job", "Number of rows: 2"]


def test_answer_is_utf8_whatever_the_locale(place: Path) -> None:
    (place / "q.csv").write_text("v=1,time=2024-01-10T10:00:00Z,host=h,user=å,cmd=å\n", encoding="utf-8")

    for locale in ("C", "POSIX", "C.UTF-8"):
        assert answer(place, "parse", "--fmt=cmd", "--", "q.csv", LC_ALL=locale, PYTHONCOERCECLOCALE="0") == "å\n"


def test_reader_that_has_gone_is_no_error(place: Path) -> None:
    for argv in (["jobs", "--fmt=csv,job", "--", "data.csv"], ["help", "jobs"], ["jobs", "--fmt=help"]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, SONALYZE, *argv], cwd=place, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, b"")


def test_full_disk_is_an_error(place: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, SONALYZE, "metadata", "--", "data.csv"],
            cwd=place,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    assert (done.returncode, done.stderr) == (1, "ERROR: Standard output: No space left on device\n")


def test_interrupt_ends_quietly_with_130(place: Path) -> None:
    os.mkfifo(place / "slow.csv")
    program = subprocess.Popen(
        [*INTERRUPTIBLE, sys.executable, SONALYZE, "parse", "--", "slow.csv"],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with (place / "slow.csv").open("w"):  # returns when the program has opened the other end
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=60)

    assert (program.returncode, out, err) == (130, b"", b"")


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["--version"],
        ["help", "jobs"],
        ["jobs", "--frobnicate"],
        ["jobs", "--fmt=help"],
        ["load", "x"],
        ["jobs", "-q", "user = ann and ("],
        ["jobs", "--sort=bogus"],
        ["job", "7", "--remote=x"],
        ["dossier", "--help"],
    ],
)
def test_what_needs_no_samples_imports_nothing_heavy(argv: list[str]) -> None:
    program = (
        "import runpy, sys\n"
        f"sys.argv = {[str(SONALYZE), *argv]!r}\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'pyarrow', 'numpy', 'urllib3', 'rich', 'asyncio'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr


def test_answer_goes_to_a_file_whole_or_not_at_all(place: Path) -> None:
    assert answer(place, "jobs", "--fmt=csv,job", "-o", "out.csv") == ""
    assert (place / "out.csv").read_text() == "10\n10\n"
    failed = sonalyze(place, "jobs", "--fmt=parquet,rcpu", "--output=out.csv", "--", "data.csv")
    assert failed.returncode == 1
    assert (place / "out.csv").read_text() == "10\n10\n"
    assert sorted(path.name for path in place.iterdir()) == ["data.csv", "nodes.json", "out.csv", "sonar"]
    failed = sonalyze(place, "jobs", "--output=absent/out.csv")
    assert (failed.returncode, failed.stderr) == (1, "ERROR: No such file or directory: 'absent/out.csv'\n")


def test_typed_formats_go_to_stdout_and_to_files(place: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    answer(place, "load", "--compact", "--fmt=parquet,default", "-o", "load.parquet")
    table = parquet.read_table(place / "load.parquet")
    assert table.column_names == ["host", "date", "time", "cpu", "mem", "gpu", "gpumem"]
    assert table.column("host").to_pylist() == ["n1.x", "n2.x"]
    done = subprocess.run(
        [sys.executable, SONALYZE, "jobs", "-u-", "--fmt=arrow,All", "--", "data.csv"],
        cwd=place,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert pa.ipc.open_stream(done.stdout).read_all().column("job").to_pylist() == [10, 10, 20]
    assert answer(place, "jobs", "--fmt=native,job,host,cpu-avg") == (
        '[{"job":10,"host":["n1.x"],"cpu-avg":75},{"job":10,"host":["n2.x"],"cpu-avg":10}]\n'
    )


def test_load_and_profile_are_drawn_in_the_terminal(place: Path) -> None:
    drawn = answer(place, "load", "--fmt=chart,cpu", "--", "data.csv")
    assert "CPU utilization, cut (% of a core)" in drawn
    assert "n1.x" in drawn
    assert "`gpu` profile of job 20 on `n1.x`, user `bob`" in answer(place, "profile", "-j20", "--fmt=gpu,chart")
    failed = sonalyze(place, "load", "--fmt=chart,cpu,mem")
    assert failed.stderr.startswith("ERROR: chart needs exactly one of cpu, mem,")
