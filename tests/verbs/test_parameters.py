"""Texts become a query: the same rules for the command line, HTTP and reports."""

from pathlib import Path

import pytest

from sonar.errors import SonarError, UsageError
from sonar.times import DAY
from sonar.verbs import verb
from sonar.verbs.declare import Field, Kind, Option, OptionType, Result, Verb
from sonar.verbs.parameters import check_options, options_of, query_of
from sonar.verbs.query import Query

NOW = 1_704_888_000  # 2024-01-10T12:00:00Z


def _no_answer(_query: Query) -> Result:
    raise NotImplementedError


TRIAL = Verb(
    name="trial",
    summary="Print nothing",
    options=(
        Option("count", "how many", OptionType.UINT, default=2),
        Option("share", "how much", OptionType.FLOAT),
        Option("quick", "soon", OptionType.FLAG),
        Option("least", "how long", OptionType.DURATION),
        Option("word", "what", repeat=True),
    ),
    fields=(Field("job", Kind.INT, "job"), Field("rcpu", Kind.INT, "share", relative=True)),
    aliases={},
    default_fields="job",
    run=_no_answer,
)


def query(given: dict[str, list[str]], name: str = "jobs", *, account: str | None = "ann") -> Query:
    return query_of(verb(name), given, data=[Path("x.csv")], account=account, now=NOW)[0]


def test_options_are_in_the_order_of_remote_requests() -> None:
    names = [option.name for option in options_of(verb("jobs"))]

    assert names[:4] == ["from", "to", "host", "user"]
    assert names[-1] == "fmt"
    assert names.index("exclude-job") < names.index("min-samples") < names.index("numjobs")


def test_values_are_parsed_and_defaults_filled_in() -> None:
    assert check_options(TRIAL, {}) == {"count": 2, "share": None, "quick": False, "least": None, "word": ()}
    given = {"count": ["+7"], "share": ["1.5e1"], "quick": ["true"], "least": ["1h5m"], "word": ["a", "b"]}
    assert check_options(TRIAL, given) == {"count": 7, "share": 15.0, "quick": True, "least": 3900, "word": ("a", "b")}
    assert check_options(TRIAL, {"quick": ["xxxxxtruexxxxx"]})["quick"] is True


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("count", "-1"),
        ("count", "1.5"),
        ("count", ""),
        ("count", "٣"),
        ("count", "1_0"),
        ("count", "9" * 19),
        ("share", "nan"),
        ("share", "1_0"),
        ("share", ""),
        ("quick", "false"),
        ("quick", ""),
        ("least", "5"),
        ("least", ""),
        ("least", "5s"),
    ],
)
def test_bad_value_is_told_with_its_option(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"Invalid value for --{name}: .*"):
        check_options(TRIAL, {name: [text]})


def test_unknown_and_repeated_options_are_told() -> None:
    with pytest.raises(UsageError, match="trial has no option --frob"):
        check_options(TRIAL, {"frob": ["1"]})
    with pytest.raises(UsageError, match="--count is given more than once"):
        check_options(TRIAL, {"count": ["1", "2"]})
    with pytest.raises(UsageError, match="--fmt is given more than once"):
        check_options(TRIAL, {"fmt": ["job", "job"]})
    with pytest.raises(UsageError, match="--interval is required"):
        check_options(verb("uptime"), {})


def test_relative_fields_need_nodes() -> None:
    with pytest.raises(SonarError, match="Relative values requested without config file"):
        query_of(TRIAL, {"fmt": ["rcpu"]}, data=[], now=NOW)

    assert query_of(TRIAL, {"fmt": ["rcpu"]}, data=[], nodes={}, now=NOW)[0].fields == {"rcpu"}


def test_hosts_are_joined_by_commas_or_semicolons() -> None:
    hosts = query({"host": ["a[1,3];b", "c,d"]}).filter.hosts

    assert hosts is not None
    assert [hosts.match(host) for host in ("a1", "a2", "a3.x", "b", "c", "d", "e")] == [
        True, False, True, True, True, True, False
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "users", "excluded"),
    [
        ({}, {"ann"}, set()),
        ({"user": ["bob", "eve"]}, {"bob", "eve"}, set()),
        ({"user": ["bob", "-"]}, None, set()),
        ({"user": ["bob,eve", "ann"]}, {"bob", "eve", "ann", "bob,eve"}, set()),
        ({"user": ["bob,-"]}, None, set()),
        ({"query": ["user = ann"]}, None, set()),
        ({"exclude-user": ["bob"]}, None, {"bob"}),
        ({"user": ["bob"], "exclude-user": ["bob"]}, {"bob"}, {"bob"}),
        ({"job": ["7"]}, None, {"root", "zabbix"}),
        ({"job": ["7"], "user": ["root"]}, {"root"}, {"root", "zabbix"}),
        ({"zombie": ["true"]}, None, set()),
    ],
)
def test_jobs_are_ones_own_unless_told_otherwise(
    given: dict[str, list[str]], users: set[str] | None, excluded: set[str]
) -> None:
    records = query(given).filter

    assert records.users == users
    assert records.exclude_users == excluded


def test_other_verbs_and_nobody_ask_for_everyone() -> None:
    assert query({}, "load").filter.users is None
    assert query({"job": ["7"]}, "parse").filter.exclude_users == frozenset()
    assert query({}, account=None).filter.users is None


def test_system_commands_are_left_out_even_if_named() -> None:
    given = {"command": ["bash"], "exclude-command": ["x"]}

    jobs, load, parse = (query(given, name).filter for name in ("jobs", "load", "parse"))

    assert jobs.exclude_commands == frozenset({"x", "bash", "zsh", "sshd", "tmux", "systemd", "_heartbeat_"})
    assert load.exclude_commands == {"x", "bash", "zsh", "sshd", "tmux", "systemd"}
    assert parse.exclude_commands == {"x"}
    assert jobs.commands == frozenset({"bash"})


def test_bad_job_number_and_host_are_errors_of_running() -> None:
    for given in ({"job": ["1,2"]}, {"exclude-job": ["x"]}, {"host": ["a["]}):
        with pytest.raises(SonarError, match=r"Invalid value for --(job|exclude-job|host): ") as caught:
            query(given)
        assert caught.value.exit_status == 1


def test_hosts_are_patterns() -> None:
    hosts = query({"host": ["a.x,b.x", "c[1-2]"]}).filter.hosts

    assert hosts is not None
    assert [host for host in ("a.x", "b.x.y", "c2", "a", "d") if hosts.match(host)] == ["a.x", "b.x.y", "c2"]


def test_window_of_files_is_open_where_no_limit_is_given() -> None:
    window = query({"to": ["2024-01-05"]}).window

    assert (window.start, window.start_active) == (NOW - DAY, False)
    assert (window.end, window.end_active) == (1_704_499_199, True)


def test_window_of_a_tree_is_the_last_day(tmp_path: Path) -> None:
    window = query_of(verb("jobs"), {}, data=tmp_path, now=NOW)[0].window

    assert (window.start, window.end) == (NOW - DAY, NOW)
    assert window.start_active
    assert window.end_active


def test_ages_are_exact_and_days_whole() -> None:
    window = query({"from": ["1w"], "to": ["0d"]}).window
    assert (window.start, window.end) == (NOW - 7 * DAY, NOW)

    window = query({"from": ["2024-1-5"], "to": ["2024-01-05"]}).window
    assert window.end - window.start == DAY - 1


def test_backward_window_and_bad_dates_are_told() -> None:
    with pytest.raises(SonarError, match="The --from time is greater than the --to time"):
        query({"from": ["1d"], "to": ["2d"]})
    for text in ("d", "3D", " 3d", "2024-02-30", "99999999999d", "2024-01-01T00:00", ""):
        with pytest.raises(UsageError, match="Invalid value for --from: Invalid date"):
            query({"from": [text]})


def test_missing_tree_is_told(tmp_path: Path) -> None:
    with pytest.raises(SonarError, match="Not a viable log directory: "):
        query_of(verb("jobs"), {}, data=tmp_path / "absent", now=NOW)


def test_everything_since_ever_is_a_fair_question(tmp_path: Path) -> None:
    day = tmp_path / "2024" / "01" / "05"
    day.mkdir(parents=True)
    (day / "h.csv").touch()

    asked, _ = query_of(verb("jobs"), {"from": ["1-1-1"], "to": ["9999-12-31"]}, data=tmp_path, now=NOW)

    assert asked.scan.files == (day / "h.csv",)
