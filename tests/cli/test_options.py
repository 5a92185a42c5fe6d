"""The short way through an ordinary command line, held to typer's."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonar import verbs
from sonar.cli import options
from sonar.cli.answer import options_of_command
from sonar.errors import UsageError

OPTIONS = options_of_command(verbs.verb("jobs"))
NAMES = [f"--{option.name}" for option in OPTIONS] + [f"-{option.short}" for option in OPTIONS if option.short]
VALUES = ["", "-", "--", "-x", "ann", "=ann", "1", "a,b", "-1", "--batch", "x=y"]
arguments = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(VALUES),
    st.builds(
        "{}{}{}".format,
        st.sampled_from([*NAMES, "-z", "--nothing"]),
        st.sampled_from(["", "="]),
        st.sampled_from(VALUES),
    ),
)


def said(argv: list[str]) -> options.Given | str | None:
    try:
        return options.parse("sonalyze jobs", "Print jobs", OPTIONS, argv)
    except UsageError as error:
        return str(error)


@settings(max_examples=150, deadline=None)
@given(st.lists(arguments, max_size=4))
def test_the_short_way_says_what_typer_does(argv: list[str]) -> None:
    way = options._ordinary(OPTIONS, argv)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(options, "_ordinary", lambda *_: None)
        by_typer = said(argv)

    assert said(argv) == by_typer
    if way is not None:
        assert way == by_typer
        assert isinstance(by_typer, options.Given)
        assert list(way.options) == list(by_typer.options)


def test_an_ordinary_command_line_is_taken_apart_without_typer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    argv = ["-u-", "--from=2w", "--host", "n1", "--host=n2", "-b", "-v", "--fmt", "csv,job", "--", "-x", "y"]

    assert options.parse("sonalyze jobs", "Print jobs", OPTIONS, argv) == options.Given(
        {
            "from": ["2w"],
            "host": ["n1", "n2"],
            "user": ["-"],
            "batch": ["true"],
            "fmt": ["csv,job"],
            "verbose": ["true"],
        },
        ["-x", "y"],
    )
