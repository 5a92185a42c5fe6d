"""The command sonalyze: verbs with their options from the declarations, on typer.

Only the verb that is asked for is imported and made into a typer command, so that help and errors come fast.
"""

import os
import pwd
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypedDict, cast

import sonar
from sonar import verbs
from sonar.cli.defaults import NAME, read_defaults, with_defaults
from sonar.cli.help_topics import TOPICS
from sonar.errors import SonarError, UsageError
from sonar.times import iso_text, present
from sonar.verbs.declare import Option, OptionType, Reads, Verb

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from sonar.config.clusters import Clusters
    from sonar.config.nodes import NodeTable
    from sonar.render.formats import Format
    from sonar.verbs.query import Query

__all__ = ["answer_for", "main", "prepare"]


@dataclass(frozen=True, slots=True)
class _Work:
    """How the work is to be done."""

    jobs: int
    uses_columns: bool
    uses_rollups: bool
    scheduler: str  # the address of a Dask cluster; empty: here


class _Source(TypedDict):
    """Where an answer comes from: arguments of `query_of`."""

    data: Path | Sequence[Path]
    nodes: "NodeTable | None"
    clusters: "Clusters | None"
    reports: Sequence[Path]


_SOURCE = (
    Option("data-path", "root of the log tree ($SONAR_ROOT, else ~/sonar/data)", OptionType.PATH, metavar="DIR"),
    Option(
        "jobanalyzer-dir",
        "root of many clusters: data/, cluster-config/, reports/; with --cluster",
        OptionType.PATH,
        metavar="DIR",
    ),
    Option("remote", "ask the server at this address", metavar="URL"),
    Option("cluster", "cluster to ask about, of a server or a directory of many", metavar="NAME"),
    Option("auth-file", "file with USER:PASSWORD, with --remote", OptionType.PATH, metavar="FILE"),
    Option("ca-file", "certificates to trust, with --remote", OptionType.PATH, metavar="FILE"),
)
_CONFIG = Option("config-file", "description of the nodes, for relative values", OptionType.PATH, metavar="FILE")
_REPORTS = Option("report-dir", "where the reports of the cluster are", OptionType.PATH, metavar="DIR")
_OUTPUT = Option("output", "write to this file instead of standard output", OptionType.PATH, "o", metavar="FILE")
_WORK = (
    Option("jobs", "work in N processes (the processors, where it is worth it)", OptionType.UINT, metavar="N"),
    Option("no-rollup", "answer from samples, not from summaries of days", OptionType.FLAG),
    Option("no-columns", "read the log, not the columns that sonarctl-columnize(8) made of it", OptionType.FLAG),
    Option("scheduler", "work on the Dask cluster of this scheduler, see sonar-analysis(7)", metavar="ADDRESS"),
)
_LOCAL = Option("local", "answer here, without the server of this machine", OptionType.FLAG)
_VERBOSE = Option("verbose", "tell on stderr what was read and dropped", OptionType.FLAG, "v")

_DOSSIER = "Write all that is known of one job into a directory or a tar file"
_INTO = Option(
    "output", "the new directory, or tar file if it ends in .tar or .tar.gz", OptionType.PATH, "o", metavar="FILE"
)
_PSEUDONYMS = Option("pseudonyms", "words such as user1 and host2 in place of names", OptionType.FLAG)

# What only the caller's own process can do: his files, and what he says about the work.
_OF_THE_CALLER = frozenset(
    {option.name for option in (*_SOURCE, *_WORK, _LOCAL, _CONFIG, _REPORTS, _OUTPUT, _VERBOSE)} - {"data-path"}
)
_MOST_JOBS = 1024
_WORTH_A_CLUSTER = 2000  # files of the log, of a host and day each; less is done before a cluster has begun
_ABOUT_A_JOB = frozenset({"job", "explain"})  # a number after these is that of the job
_HELP_WORDS = frozenset({"help", "-h", "--help"})
_VERSION_WORDS = frozenset({"-V", "--version"})


def main(argv: Sequence[str]) -> int:
    """Run the command line and return its exit status: 0, 1 for an error while running, 2 for a wrong command line."""
    try:
        _check_encoding(argv)
        return _dispatch(argv)
    except UsageError as error:
        topic = f" {argv[0]}" if argv and argv[0] in (*verbs.NAMES, *verbs.ALIASES) else ""
        print(f"sonalyze: {error} (try 'sonalyze{topic} --help')", file=sys.stderr)
        return error.exit_status
    except SonarError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        raise
    except OSError as error:  # reading has its own messages: it is the output that cannot be written
        print(f"ERROR: Standard output: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SonarError.exit_status


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
            given = parse(verb.name, verb.summary, _options(verb), _with_job(rest) if name in _ABOUT_A_JOB else rest)
        if given is None or given.files or not _OF_THE_CALLER.isdisjoint(given.options):
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
    """Make the parsers of all verbs that `answer_for` answers, which takes longer than to use them."""
    from sonar.cli.options import parse

    for verb in map(verbs.verb, verbs.NAMES):
        if verb.reads in (Reads.SAMPLES, Reads.TOPICS) and not any(option.required for option in verb.options):
            parse(verb.name, verb.summary, _options(verb), [])


def _check_encoding(argv: Sequence[str]) -> None:
    """Refuse arguments that are not UTF-8, which Python shows as lone surrogates; names of files may be anything."""
    files = list(argv).index("--") if "--" in argv else len(argv)
    for argument in argv[:files]:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(f"Argument {argument!r} is not UTF-8") from None


def _dispatch(argv: Sequence[str]) -> int:
    if not argv:
        print(_overview(), file=sys.stderr, end="")
        return UsageError.exit_status
    name, *rest = argv
    if name in _HELP_WORDS and rest[:1] and (rest[0] in TOPICS or rest[0] == "overview"):
        print(TOPICS[rest[0]][1] if rest[0] in TOPICS else _overview(), end="")
        sys.stdout.flush()
        return 0
    if name in _HELP_WORDS:
        name, rest = (rest[0], ["--help"]) if rest and rest[0] not in _HELP_WORDS else ("help", [])
    if name in _VERSION_WORDS:
        print(f"sonalyze {sonar.__version__}")
    elif name == "version":
        _tell_version(["--help"] if rest[:1] == ["help"] else rest)
    elif name == "help":
        print(_overview(), end="")
    elif name == "dossier":
        _make_dossier(["--help"] if rest[:1] == ["help"] else _with_job(rest))
    elif name in _ABOUT_A_JOB:
        _run(verbs.verb(name), ["--help"] if rest[:1] == ["help"] else _with_job(rest))
    elif name in verbs.NAMES or name in verbs.ALIASES:
        _run(verbs.verb(name), ["--help"] if rest[:1] == ["help"] else rest)
    elif name.startswith("-"):
        raise UsageError(f"No such option before the verb: {name}")
    else:
        raise UsageError(f"No such verb: {name!r}")
    sys.stdout.flush()
    return 0


def _with_job(argv: Sequence[str]) -> list[str]:
    """Return the arguments with a job number that stands first as the option that it means."""
    return ["--job", *argv] if argv and argv[0].isdecimal() else list(argv)


def _make_dossier(argv: Sequence[str]) -> None:
    """Write all that is known of one job into a directory or a tar file."""
    from sonar.cli.dossier import dossier_of, save
    from sonar.cli.options import parse
    from sonar.verbs.parameters import options_of, query_of

    verb = verbs.verb("job")
    shared = [option for option in options_of(verb) if option.name in {"from", "to", "host", "user", "job"}]
    local = [option for option in _SOURCE if option.name in {"data-path", "jobanalyzer-dir", "cluster"}]
    options = (*local, *shared, _CONFIG, _PSEUDONYMS, _INTO)
    given = parse("sonalyze dossier", _DOSSIER, options, argv)
    if given is None:
        return
    question = dict(given.options)
    if "output" not in question:
        raise UsageError("Option --output is required")
    where = Path(question.pop("output")[0])
    pseudonyms = bool(question.pop("pseudonyms", ()))
    where_from = (*local, _CONFIG)
    source = {option.name: question.pop(option.name)[0] for option in where_from if option.name in question}
    if "jobanalyzer-dir" not in source:
        source = with_defaults({"data-path": "", **source}, _defaults(), files=bool(given.files), takes_config=True)
    query, _fmt = query_of(verb, question, **_source(verb, source, given.files), now=present())
    save(dossier_of(query, pseudonyms=pseudonyms), where)


def _tell_version(argv: Sequence[str]) -> None:
    """Print version and features of the program, or what a server says of itself."""
    from sonar.cli import remote
    from sonar.cli.options import parse

    options = [option for option in _SOURCE if option.name in {"remote", "auth-file", "ca-file"}]
    given = parse("sonalyze version", "Print version and features of the program, or of a server", options, argv)
    if given is None:
        return
    if given.files:
        raise UsageError(f"version takes no file: {given.files[0]!r}")
    where = {name: texts[0] for name, texts in given.options.items()}
    if "remote" not in where:
        print(f"sonalyze version({sonar.__version__}) features(untagged_sonar_data)")
        return
    server = remote.Server(
        where["remote"],
        credentials=remote.credentials(Path(where["auth-file"]) if "auth-file" in where else None, where["remote"]),
        ca_file=Path(where["ca-file"]) if "ca-file" in where else None,
    )
    server.version().copy(sys.stdout.buffer)


def _overview() -> str:
    verb_lines = [f"  {name:<10}  {verbs.verb(name).summary}" for name in verbs.NAMES]
    return "\n".join(
        [
            "Usage: sonalyze VERB [OPTION ...] [-- FILE ...]",
            "",
            "Tell what jobs and hosts of a cluster did, from the samples of its nodes.",
            "",
            "Verbs:",
            *verb_lines,
            f"  dossier     {_DOSSIER}",
            "  version     Print version and features",
            "  help        Print this, the options of a verb, or about a topic: sonalyze help jobs",
            "",
            "Topics of help:",
            *(f"  {name:<12}  {what}" for name, (what, _text) in TOPICS.items()),
            "",
            "Options:",
            "  -h, --help     Print this",
            "  -V, --version  Print the version",
            "",
            "See sonalyze(1).",
            "",
        ]
    )


def _run(verb: Verb, argv: Sequence[str]) -> None:
    """Answer the question that a verb's arguments ask."""
    from sonar.cli.options import parse

    options = _options(verb)
    given = parse(f"sonalyze {verb.name}", verb.summary, options, argv)
    if given is None:
        return
    question = dict(given.options)
    where_from = (*_SOURCE, _CONFIG, _REPORTS)
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
        source["data-path"] = str(Path(source["data-path"]).absolute())
    output = Path(question.pop("output")[0]) if "output" in question else None
    if question.get("fmt", [""])[0].startswith("help"):
        from sonar.render.formats import format_help

        print(format_help(verb), end="")
        return
    defaults = _defaults()
    source = with_defaults(source, defaults, files=bool(given.files), takes_config=verb.takes_config)
    for name in ("from", "to"):
        if name in defaults and any(option.name == name for option in options):
            question.setdefault(name, [defaults[name]])
    with _opened(output) as out:
        if "jobanalyzer-dir" not in source and ("remote" in source or "cluster" in source):
            _ask_server(verb, question, source, given.files, out, verbose=verbose)
        else:
            _answer(verb, question, source, given.files, out, work=work, verbose=verbose)


def _options(verb: Verb) -> tuple[Option, ...]:
    """Return all options of a verb on the command line."""
    from sonar.verbs.parameters import options_of

    config = (*((_CONFIG,) if verb.takes_config else ()), *((_REPORTS,) if verb.reads is Reads.REPORTS else ()))
    work = _WORK if verb.reads is Reads.SAMPLES else ()
    return (*_SOURCE, _LOCAL, *options_of(verb), *config, *work, _OUTPUT, _VERBOSE)


def _jobs(texts: Sequence[str]) -> int:
    """Return how many processes may work."""
    if not texts:
        return len(os.sched_getaffinity(0))
    if not texts[0].isascii() or not texts[0].isdigit() or not 0 < int(texts[0]) <= _MOST_JOBS:
        raise UsageError(f"Invalid value for --jobs: {texts[0]!r} is not a number from 1 to {_MOST_JOBS}")
    return int(texts[0])


def _defaults() -> dict[str, str]:
    """Return the defaults of the caller's own file."""
    home = os.environ.get("HOME")
    return read_defaults(Path(home) / NAME) if home else {}


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


def _answer(
    verb: Verb,
    question: Mapping[str, list[str]],
    source: Mapping[str, str],
    files: Sequence[str],
    out: TextIO,
    *,
    work: _Work,
    verbose: bool,
) -> None:
    """Answer from the log tree or from files."""
    from sonar.cli.terminal import paged, still_working, width
    from sonar.render.formats import Style, write_result
    from sonar.verbs.parameters import asks_for_own_records, query_of

    query, fmt = query_of(
        verb,
        question,
        **_source(verb, source, files),
        account=_account() if asks_for_own_records(verb, question) else None,
        now=present(),
    )
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
    if verbose:
        _tell_what_was_read(query, fmt, result.rows.num_rows)
    if fmt.style is not Style.FIXED or "html" in fmt.words:
        write_result(verb, result, fmt, out)
        return
    fmt = replace(fmt, width=width(out))
    with paged(out) as page:
        write_result(verb, result, fmt, cast("TextIO", page))


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


def _source(verb: Verb, source: Mapping[str, str], files: Sequence[str]) -> "_Source":
    """Return where the answer comes from: files, one cluster's log tree, or a directory of many clusters."""
    from sonar.config.clusters import Clusters
    from sonar.config.nodes import read_nodes

    nodes = read_nodes(Path(source["config-file"])) if "config-file" in source else None
    reports = _audiences(Path(source["report-dir"])) if "report-dir" in source else ()
    if "jobanalyzer-dir" not in source:
        if verb.reads is Reads.SITE:
            return {"data": [], "nodes": None, "clusters": _clusters_here(), "reports": ()}
        data = (
            [Path(name) for name in files]
            if files or verb.reads is Reads.REPORTS
            else _data_path(source.get("data-path"))
        )
        return {"data": data, "nodes": nodes, "clusters": None, "reports": reports}
    if files or "data-path" in source or "remote" in source:
        raise SonarError("--jobanalyzer-dir cannot be used with --data-path, --remote or -- logfile ...")
    root = Path(source["jobanalyzer-dir"])
    clusters = Clusters(root / "data", root / "cluster-config", root / "reports")
    if not clusters.data.is_dir():
        raise SonarError(f"Not a directory: '{clusters.data}'")
    if verb.reads is Reads.SITE:
        return {"data": [], "nodes": None, "clusters": clusters, "reports": ()}
    if "cluster" not in source:
        raise SonarError("--jobanalyzer-dir needs --cluster")
    cluster = clusters.find(source["cluster"])
    return {
        "data": clusters.data / cluster,
        "nodes": nodes if nodes is not None or not verb.takes_config else clusters.nodes(cluster),
        "clusters": clusters,
        "reports": reports or _audiences(root / "reports" / cluster),
    }


def _clusters_here() -> "Clusters":
    """Return the clusters of the server that this machine is, by its sonar.conf(5). Raise SonarError if it is none."""
    from sonar.config.clusters import Clusters
    from sonar.config.settings import load_settings

    paths = load_settings().paths
    if not paths.data.is_dir():
        raise SonarError(f"No clusters at '{paths.data}': give --jobanalyzer-dir, or --remote")
    return Clusters(paths.data, paths.clusters, paths.reports)


def _audiences(reports: Path) -> tuple[Path, ...]:
    """Return where to look for a report of a cluster, that for the most narrow audience first."""
    return (*(reports / audience for audience in ("admin", "login", "public")), reports)


def _ask_server(
    verb: Verb,
    question: Mapping[str, list[str]],
    source: Mapping[str, str],
    files: Sequence[str],
    out: TextIO,
    *,
    verbose: bool,
) -> None:
    """Let a server answer; its answer is passed on as it is."""
    from sonar.cli import remote
    from sonar.cli.terminal import still_working
    from sonar.verbs.parameters import asks_for_own_records, check_options, options_of

    for name in ("data-path", "config-file"):
        if name in source:
            raise SonarError(f"--{name} may not be used with --remote or --cluster")
    for option in options_of(verb):
        if option.local and option.name in question:
            raise SonarError(f"--{option.name} may not be used with --remote or --cluster")
    if files:
        raise SonarError("-- logfile ... may not be used with --remote or --cluster")
    if not ("remote" in source and ("cluster" in source or verb.reads is Reads.SITE)):
        raise SonarError("--remote and --cluster must be used together")
    check_options(verb, question)
    _refuse_binary_for_people(question.get("fmt", [""])[0].split(","), out)
    if asks_for_own_records(verb, question):
        question = {**question, "user": [_account()]}  # the server would take its own
    server = remote.Server(
        source["remote"],
        credentials=remote.credentials(Path(source["auth-file"]) if "auth-file" in source else None, source["remote"]),
        ca_file=Path(source["ca-file"]) if "ca-file" in source else None,
    )
    if verbose:
        print(f"Request: {remote.request_url(server.address, verb, source.get('cluster'), question)}", file=sys.stderr)
    with still_working(f"sonalyze: waiting for {server.address}", sys.stderr):
        answer = server.ask(verb, source.get("cluster"), question)
    answer.copy(out.buffer)


def _refuse_binary_for_people(words: Iterable[str], out: TextIO) -> None:
    binary = sorted({"arrow", "parquet"} & set(words))
    if binary and out.isatty():
        raise UsageError(f"--fmt: {binary[0]} is binary, and this is a terminal: give --output, or redirect")


def _data_path(option: str | None) -> Path:
    """Return the root of the log tree: the option, $SONAR_ROOT, or below the home directory."""
    if option:
        return Path(option)
    if root := os.environ.get("SONAR_ROOT"):
        return Path(root)
    if home := os.environ.get("HOME"):
        return Path(home) / "sonar" / "data"
    raise SonarError("No data path: give --data-path, or set SONAR_ROOT or HOME")


def _account() -> str:
    """Return the name of the caller's account."""
    for variable in ("LOGNAME", "USER"):
        if name := os.environ.get(variable):
            return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise SonarError(f"User {os.getuid()} has no name: give --user, or set LOGNAME") from None


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
