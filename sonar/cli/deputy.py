"""Answering a command line of somebody else: what sonalyzed(8) does for sonalyze(1) on the same machine."""

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TextIO

from sonar import verbs
from sonar.cli.answer import OF_THE_CALLER, arguments_of, keep_memory, options_of_command
from sonar.errors import SonarError
from sonar.times import present
from sonar.verbs.declare import Reads

__all__ = ["answer_for", "prepare"]


def answer_for(
    argv: Sequence[str],
    *,
    tree: str,
    root: Path,
    account: str,
    width: int | None,
    begin: Callable[..., TextIO],
) -> TextIO | None:
    """Answer a command line of somebody else, whose tree `tree` is at `root` here; None if he should do it himself.

    So it is for what is wrong, what names his files, and what is not about his tree. `begin(paged=...)` gives the
    stream that the answer is written to, which is a terminal of this width, or none.
    """
    from sonar.cli.options import parse
    from sonar.render.formats import Style, write_result
    from sonar.verbs.parameters import asks_for_own_records, query_of

    name, *rest = argv
    if name not in verbs.NAMES and name not in verbs.ALIASES:
        return None
    verb = verbs.verb(name)
    if verb.reads not in (Reads.SAMPLES, Reads.TOPICS):
        return None
    try:
        with redirect_stdout(StringIO()):
            given = parse(verb.name, verb.summary, options_of_command(verb), arguments_of(name, rest))
        local = {option.name for option in verb.options if option.local}  # what tells of places on this machine
        if (
            given is None
            or given.files
            or not local.isdisjoint(given.options)
            or not OF_THE_CALLER.isdisjoint(given.options)
        ):
            return None
        question = dict(given.options)
        if question.pop("data-path", [tree]) != [tree] or question.get("fmt", [""])[0].startswith("help"):
            return None
        owner = account if asks_for_own_records(verb, question) else None
        query, fmt = query_of(verb, question, data=root, account=owner, now=present())
        if width is not None and fmt.is_binary:
            return None
        for word in fmt.unknown:
            print(f"sonalyze: unknown word {word!r} in --fmt, ignoring", file=sys.stderr)
        result = verb.answer(query)
    except SonarError:
        return None
    is_table = fmt.style is Style.FIXED and "html" not in fmt.words
    out = begin(paged=is_table)
    write_result(verb, result, replace(fmt, width=width or 0) if is_table else fmt, out)
    return out


def prepare() -> None:
    """Make the parsers of all verbs that `answer_for` answers, which takes longer than to use them; keep memory."""
    from sonar.cli.options import parse

    for verb in map(verbs.verb, verbs.NAMES):
        if verb.reads in (Reads.SAMPLES, Reads.TOPICS) and not any(option.required for option in verb.options):
            parse(verb.name, verb.summary, options_of_command(verb), [])
    keep_memory()
