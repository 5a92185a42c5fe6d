"""Asking a verb in this process, as the fronts do."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

from sonar import verbs
from sonar.config.clusters import Clusters
from sonar.config.nodes import NodeTable
from sonar.render.formats import write_result
from sonar.times import parse_instant
from sonar.verbs.parameters import query_of

NOW = parse_instant("2024-03-01T12:00:00Z") or 0


def ask(
    verb: str,
    data: Path | list[Path],
    *,
    nodes: NodeTable | None = None,
    clusters: Clusters | None = None,
    now: int = NOW,
    **options: str | list[str],
) -> str:
    """Return what a verb prints; options by name with `_` for `-`, a flag's value is `true`."""
    given = {
        name.rstrip("_").replace("_", "-"): [value] if isinstance(value, str) else value
        for name, value in options.items()
    }
    declared = verbs.verb(verb)
    query, fmt = query_of(declared, given, data=data, nodes=nodes, clusters=clusters, now=now)
    out = StringIO()
    write_result(declared, declared.run(query), fmt, out)
    return out.getvalue()


def rows(verb: str, data: Path | list[Path], fields: str, **options: Any) -> list[dict[str, str]]:
    """Return the rows of an answer, values as texts."""
    answer: list[dict[str, str]] = json.loads(ask(verb, data, fmt=f"json,{fields}", **options))
    return answer


def envelope(kind: str, **attributes: object) -> str:
    """Return a message of a sampler as a line."""
    message = {"meta": {"producer": "sonar", "version": "0.18.4"}, "data": {"type": kind, "attributes": attributes}}
    return json.dumps(message) + "\n"


def put(root: Path, name: str, *texts: str, day: str = "2024/03/01") -> Path:
    """Append texts to a file of a day of a log tree, and return it."""
    path = root / day / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(texts)
    return path
