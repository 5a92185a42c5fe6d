"""The command `sonalyze dossier`: all that is known of one job in a directory or a tar file, to pass on or to keep.

    report.txt       what `sonalyze job` prints
    explain.txt      where each figure comes from
    job.json         the job's row of `jobs`, with all fields, as native JSON
    hosts.parquet    a row a host
    samples.parquet  the samples of its processes, cleaned
    dossier.json     when and from what it was made, and the SHA-256 of each file

With pseudonyms users, hosts, accounts, reservations and the job's name are replaced, the same name always by the same
word, in all files; a command that has a user's name in it loses that.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sonar
from sonar.cli.defaults import with_defaults
from sonar.cli.source import CONFIG_OPTION, SOURCE_OPTIONS, own_defaults, source_of
from sonar.errors import SonarError, UsageError
from sonar.times import iso_text, present
from sonar.verbs.declare import Option, OptionType

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.verbs.declare import Field, Result
    from sonar.verbs.job import Story
    from sonar.verbs.query import Query

__all__ = ["Pseudonyms", "dossier_of", "make_dossier", "save"]

_INTO = Option(
    "output", "the new directory, or tar file if it ends in .tar or .tar.gz", OptionType.PATH, "o", metavar="FILE"
)
_PSEUDONYMS = Option("pseudonyms", "words such as user1 and host2 in place of names", OptionType.FLAG)

# Columns of names, by what is in them.
_NAMES = {
    "user": "user", "sacct_user": "user", "host": "host", "sacct_nodes": "host", "sacct_account": "account",
    "sacct_name": "job", "sacct_reservation": "reservation",
}  # fmt: skip
_KEPT = frozenset({"root", "zabbix", "_sonar_"})


class Pseudonyms:
    """Words for names: user1, host2, account1 and so on, given in the order in which names turn up."""

    def __init__(self) -> None:
        self._words: dict[tuple[str, str], str] = {}

    def word(self, kind: str, name: str) -> str:
        """Return the word for a name; a text of several names joined by commas is one of several words."""
        if kind == "user" and "," in name:
            return ",".join(self.word(kind, one) for one in name.split(","))
        if name in _KEPT or not name:
            return name
        key = (kind, name)
        if key not in self._words:
            self._words[key] = f"{kind}{sum(other == kind for other, _ in self._words) + 1}"
        return self._words[key]

    def value(self, column: str, value: Any) -> Any:
        """Return what stands for a value of a column."""
        if column == "cmd" and isinstance(value, str):
            for (of, name), word in self._words.items():
                if of == "user":
                    value = value.replace(name, word)
            return value
        if column not in _NAMES or value is None:
            return value
        kind = _NAMES[column]
        return [self.word(kind, one) for one in value] if isinstance(value, list) else self.word(kind, value)

    def table(self, table: "pa.Table") -> "pa.Table":
        """Return a table with words for names."""
        import pyarrow as pa

        for at, column in enumerate(table.column_names):
            if column in _NAMES or column == "cmd":
                kind: Any = table.schema.field(at).type
                plain = kind.value_type if pa.types.is_dictionary(kind) else kind
                words = [self.value(column, value) for value in table.column(at).to_pylist()]
                table = table.set_column(at, column, pa.array(words, plain))
        return table


def make_dossier(argv: Sequence[str], summary: str) -> None:
    """Write the dossier that a command line asks for; `summary` is what its help says first."""
    from sonar.cli.options import parse
    from sonar.verbs import verb as declared
    from sonar.verbs.parameters import options_of, query_of

    verb = declared("job")
    shared = [option for option in options_of(verb) if option.name in {"from", "to", "host", "user", "job"}]
    local = [option for option in SOURCE_OPTIONS if option.name in {"data-path", "jobanalyzer-dir", "cluster"}]
    far = [option for option in SOURCE_OPTIONS if option.name == "remote"]
    options = (*local, *far, *shared, CONFIG_OPTION, _PSEUDONYMS, _INTO)
    given = parse("sonalyze dossier", summary, options, argv)
    if given is None:
        return
    question = dict(given.options)
    if "remote" in question:
        raise UsageError("dossier reads the log itself: --remote cannot be used")
    if "output" not in question:
        raise UsageError("Option --output is required")
    where = Path(question.pop("output")[0])
    pseudonyms = bool(question.pop("pseudonyms", ()))
    where_from = (*local, CONFIG_OPTION)
    source = {option.name: question.pop(option.name)[0] for option in where_from if option.name in question}
    if "jobanalyzer-dir" not in source:
        source = with_defaults({"data-path": "", **source}, own_defaults(), files=bool(given.files), takes_config=True)
    query, _fmt = query_of(verb, question, **source_of(verb, source, given.files), now=present())
    save(dossier_of(query, pseudonyms=pseudonyms), where)


def dossier_of(query: "Query", *, pseudonyms: bool) -> dict[str, bytes]:
    """Return the files of the dossier of the job that the question is about, by name. Raise SonarError if none is."""
    from sonar.verbs import verb
    from sonar.verbs.declare import Result
    from sonar.verbs.job import Story, story_of
    from sonar.verbs.parameters import check_options

    story = story_of(query)
    words = Pseudonyms() if pseudonyms else None
    shown = story
    if words is not None:
        for user in story.whole["user"].split(","):
            words.word("user", user)
        nodes = {words.word("host", host): node for host, node in (story.nodes or {}).items()}
        shown = Story(words.table(story.row), words.table(story.by_host), nodes or None)
    jobs, job, explain, parse = (verb(name) for name in ("jobs", "job", "explain", "parse"))
    within = replace(
        query,
        window=replace(query.window, start=story.whole["start"], end=story.whole["end"]),
        options=check_options(parse, {"clean": ["true"]}),
    )
    samples = parse.run(within)
    if words is not None:
        samples = Result(words.table(samples.rows), samples.blocks)
    hosts = job.run(query).rows if words is None else words.table(job.run(query).rows)
    files = {
        "report.txt": _text("job", Result(hosts, facts={"story": shown})),
        "explain.txt": _text("explain", explain.run(query)),
        "job.json": _text("jobs", Result(shown.row), _json_fields(shown, jobs.fields)),
        "hosts.parquet": _parquet(Result(hosts), job.fields),
        "samples.parquet": _parquet(samples, _plain(parse.fields)),
    }
    facts = {
        "made": iso_text(query.now),
        "by": f"sonalyze {sonar.__version__}",
        "job": story.whole["job"],
        "from": iso_text(story.whole["start"]),
        "to": iso_text(story.whole["end"]),
        "pseudonyms": pseudonyms,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    return files | {"dossier.json": json.dumps(facts, indent=2).encode() + b"\n"}


def save(files: Mapping[str, bytes], where: Path) -> None:
    """Write the files into a new directory, or into a tar file if the name ends so. Raise SonarError if that fails."""
    try:
        if where.name.endswith((".tar", ".tgz", ".tar.gz")):
            mode = "x" if where.suffix == ".tar" else "x:gz"
            with tarfile.open(where, mode) as archive:  # type: ignore[call-overload]
                for name, content in files.items():
                    entry = tarfile.TarInfo(f"{where.name.partition('.')[0]}/{name}")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
            return
        where.mkdir(parents=True)
        for name, content in files.items():
            (where / name).write_bytes(content)
    except OSError as error:
        raise SonarError(f"{error.strerror}: '{where}'") from None


def _json_fields(story: "Story", fields: "tuple[Field, ...]") -> str:
    """Return the format of all fields that there is a column for."""
    return "native," + ",".join(field.name for field in _plain(fields) if field.source in story.whole)


def _plain(fields: "tuple[Field, ...]") -> "tuple[Field, ...]":
    """Return the fields without those that are another form of the same column."""
    distinct: dict[str, Field] = {}
    for field in fields:
        distinct.setdefault(field.source, field)
    return tuple(distinct.values())


def _text(name: str, result: "Result", spec: str | None = None) -> bytes:
    from sonar.render.formats import parse_format, write_result
    from sonar.verbs import verb

    out = io.StringIO()
    write_result(verb(name), result, parse_format(verb(name), spec), out)
    return out.getvalue().encode()


def _parquet(result: "Result", fields: "tuple[Field, ...]") -> bytes:
    from sonar.render.formats import Style
    from sonar.render.tables import typed_table, write_table

    out = io.BytesIO()
    write_table(typed_table(result, fields), Style.PARQUET, out)
    return out.getvalue()
