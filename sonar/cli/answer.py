"""Answering the question that a command line of sonalyze asks: here, or by a server; onto a terminal or into a file."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from sonar.cli.defaults import with_defaults
from sonar.cli.source import (
    CONFIG_OPTION,
    REPORTS_OPTION,
    SOURCE_OPTIONS,
    account_of_caller,
    own_defaults,
    source_of,
)
from sonar.errors import SonarError, UsageError
from sonar.places import ObjectPath, place_of
from sonar.times import iso_text, present
from sonar.verbs.declare import Option, OptionType, Reads, Verb

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from sonar.render.formats import Format
    from sonar.verbs.query import Query

__all__ = ["OF_THE_CALLER", "answer_verb", "arguments_of", "keep_memory", "options_of_command"]

_OUTPUT = Option("output", "write to this file instead of standard output", OptionType.PATH, "o", metavar="FILE")
_WORK = (
    Option("jobs", "work in N processes (the processors, where it is worth it)", OptionType.UINT, metavar="N"),
    Option("no-rollup", "answer from samples, not from summaries of days", OptionType.FLAG),
    Option("no-columns", "read the log, not the columns that sonarctl-columnize(8) made of it", OptionType.FLAG),
    Option("scheduler", "work on the Dask cluster of this scheduler, see sonar-analysis(7)", metavar="ADDRESS"),
)
_LOCAL = Option("local", "answer here, without the server of this machine", OptionType.FLAG)
_VERBOSE = Option("verbose", "tell on stderr what was read and dropped", OptionType.FLAG, "v")

# What only the caller's own process can do: his files, and what he says about the work.
OF_THE_CALLER = frozenset(
    {option.name for option in (*SOURCE_OPTIONS, *_WORK, _LOCAL, CONFIG_OPTION, REPORTS_OPTION, _OUTPUT, _VERBOSE)}
    - {"data-path"}
)
_ABOUT_A_JOB = frozenset({"job", "explain", "dossier"})
_MOST_JOBS = 1024
_LARGE_PAGE = 1 << 21
_HEAP = 384 << 20  # of which large pages are wanted
_WORTH_A_CLUSTER = 2000  # files of the log, of a host and day each; less is done before a cluster has begun


@dataclass(frozen=True, slots=True)
class _Work:
    """How the work is to be done."""

    jobs: int
    uses_columns: bool
    uses_rollups: bool
    scheduler: str  # the address of a Dask cluster; empty: here


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a command line asks for: options of the verb by name, where the answer comes from, and how to work."""

    verb: Verb
    question: Mapping[str, list[str]]
    source: Mapping[str, str]
    files: Sequence[str]
    work: _Work
    verbose: bool


def arguments_of(name: str, argv: Sequence[str]) -> list[str]:
    """Return the arguments of a verb, `help` as the option, and a number that stands first as that of a job."""
    if argv[:1] == ["help"]:
        return ["--help"]
    return ["--job", *argv] if name in _ABOUT_A_JOB and argv and argv[0].isdecimal() else list(argv)


def answer_verb(verb: Verb, argv: Sequence[str]) -> None:
    """Answer the question that a verb's arguments ask."""
    from sonar.cli.options import parse

    options = options_of_command(verb)
    given = parse(f"sonalyze {verb.name}", verb.summary, options, argv)
    if given is None:
        return
    question = dict(given.options)
    where_from = (*SOURCE_OPTIONS, CONFIG_OPTION, REPORTS_OPTION)
    source = {option.name: question.pop(option.name)[0] for option in where_from if option.name in question}
    question.pop("local", ())
    verbose = bool(question.pop("verbose", ()))
    work = _Work(
        _jobs(question.pop("jobs", ())),
        uses_columns=not question.pop("no-columns", ()),
        uses_rollups=not question.pop("no-rollup", ()),
        scheduler="".join(question.pop("scheduler", ())),
    )
    if work.scheduler and "data-path" in source:  # workers have directories of their own
        place = place_of(source["data-path"])
        source["data-path"] = source["data-path"] if isinstance(place, ObjectPath) else str(place.absolute())
    output = Path(question.pop("output")[0]) if "output" in question else None
    if question.get("fmt", [""])[0].startswith("help"):
        from sonar.render.formats import format_help

        print(format_help(verb), end="")
        return
    defaults = own_defaults()
    source = with_defaults(source, defaults, files=bool(given.files), takes_config=verb.takes_config)
    for name in ("from", "to"):
        if name in defaults and any(option.name == name for option in options):
            question.setdefault(name, [defaults[name]])
    asked = _Asked(verb, question, source, given.files, work, verbose)
    with _opened(output) as out:
        if "jobanalyzer-dir" not in source and ("remote" in source or "cluster" in source):
            _ask_server(asked, out)
        else:
            _answer(asked, out)


def options_of_command(verb: Verb) -> tuple[Option, ...]:
    """Return all options of a verb on the command line."""
    from sonar.verbs.parameters import options_of

    config = (
        *((CONFIG_OPTION,) if verb.takes_config else ()),
        *((REPORTS_OPTION,) if verb.reads is Reads.REPORTS else ()),
    )
    work = _WORK if verb.reads is Reads.SAMPLES else ()
    return (*SOURCE_OPTIONS, _LOCAL, *options_of(verb), *config, *work, _OUTPUT, _VERBOSE)


def _jobs(texts: Sequence[str]) -> int:
    """Return how many processes may work."""
    if not texts:
        return len(os.sched_getaffinity(0))
    if not texts[0].isascii() or not texts[0].isdigit() or not 0 < int(texts[0]) <= _MOST_JOBS:
        raise UsageError(f"Invalid value for --jobs: {texts[0]!r} is not a number from 1 to {_MOST_JOBS}")
    return int(texts[0])


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    """Give standard output, or a file that replaces the one of that name when all has been written."""
    if output is None:
        _use_utf8()
        yield sys.stdout
        return
    part = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as out:
            yield out
        part.replace(output)
    except OSError as error:
        raise SonarError(f"{error.strerror}: '{output}'") from None
    finally:
        part.unlink(missing_ok=True)


def _answer(asked: _Asked, out: TextIO) -> None:
    """Answer from the log tree or from files."""
    from sonar.cli.terminal import paged, still_working, width
    from sonar.render.formats import Style, write_result
    from sonar.verbs.parameters import asks_for_own_records, query_of

    verb, question, work = asked.verb, asked.question, asked.work
    query, fmt = query_of(
        verb,
        question,
        **source_of(verb, asked.source, asked.files),
        account=account_of_caller() if asks_for_own_records(verb, question) else None,
        now=present(),
    )
    query = replace(query, only_fields=True)
    keep_memory()
    query.scan.jobs = work.jobs
    query.scan.use_columns, query.scan.use_rollups = work.uses_columns, work.uses_rollups
    for word in fmt.unknown:
        print(f"sonalyze: unknown word {word!r} in --fmt, ignoring", file=sys.stderr)
    _refuse_binary_for_people(fmt.words, out)
    with (
        still_working(f"sonalyze: reading {len(query.scan.files)} files", sys.stderr),
        _workers(work.scheduler, len(query.scan.files)) as query.scan.executor,
    ):
        result = verb.answer(query)
    for warning in result.warnings:
        print(f"sonalyze: {warning}", file=sys.stderr)
    if asked.verbose:
        _tell_what_was_read(query, fmt, result.rows.num_rows)
    if fmt.style is not Style.FIXED or "html" in fmt.words:
        write_result(verb, result, fmt, out)
        return
    fmt = replace(fmt, width=width(out))
    with paged(out) as page:
        write_result(verb, result, fmt, cast("TextIO", page))


def keep_memory() -> None:
    """Let what arrays gave back be used again at once: the system would clear each page that it gives out anew.

    That is a third of the time that days take from columns. Where the system gives out large pages, it gives these:
    one for each 512 others. Only the GNU C library knows how.
    """
    import ctypes
    import mmap

    library = ctypes.CDLL(None)
    mallopt = getattr(library, "mallopt", None)
    if mallopt is None:
        return
    for trim_or_mmap_threshold in (-1, -3):
        mallopt(trim_or_mmap_threshold, 1 << 30)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    library.free.argtypes = [ctypes.c_void_p]
    place = library.malloc(_HEAP)
    if place:  # addresses only: what is not used takes no memory
        begin = -(-place // _LARGE_PAGE) * _LARGE_PAGE
        library.madvise(begin, (place + _HEAP - begin) // _LARGE_PAGE * _LARGE_PAGE, mmap.MADV_HUGEPAGE)
        library.free(place)


@contextmanager
def _workers(scheduler: str, files: int) -> "Iterator[Executor | None]":
    """Give the workers that do the work: of the scheduler that was named, or of the site's if there is much to do."""
    from sonar.read.workers import dask_workers

    if not scheduler and files >= _WORTH_A_CLUSTER:
        from sonar.config.settings import load_settings

        scheduler = load_settings().analysis.scheduler
    if not scheduler:
        yield None
        return
    with dask_workers(scheduler) as executor:
        yield executor


def _ask_server(asked: _Asked, out: TextIO) -> None:
    """Let a server answer; its answer is passed on as it is."""
    from sonar.cli import remote
    from sonar.cli.terminal import still_working
    from sonar.verbs.parameters import asks_for_own_records, check_options, options_of

    verb, question, source = asked.verb, asked.question, asked.source
    for name in ("data-path", "config-file"):
        if name in source:
            raise SonarError(f"--{name} may not be used with --remote or --cluster")
    for option in options_of(verb):
        if option.local and option.name in question:
            raise SonarError(f"--{option.name} may not be used with --remote or --cluster")
    if asked.files:
        raise SonarError("-- logfile ... may not be used with --remote or --cluster")
    if not ("remote" in source and ("cluster" in source or verb.reads is Reads.SITE)):
        raise SonarError("--remote and --cluster must be used together")
    check_options(verb, question)
    _refuse_binary_for_people(question.get("fmt", [""])[0].split(","), out)
    if asks_for_own_records(verb, question):
        question = {**question, "user": [account_of_caller()]}  # the server would take its own
    server = remote.Server(
        source["remote"],
        credentials=remote.credentials(Path(source["auth-file"]) if "auth-file" in source else None, source["remote"]),
        ca_file=Path(source["ca-file"]) if "ca-file" in source else None,
    )
    if asked.verbose:
        print(f"Request: {remote.request_url(server.address, verb, source.get('cluster'), question)}", file=sys.stderr)
    with still_working(f"sonalyze: waiting for {server.address}", sys.stderr):
        answer = server.ask(verb, source.get("cluster"), question)
    answer.copy(out.buffer)


def _refuse_binary_for_people(words: Iterable[str], out: TextIO) -> None:
    binary = sorted({"arrow", "parquet"} & set(words))
    if binary and out.isatty():
        raise UsageError(f"--fmt: {binary[0]} is binary, and this is a terminal: give --output, or redirect")


def _tell_what_was_read(query: "Query", fmt: "Format", rows: int) -> None:
    """Tell on stderr which files were read, what of them was dropped and why, and for which time."""
    window, files = query.window, [*query.scan.files, *query.topics.files]
    discarded = query.scan.discarded + query.topics.discarded
    lines = [f"Log files: {len(files)}", *(f"  {path}" for path in files)]
    lines += [f"Read from: {query.scan.way}"] if query.scan.way else []
    lines += [f"Number of records discarded: {sum(discarded.values())}"]
    lines += [f"  {path}: {number} {reason}" for (path, reason), number in sorted(discarded.items())]
    for name, instant, active in (("From", window.start, window.start_active), ("To", window.end, window.end_active)):
        lines.append(f"{name}: {iso_text(instant) if active else 'as the data'}")
    lines += [f"Fields: {','.join(fmt.names)}", f"Number of rows: {rows}"]
    print(*lines, sep="\n", file=sys.stderr)


def _use_utf8() -> None:
    """Write what was read, whatever the locale says: answers go into files and other programs."""
    from io import TextIOWrapper

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
