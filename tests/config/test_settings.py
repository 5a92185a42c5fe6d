"""sonar.conf: systemd's format and precedence, and what is said about a wrong file."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.config import settings, values
from sonar.config.files import files_of
from sonar.config.sections import ConfigError, parse_sections
from sonar.config.settings import Settings, load_settings, load_with_origins
from sonar.config.write import files_of_checkout, settings_example
from sonar.errors import SonarError


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _load(tmp_path: Path, text: str) -> Settings:
    return load_with_origins([_write(tmp_path / "sonar.conf", text)])[0]


def test_without_a_file_all_is_as_the_table_says() -> None:
    assert load_with_origins([])[0] == Settings()
    assert Settings().ingest.max_body == 64 << 20
    assert Settings().alert.sendmail == ("/usr/sbin/sendmail", "-i", "-t")


def test_example_shows_the_defaults(tmp_path: Path) -> None:
    commented = settings_example()
    active = re.sub(r"^#([A-Z]\w+=)", r"\1", commented, flags=re.MULTILINE)

    assert _load(tmp_path, commented) == Settings()
    assert _load(tmp_path, active) == Settings()
    assert active.count("=") >= len(list(settings.table()))


def test_generated_files_of_the_checkout_are_up_to_date() -> None:
    for path, content in files_of_checkout().items():
        assert path.read_text() == content, f"run `make generate`: {path}"


def test_values_are_read_in_systemds_notation(tmp_path: Path) -> None:
    loaded = _load(
        tmp_path,
        "# comment\n; comment\n[Ingest]\nMaxBody = 1G\nAnyCluster=on\n\n[Check]\nForgetAfter=1w 2d\nFreeSpace=5 %\n"
        "[Alert]\nMailTo=a@x.example \\\n# in between\n  b@x.example\nCommand=/bin/tell --subject 'two words'\n",
    )

    assert loaded.ingest.max_body == 1 << 30
    assert loaded.ingest.any_cluster is True
    assert loaded.check.forget_after == 9 * 86400
    assert loaded.check.free_space == 5
    assert loaded.alert.mail_to == ("a@x.example", "b@x.example")
    assert loaded.alert.command == ("/bin/tell", "--subject", "two words")


def test_later_assignment_wins_lists_add_up_and_nothing_resets(tmp_path: Path) -> None:
    first = _write(tmp_path / "a.conf", "[Alert]\nMailTo=a@x\nWebhook=http://x/\n[Ingest]\nMaxBody=1M\n")
    second = _write(tmp_path / "b.conf", "[Alert]\nMailTo=b@x\nWebhook=\n[Ingest]\nMaxBody=2M\n")
    third = _write(tmp_path / "c.conf", "[Alert]\nMailTo=\nMailTo=c@x\n")

    both, origins = load_with_origins([first, second])
    last, _ = load_with_origins([first, second, third])

    assert both.alert.mail_to == ("a@x", "b@x")
    assert both.alert.webhook == ""
    assert both.ingest.max_body == 2 << 20
    assert (origins["Ingest", "MaxBody"].path, origins["Ingest", "MaxBody"].line) == (second, 5)
    assert last.alert.mail_to == ("c@x",)


def test_drop_ins_are_sorted_by_name_and_the_stronger_directory_masks(tmp_path: Path) -> None:
    etc, vendor = tmp_path / "etc", tmp_path / "usr"
    main = _write(etc / "sonar.conf", "[Ingest]\nMaxBody=1M\n")
    _write(vendor / "sonar.conf", "[Ingest]\nMaxBody=9M\n")
    early = _write(vendor / "sonar.conf.d/10-a.conf", "[Ingest]\nMaxBody=2M\n")
    late = _write(etc / "sonar.conf.d/20-b.conf", "[Ingest]\nMaxBody=3M\n")
    _write(vendor / "sonar.conf.d/20-b.conf", "[Ingest]\nMaxBody=4M\n")
    _write(vendor / "sonar.conf.d/30-off.conf", "[Ingest]\nMaxBody=5M\n")
    (etc / "sonar.conf.d/30-off.conf").symlink_to("/dev/null")
    _write(etc / "sonar.conf.d/README", "no drop-in\n")

    assert files_of("sonar.conf", [etc, vendor]) == [main, early, late]


def test_environment_names_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = _write(tmp_path / "own.conf", "[Ingest]\nMaxBody=1M\n")
    _write(tmp_path / "own.conf.d/x.conf", "[Query]\nTitle=Here\n")
    monkeypatch.setenv("SONAR_CONFIG", str(own))

    assert load_settings().ingest.max_body == 1 << 20
    assert load_settings().query.title == "Here"

    monkeypatch.setenv("SONAR_CONFIG", str(tmp_path / "absent.conf"))
    with pytest.raises(SonarError, match=r"SONAR_CONFIG: no such file"):
        load_settings()


def test_all_that_is_wrong_is_told_with_file_line_and_key(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "sonar.conf",
        "MaxBody=1\n[Ingest\n[Ingest]\nnonsense\n",
    )
    other = _write(
        tmp_path / "more.conf",
        "[Ingest]\nMaxBody=lots\nMaxBodies=1M\nX-Site=1\n[Ingst]\nA=1\n[X-Other]\nB=2\n[Check]\nFreeSpace=101%\n"
        "ForgetAfter=3 moons\nRequireClockSync=perhaps\nRestarts=-1\n[Paths]\nData=relative\n[Alert]\nCommand='open\n",
    )

    with pytest.raises(ConfigError) as caught:
        load_with_origins([path, other])

    assert list(caught.value.problems) == [
        f"{path}:1: MaxBody= stands before the first [SECTION]",
        f"{path}:2: bad section '[Ingest': want [NAME]",
        f"{path}:4: bad line 'nonsense': want KEY=VALUE",
        f"{other}:2: MaxBody: 'lots' is no size such as 65536, 64M or 1G",
        f"{other}:3: MaxBodies: unknown (did you mean MaxBody?)",
        f"{other}:5: unknown section [Ingst] (did you mean Ingest?)",
        f"{other}:10: FreeSpace: '101%' is more than 100 %",
        f"{other}:11: ForgetAfter: '3 moons': no unit of time 'moons'",
        f"{other}:12: RequireClockSync: 'perhaps' is neither yes nor no",
        f"{other}:13: Restarts: '-1' is no whole number",
        f"{other}:15: Data: 'relative' is no absolute path",
        f'{other}:17: Command: "\'open": No closing quotation',
    ]


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    binary = tmp_path / "sonar.conf"
    binary.write_bytes(b"[Query]\nTitle=\xff\n")

    with pytest.raises(ConfigError, match=r"sonar\.conf:2: not UTF-8"):
        load_with_origins([binary])
    with pytest.raises(ConfigError, match=r"cannot read '.*absent': No such file or directory"):
        load_with_origins([tmp_path / "absent"])


@given(st.integers(0, 10**9))
def test_spans_and_sizes_are_read_as_they_are_written(number: int) -> None:
    assert values.SPAN.parse(values.SPAN.text(number)) == number
    assert values.SIZE.parse(values.SIZE.text(number)) == number


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    problems: tuple[str, ...] = ()
    try:
        parse_sections(text, Path("f"))
    except ConfigError as error:
        problems = error.problems

    assert all(problem.startswith("f:") for problem in problems)
