"""Requests to the upload endpoints: they are refused in words, or what is stored is in its place and whole.

The first line is `PATH[?QUERY] [MEDIA TYPE]`, the rest the body.
"""

import json
import re
from typing import Any

from sonar.ingest.post import Post, Refusal, Rules, Taken
from sonar.ingest.request import check_media_type, parameters_of, route
from sonar.names import ClusterName

from tests.ingest.conftest import CLUSTER

__all__ = ["check", "check_taken"]

NOW = 1_772_000_000
RULES = Rules(aliases={"ml": CLUSTER}, topic_prefixes=frozenset({"test"}))
OWN = frozenset({ClusterName(CLUSTER)})

_PATH = re.compile(
    r"[a-z0-9][a-z0-9._-]*/\d{4}/\d\d/\d\d/(?:(?:sysinfo-|0\+(?:sample|sysinfo|errors)-)?[A-Za-z0-9_][A-Za-z0-9._-]*"
    r"\.(?:csv|json)|0\+(?:job|cluzter)-slurm\.json)"
)


def check(data: bytes) -> None:
    """Take a request of somebody who may write one cluster."""
    head, _, body = data.partition(b"\n")
    target, _, media = head.partition(b" ")
    path, _, query = target.partition(b"?")
    try:
        endpoint, argument = route({"method": "POST", "path": path.decode("latin-1")}, "/kprox")
        parameters = parameters_of(query)
        check_media_type(endpoint, parameters, media)
        senders: dict[Any, Any] = {None: OWN}
        if endpoint.senders is not None:
            senders |= {sender: OWN for sender in endpoint.senders(body) if sender[0] == CLUSTER}
        taken = endpoint.take(Post(body, argument, parameters, OWN, RULES, NOW, senders=senders))
    except Refusal as refusal:
        assert 400 <= refusal.status < 500
        assert refusal.reason
        return
    check_taken(taken)
    assert all(append.path.startswith(f"{CLUSTER}/") for append in taken.appends)


def check_taken(taken: Taken) -> None:
    """Hold what was made of a post to what is true of each."""
    for append in taken.appends:
        assert _PATH.fullmatch(append.path), append.path
        assert ".." not in append.path
        assert append.data.endswith(b"\n")
        if "/0+" in append.path:
            for line in append.data.removesuffix(b"\n").split(b"\n"):
                json.loads(line, object_pairs_hook=_without_token, parse_constant=_fail)
    assert taken.stored == sum(share.records for share in taken.shares.values())
    assert bool(taken.appends) == bool(taken.stored)
    assert not taken.dropped or taken.complaint


def _without_token(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; fail if it has `meta` with a token, also where that is hidden behind another `meta`."""
    for key, value in members:
        assert key != "meta" or not isinstance(value, dict) or "token" not in value
    return dict(members)


def _fail(name: str) -> None:
    raise AssertionError(f"{name} is stored")
