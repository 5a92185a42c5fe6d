"""`sonalyze help TOPIC`: what it says can be typed."""

import re

import pytest

from sonar import verbs
from sonar.cli.help_topics import TOPICS
from sonar.cli.sonalyze import main
from sonar.render.formats import parse_format
from sonar.verbs.expression import parse_expression
from sonar.verbs.parameters import options_of
from sonar.verbs.rows import parse_sort

JOBS = verbs.verb("jobs")


@pytest.mark.parametrize("topic", TOPICS)
def test_topics_are_printed_and_listed(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", topic]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == (TOPICS[topic][1], "")
    assert max(map(len, told.out.splitlines())) <= 120
    assert main(["help"]) == 0
    assert f"  {topic} " in capsys.readouterr().out


def test_overview_is_the_help_itself_and_no_topic_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    overview = capsys.readouterr().out
    assert main(["help", "overview"]) == 0
    assert capsys.readouterr().out == overview
    assert main(["help", "frob"]) == 2
    assert "'frob'" in capsys.readouterr().err


def test_options_are_those_of_the_verbs() -> None:
    known = {option.name for name in verbs.NAMES for option in options_of(verbs.verb(name))}
    known |= {"data-path", "jobanalyzer-dir", "cluster", "remote", "auth-file"}
    text = "".join(text for _, text in TOPICS.values())
    assert set(re.findall(r"--([a-z][a-z-]*)", text)) <= known


def test_examples_are_understood() -> None:
    text = "".join(text for _, text in TOPICS.values())
    queries = [query for pair in re.findall(r"-q (?:'([^']*)'|\"([^\"]*)\")", text) for query in pair if query]
    formats = [form.rstrip(".") for form in re.findall(r"--fmt=([a-z][^\s]*)", text)]
    orders = re.findall(r"--sort=([^\s]+)", text)
    assert (len(queries), len(orders)) == (3, 1)
    for query in queries:
        parse_expression(query, JOBS.fields)
    for order in orders:
        parse_sort(order, JOBS)
    for form in formats:
        if form not in ("help", "chart"):
            assert parse_format(JOBS, form).unknown == ()
