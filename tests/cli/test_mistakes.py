"""Every mistake in an option, date, pattern, query, format or file is told on one line that names the culprit."""

import json
import re
from pathlib import Path

import pytest

from sonar import verbs
from sonar.cli.sonalyze import main
from sonar.verbs.declare import Option, OptionType, Reads
from sonar.verbs.parameters import FILTER_OPTIONS, options_of

BAD = {
    OptionType.UINT: ("x1", "-1", "1.5", "", "9" * 30),
    OptionType.FLOAT: ("x1", "1,5", "", "0x10"),
    OptionType.DATE: ("soon", "2024-02-30", "3D", "", "2024-01-01T00:00", "99999999999d"),
    OptionType.DURATION: ("5", "5x", "1h2h", "h", ""),
    OptionType.HOSTS: ("a[", "a[1", "a[x]", "a[3-1]", "a**", "a..b", "a[1-999999]", ""),
}
NUMBERS = {"job", "exclude-job"}  # texts that are numbers
WITH_FORMAT = [name for name in verbs.NAMES if any(option.name == "query" for option in options_of(verbs.verb(name)))]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.setenv("SONAR_NOW", "2024-01-10T12:00:00Z")
    (tmp_path / "data").mkdir()
    path = tmp_path / "data.csv"
    path.write_text("v=1,time=2024-01-10T10:00:00Z,host=n1,user=ann,job=7,cmd=c\n")
    return path


def mistake(
    capsys: pytest.CaptureFixture[str],
    *argv: str,
    files: tuple[str, ...] = ("--", "data.csv"),
    statuses: tuple[int, ...] = (1, 2),
) -> str:
    """Return the line that is told of a mistake, and see that there is nothing else."""
    status = main([*argv, *files])
    told = capsys.readouterr()
    assert status in statuses, (argv, told)
    assert told.out == ""
    assert told.err.count("\n") == 1, told.err
    assert "Traceback" not in told.err
    assert told.err.startswith("sonalyze: " if status == 2 else "ERROR: ")
    return told.err


def required(verb: str, but: str = "") -> list[str]:
    """Return what a verb cannot do without."""
    given = [f"--{option.name}=1" for option in verbs.verb(verb).options if option.required and option.name != but]
    if verbs.verb(verb).reads is Reads.SITE:
        given.append("--jobanalyzer-dir=.")
    return [*given, *(["--job=7"] if verb in ("profile", "job", "explain") and but != "job" else [])]


@pytest.mark.parametrize("verb", verbs.NAMES)
def test_bad_value_is_told_with_its_option(verb: str, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tried = 0
    for option in options_of(verbs.verb(verb)):
        values = ("x1", "1.5", "-1") if option.name in NUMBERS else BAD.get(option.type, ())
        # Patterns of hosts, and numbers of jobs that are filters of records, have always been errors of running.
        of_running = option.type is OptionType.HOSTS or option in FILTER_OPTIONS
        for value in values:
            argv = (verb, *required(verb, option.name), f"--{option.name}={value}")
            told = mistake(capsys, *argv, statuses=(1 if of_running else 2,))
            assert f"--{option.name}: " in told
            assert value[:20] in told
            tried += 1
    assert tried or verb in ("cluster", "report")


@pytest.mark.parametrize("verb", verbs.NAMES)
def test_option_given_twice_or_without_value_is_named(verb: str, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in options_of(verbs.verb(verb)):
        form = f"--{option.name}" if option.type is OptionType.FLAG else f"--{option.name}={_good(option)}"
        if not option.repeat:
            assert f"--{option.name} is given more than once" in mistake(capsys, verb, form, form, statuses=(2,))
        if option.type is OptionType.FLAG:
            assert f"--{option.name}" in mistake(capsys, verb, f"{form}=true", statuses=(2,))
        else:
            assert f"--{option.name}" in mistake(capsys, verb, f"--{option.name}", files=(), statuses=(2,))


@pytest.mark.parametrize("verb", WITH_FORMAT)
def test_bad_query_and_order_are_told_with_their_place(
    verb: str, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    field = verbs.verb(verb).fields[0].name
    files = () if verbs.verb(verb).reads is Reads.SITE else ("--", "data.csv")
    for wrong, culprit in (
        ("--query=no_such_field = 1", "--query: no field 'no_such_field', at column 1 of "),
        (f"--query={field} is 1", f"after {field!r}, found 'is', at column {len(field) + 2} of "),
        ("--sort=-no_such_field", "--sort: no field 'no_such_field'"),
        ("--fmt=no_such_field,csv", "unknown 'no_such_field'"),
    ):
        statuses = (1,) if "--fmt" in wrong else (2,)  # a format without fields has always been an error of running
        assert culprit in mistake(capsys, verb, *required(verb), wrong, files=files, statuses=statuses)


@pytest.mark.parametrize("verb", verbs.NAMES)
@pytest.mark.parametrize(
    ("wrong", "culprit"),
    [
        ("--frob=1", "--frob"),
        ("--data-path", "--data-path"),
        ("--remote=ftp://x", "'ftp://x'"),
        ("--jobanalyzer-dir=absent", "absent"),
        ("-@", "-@"),
    ],
)
def test_bad_source_is_named_by_every_verb(
    verb: str, wrong: str, culprit: str, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [one for one in required(verb) if not one.startswith("--jobanalyzer-dir")]
    more = ["--cluster=c"] if "=" in wrong and "frob" not in wrong else []
    assert culprit in mistake(capsys, verb, *given, *more, wrong, files=())


def _good(option: Option) -> str:
    good = {OptionType.DATE: "1d", OptionType.DURATION: "1h", OptionType.UINT: "1", OptionType.FLOAT: "1"}
    return good.get(option.type, "job" if option.name == "sort" else "x")


NODE = {"hostname": "n1", "cpu_cores": 4, "mem_gb": 8}


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        ("{", r"Expecting"),
        ("3", r"Expected an array value"),
        ([3], r"node 1: Expected an object value"),
        ([NODE, {**NODE, "hostname": 3}], r"node 2: Field 'hostname' must be present and have a string value"),
        ([{**NODE, "hostname": "n*"}], r"node 1: Suffix wildcard not allowed .*'n\*'"),
        ([{**NODE, "hostname": "n["}], r"node 1: .*'n\['"),
        ([NODE, NODE], r"node 2: System info for host n1 already defined"),
        ([{**NODE, "description": 3}], r"node 1: Field 'description' must have a string value"),
        ([{**NODE, "cpu_cores": "4"}], r"node 1: Field 'cpu_cores' must be present and have an integer value"),
        ([{**NODE, "mem_gb": 1.5}], r"node 1: Field 'mem_gb' must have unsigned integer value"),
        ([{**NODE, "gpumem_pct": 1, "gpu_cards": 1}], r"node 1: Field 'gpumem_pct' must have a boolean value"),
        ([{**NODE, "gpumem_gb": 1}], r"node 1: Without gpu_cards there should be no gpumem_gb or gpumem_pct"),
    ],
)
def test_bad_description_of_nodes_is_told_with_file_and_node(
    content: object, culprit: str, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("nodes.json").write_text(content if isinstance(content, str) else json.dumps(content))

    told = mistake(capsys, "jobs", "--config-file=nodes.json")

    assert re.match(rf"ERROR: 'nodes.json': {culprit}", told)


@pytest.mark.parametrize(
    ("argv", "files", "culprit"),
    [
        (("jobs",), ("--", "absent.csv"), "No such file or directory: 'absent.csv'"),
        (("jobs",), ("--", "."), "Is a directory: '.'"),
        (("jobs", "--data-path=absent"), (), "Not a viable log directory: absent"),
        (("jobs", "--from=1d", "--to=2d"), (), "--from time is greater than the --to time"),
        (("jobs", "--remote=ftp://x", "--cluster=c"), (), "--remote: not an address: 'ftp://x'"),
        (("jobs", "--remote=https://a:b@x", "--cluster=c"), (), "--remote: no password in the address"),
        (("jobs", "--remote=http://x", "--cluster=c", "--auth-file=absent"), (), "No such file or directory: 'absent'"),
        (("jobs", "--remote=http://x", "--cluster=c", "--auth-file=data.csv"), (), "auth file syntax: 'data.csv'"),
        (("jobs", "--remote=http://x", "--cluster=c", "-q=a"), (), "--query: no field 'a'"),
        (("jobs", "-o", "absent/x"), ("--", "data.csv"), "No such file or directory: 'absent/x'"),
        (("profile",), ("--", "data.csv"), "Exactly one specific job number"),
        (("uptime",), ("--", "data.csv"), "--interval"),
        (("load", "--daily", "--weekly"), ("--", "data.csv"), "--daily, --weekly"),
        (("load", "--all", "--last"), ("--", "data.csv"), "--all, --last"),
        (("uptime", "--interval=1", "--only-up", "--only-down"), ("--", "data.csv"), "--only-up, --only-down"),
        (("jobs", "--fmt=" + ",".join(["job"] * 201)), ("--", "data.csv"), "--fmt: more than 200 columns"),
        (("frob",), (), "'frob'"),
        (("--frob",), (), "--frob"),
        (("jobs", "frob"), (), "frob"),
    ],
)
def test_other_mistakes_name_the_culprit(
    argv: tuple[str, ...], files: tuple[str, ...], culprit: str, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert culprit in mistake(capsys, *argv, files=files)
