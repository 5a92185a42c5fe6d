"""Answers over HTTP: what a process of the server writes for a request to the interface.

    GET /VERB?cluster=NAME&option=value&...          the text that sonalyze(1) prints
    GET /api/v0/VERB?cluster=NAME&option=value&...   the same text, as one JSON string

Parameters are the long options of the verb; one that may be repeated on the command line may be so here. A flag is
`true`, or the word that clients of old send for it. `Accept` may ask for JSON, CSV or an Arrow stream instead.
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TextIO, cast

from sonar import verbs
from sonar.config.clusters import Clusters
from sonar.errors import UsageError
from sonar.web.questions import Asker, question_of

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.serve.passwords import Identity
    from sonar.web.nursery import Reply
    from sonar.web.questions import Answered

__all__ = ["ARROW", "CSV", "HTML", "JSON", "PARQUET", "TEXT", "accepted", "answer"]

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv; charset=utf-8"
HTML = "text/html; charset=utf-8"
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

_MEDIA_TYPES = {"json": JSON, "csv": CSV, "csvnamed": CSV}
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_ALONE = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox allow-modals"
_STYLES = frozenset({"json", "csv", "csvnamed", "awk", "fixed", "html", "native"})
# What `Accept` can ask for, and the words of a format that mean it.
_ACCEPTED = {"application/json": "json", "text/csv": "csv,header", ARROW: "arrow"}


def answer(
    reply: "Reply",
    clusters: Clusters,
    who: "Identity",
    now: int,
    verb_name: str,
    parameters: Sequence[tuple[str, str]],
    accept: str,
    as_json_string: bool,  # noqa: FBT001
) -> None:
    """Answer a question. Raise UsageError for bad parameters, UnknownClusterError, SonarError for what else fails."""
    from sonar.render.formats import format_help, write_result

    verb = verbs.verb(verb_name)
    asker = Asker(clusters, who, now)
    name, given = question_of(verb, parameters)
    cluster = asker.cluster(name) if name is not None else None
    wanted = accepted(accept)
    if as_json_string and wanted == "json":
        wanted = ""  # one JSON string is what this interface answers
    if given.get("fmt", [""])[0].startswith("help"):
        _start(reply, TEXT, as_json_string=as_json_string)
        _write_text(reply, format_help(verb), as_json_string=as_json_string)
        return
    if wanted and wanted != "arrow" and not _STYLES & set(",".join(given.get("fmt", ())).split(",")):
        given["fmt"] = [f"{given.get('fmt', ['default'])[0]},{wanted}"]
    answered = asker.ask(verb_name, cluster, given)
    if wanted == "arrow":
        reply.start(200, ARROW)
        _write_arrow(reply, answered)
        return
    fmt = answered.fmt
    if fmt.is_binary:
        _write_binary(reply, answered, as_json_string=as_json_string)
        return
    if verb_name == "report" and not as_json_string:
        _send_report(reply, given["report-name"][0], answered)
        return
    media_type = HTML if "html" in fmt.words else _MEDIA_TYPES.get(fmt.style.value, TEXT)
    as_json_string = as_json_string and not wanted
    _start(reply, media_type, as_json_string=as_json_string)
    out = _JsonString(reply) if as_json_string else reply
    if as_json_string:
        reply.write('"')
    write_result(verb, answered.result, fmt, cast("TextIO", out))
    if as_json_string:
        reply.write('"')


def accepted(header: str) -> str:
    """Return the words of the format that an `Accept` header prefers; the empty text for no preference."""
    best, best_weight = "", 0.0
    for part in header.split(","):
        media_type, *parameters = (text.strip().lower() for text in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        if media_type in ("text/plain", "text/html", "*/*", "text/*", "application/*") and weight > best_weight:
            best, best_weight = "", weight
        elif media_type in _ACCEPTED and weight > best_weight:
            best, best_weight = _ACCEPTED[media_type], weight
    return best


def _send_report(reply: "Reply", name: str, answered: "Answered") -> None:
    """Send a report's file as what it is; of a page, nothing may be run or loaded, and only its own style counts."""
    text: str = answered.result.rows.column("text")[0].as_py()
    suffix = name.rpartition(".")[2]
    headers = {}
    if suffix == "html":
        styles = [sha256(style.encode()).digest() for style in _STYLE.findall(text)]
        sources = " ".join(f"'sha256-{b64encode(digest).decode()}'" for digest in styles) or "'none'"
        headers["content-security-policy"] = f"default-src 'none'; style-src {sources}; {_ALONE}"
    reply.start(200, HTML if suffix == "html" else _MEDIA_TYPES.get(suffix, TEXT), headers)
    reply.write(text)


def _start(reply: "Reply", media_type: str, *, as_json_string: bool) -> None:
    reply.start(200, JSON if as_json_string else media_type)


def _write_text(reply: "Reply", text: str, *, as_json_string: bool) -> None:
    reply.write(json.dumps(text, ensure_ascii=False) if as_json_string else text)


class _JsonString:
    """Writes texts as the inside of one JSON string."""

    def __init__(self, reply: "Reply") -> None:
        self._reply = reply

    def write(self, text: str) -> int:
        self._reply.write(json.dumps(text, ensure_ascii=False)[1:-1])
        return len(text)

    def writelines(self, texts: Sequence[str]) -> None:
        for text in texts:
            self.write(text)


def _write_binary(reply: "Reply", answered: "Answered", *, as_json_string: bool) -> None:
    """Write what `fmt=arrow` or `fmt=parquet` is on the command line. Raise UsageError where a text is wanted."""
    from io import BytesIO

    from sonar.render.formats import Style
    from sonar.render.tables import typed_table, write_table

    style = answered.fmt.style
    if as_json_string:
        raise UsageError(f"fmt: {style.value} is binary and cannot be a JSON string")
    file = BytesIO()
    write_table(typed_table(answered.result, answered.fmt.fields), style, file)
    reply.start(200, ARROW if style is Style.ARROW else PARQUET)
    reply.write(file.getvalue())


def _write_arrow(reply: "Reply", answered: "Answered") -> None:
    """Write the fields as an Arrow stream: instants as timestamps, units as metadata."""
    import pyarrow as pa

    columns, fields = _arrow_columns(answered)
    table = pa.table(columns, schema=pa.schema(fields))
    sink: Any = _Binary(reply)
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), table.schema) as stream:
        stream.write_table(table, max_chunksize=1 << 16)


class _Binary:
    """What Arrow wants of a file that is written."""

    closed = False

    def __init__(self, reply: "Reply") -> None:
        self._reply = reply

    def write(self, data: Any) -> int:
        return self._reply.write(bytes(data))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def _arrow_columns(answered: "Answered") -> "tuple[list[Any], list[pa.Field[Any]]]":
    import pyarrow as pa

    from sonar.verbs.declare import Kind

    rows = answered.result.rows
    columns: list[Any] = []
    fields = []
    for field in answered.fmt.fields:
        if field.source not in rows.column_names:
            continue
        column: Any = rows.column(field.source)
        metadata: Mapping[str, str] = {"help": field.help, **({"unit": field.unit} if field.unit else {})}
        if field.kind in (Kind.MINUTE, Kind.DATE, Kind.CLOCK, Kind.ISO) and pa.types.is_integer(column.type):
            column = column.cast(pa.int64()).cast(pa.timestamp("s", "UTC"))
        if pa.types.is_dictionary(column.type):
            parts: list[Any] = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
            taken = [part.dictionary.take(part.indices) for part in parts]  # a cast knows no lists
            column = pa.chunked_array(taken, column.type.value_type)
        columns.append(column)
        fields.append(pa.field(field.name, column.type, metadata=dict(metadata)))
    return columns, fields
