"""The interface `/api/v2`: facts and series of clusters, nodes and processes as JSON, as dashboards of the family ask.

    nodename=LIST                      nodes, compressed: c1-[5-7],gpu-1
    time_in_s, start_time_in_s, end_time_in_s    the window, in seconds since 1970; both names of its start are taken
    resolution_in_s=300                length of the slots of a series

Without a window it is the last hour of the data; with one end, an hour from there; it is never longer than 14 days. A
slot's value is the mean of its samples, null without any; the first slot begins at the first sample. Everything is
asked of verbs, so nobody sees processes that are not the own ones unless the role says so.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sonar.errors import UsageError
from sonar.web.questions import Asker
from sonar.web.v2 import nodes, processes, series
from sonar.web.v2.view import RESOLUTION_S, View

if TYPE_CHECKING:
    from sonar.config.clusters import Clusters
    from sonar.serve.passwords import Identity
    from sonar.web.nursery import Reply

__all__ = ["PATHS", "described_paths", "v2_answer"]

PATHS = (*nodes.PATHS, *series.PATHS, *processes.PATHS)


def v2_answer(
    reply: "Reply",
    clusters: "Clusters",
    who: "Identity",
    now: int,
    path: str,
    cluster: str | None,
    parameters: Sequence[tuple[str, str]],
) -> None:
    """Write the answer to a request. Raise UsageError, UnknownClusterError, SonarError."""
    declared = next(one for one in PATHS if one.path == path)
    given: dict[str, str] = {}
    for name, value in parameters:
        if name not in declared.parameters:
            raise UsageError(f"Bad parameter {name[:80]}")
        if name in given:
            raise UsageError(f"Bad parameter {name}: it is given twice")
        given[name] = value
    asker = Asker(clusters, who, now)
    view = View(asker, asker.cluster(cluster) if cluster is not None else None, given)
    document = declared.find(view)
    reply.start(200, "application/json")
    reply.write(json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def described_paths() -> dict[str, Any]:
    """Return the paths as OpenAPI has them."""
    from sonar.web.openapi import errors

    found = {}
    for one in PATHS:
        parameters: list[dict[str, Any]] = []
        if "{cluster}" in one.path:
            text = "name or alias of a cluster"
            parameters.append(
                {"name": "cluster", "in": "path", "required": True, "description": text, "schema": {"type": "string"}}
            )
        for name in one.parameters:
            schema = {"type": "string"} if name == "nodename" else {"type": "integer", "minimum": 0, "maximum": 2**38}
            if name == "resolution_in_s":
                schema = {**schema, "minimum": 1, "default": RESOLUTION_S}
            text = {"nodename": "nodes, such as c1-[5-7],gpu-1"}.get(name, "seconds, since 1970 where it is an instant")
            parameters.append({"name": name, "in": "query", "required": False, "description": text, "schema": schema})
        kind = "array" if one.path == "/cluster" else "object"
        content = {"application/json": {"schema": {"type": kind}}}
        responses = {"200": {"description": "so it is; by node", "content": content}, **errors(as_json=True)}
        operation = {
            "summary": one.summary,
            "tags": ["facts and series"],
            "parameters": parameters,
            "responses": responses,
        }
        found[f"/api/v2{one.path}"] = {"get": operation}
    return found
