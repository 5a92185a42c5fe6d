"""Questions over HTTP: the parameters of a request become a query, and the answer is the text the CLI would print.

    GET /VERB?cluster=NAME&option=value&...

Parameters are the long options of the verb; one that may be repeated on the command line may be so here. A flag is
`true`, or the word that clients of old send for it. Nothing in a parameter can become another option or a path.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

from sonar import verbs
from sonar.config.clusters import Clusters
from sonar.errors import UsageError
from sonar.verbs.declare import OptionType, Reads

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Reply", "ask"]

_MEDIA_TYPES = {"json": "application/json", "csv": "text/csv; charset=utf-8", "csvnamed": "text/csv; charset=utf-8"}
_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_NAME = re.compile(r"[a-z][a-z-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a question."""

    body: str
    media_type: str


def ask(verb_name: str, parameters: Sequence[tuple[str, str]], clusters: Clusters, *, now: int) -> Reply:
    """Answer a question. Raise UsageError for bad parameters, UnknownClusterError, SonarError for what else fails."""
    from sonar.render.formats import format_help, write_result
    from sonar.verbs.parameters import REMOTE_TRUE, options_of, query_of

    verb = verbs.verb(verb_name)
    types = {option.name: option.type for option in options_of(verb) if not option.local}
    given: dict[str, list[str]] = {}
    names = []
    for name, value in parameters:
        if name == "cluster":
            names.append(value)
        elif not _NAME.fullmatch(name) or name not in types:
            raise UsageError(f"Bad parameter {name[:80]}")
        elif types[name] is not OptionType.FLAG:
            given.setdefault(name, []).append(value)
        elif value in {"true", REMOTE_TRUE}:
            given.setdefault(name, []).append("true")
        elif value != "false":
            raise UsageError(f"Bad parameter {name}: a flag is true or false")
    if len(names) > 1:
        raise UsageError("Bad parameter cluster")
    if given.get("fmt", [""])[0].startswith("help"):
        return Reply(format_help(verb), _TEXT)
    data: Path | tuple[Path, ...] = ()
    nodes = None
    reports: tuple[Path, ...] = ()
    if verb.reads is not Reads.SITE:
        if not names or not names[0]:
            raise UsageError("Missing `cluster`")
        cluster = clusters.find(names[0])
        data = clusters.data / cluster
        nodes = clusters.nodes(cluster) if verb.takes_config else None
        if clusters.reports:
            reports = (clusters.reports / cluster / "login", clusters.reports / cluster / "public")
    query, fmt = query_of(verb, given, data=data, nodes=nodes, clusters=clusters, reports=reports, now=now)
    out = StringIO()
    write_result(verb, verb.answer(query), fmt, out)
    media_type = _HTML if "html" in fmt.words else _MEDIA_TYPES.get(fmt.style.value, _TEXT)
    return Reply(out.getvalue(), media_type)
