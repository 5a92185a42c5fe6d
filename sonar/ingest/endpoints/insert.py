"""`/insert/T`, `/api/v0/insert/T`, `/api/v1/insert/T`: JSON envelopes of the newer sampler.

T is `sample`, `sysinfo`, `job` (or `jobs`), `cluster`, or one of these after a prefix and a dot. An envelope is

    {"meta": {...}, "data": {"type": T, "attributes": {"time": ..., "cluster": ..., "node": ..., ...}}}
    {"meta": {...}, "errors": [{"detail": ..., "time": ..., "cluster": ..., "node": ...}]}

and a body may hold several. Only what decides where it goes is asked of it: samplers leave out and add fields from one
version to the next, and all of them are kept.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from sonar.ingest.json_values import TooDeepError, one_line, split_values, without_member
from sonar.ingest.post import JSON, Endpoint, Post, Refusal, Share, Taken
from sonar.names import BadNameError, ClusterName, host_name
from sonar.store.layout import Append, Topic, envelope_path, errors_path, is_plausible
from sonar.times import iso_text, parse_instant

__all__ = ["ENDPOINTS", "take_envelopes", "topic_of"]


def take_inserted(post: Post) -> Taken:
    """Take the envelopes of a post to the path of their topic."""
    topic = topic_of(post.argument, post.rules.topic_prefixes)
    if topic is None:
        raise Refusal(404, f"no topic {post.argument[:80]!r}")
    return take_envelopes(post, topic)


def topic_of(text: str, prefixes: frozenset[str]) -> Topic | None:
    """Return the topic that a name stands for; None if there is none, or its prefix is not wanted."""
    prefix, dot, name = text.rpartition(".")
    if dot and prefix not in prefixes:
        return None
    try:
        return Topic("job" if name == "jobs" else name)
    except ValueError:
        return None


def take_envelopes(post: Post, topic: Topic) -> Taken:
    """Take each envelope to its file, and the good ones even if there are bad ones beside them."""
    taken = Taken(topic=topic.value)
    if not post.body.strip():
        raise Refusal(400, "request body is required")
    parts: dict[str, list[bytes]] = {}
    facts: _Facts | None = None
    try:
        for raw, value in split_values(post.body):
            try:
                found = _place(post, topic, value, taken)
            except Refusal as refusal:
                taken.drop(refusal.reason, status=refusal.status)
                continue
            except (_BadEnvelopeError, BadNameError) as error:
                taken.drop(str(error))
                continue
            if b"token" in raw or b"\\u" in raw:  # also where a second `meta` hides it from the reader
                raw = without_member(raw, ("meta", "token"))  # noqa: PLW2901
            line = one_line(raw)
            parts.setdefault(found.path, []).append(line)
            taken.count(found.cluster, found.node, Share(1, len(line) + 1, found.instant, found.instant))
            facts = facts or found
    except TooDeepError as error:
        raise Refusal(400, str(error)) from None
    taken.appends = [Append(path, b"\n".join(lines) + b"\n") for path, lines in parts.items()]
    taken.reply = facts.reply(topic) if facts else b""
    return taken


class _BadEnvelopeError(ValueError):
    pass


@dataclass(frozen=True, slots=True)
class _Facts:
    """What decides where an envelope goes. `node` is empty where it is of the whole cluster."""

    path: str
    cluster: ClusterName
    node: str
    time: str
    instant: int

    def reply(self, topic: Topic) -> bytes:
        node = {"node": self.node} if self.node else {}
        return orjson.dumps({"cluster": self.cluster, **node, "topic": topic.value, "time": self.time})


def _place(post: Post, topic: Topic, value: Any, taken: Taken) -> _Facts:
    if not isinstance(value, dict):
        raise _BadEnvelopeError("not a JSON object")
    data, errors = value.get("data"), value.get("errors")
    if data is not None and errors is not None:
        raise _BadEnvelopeError("both 'data' and 'errors'")
    if errors is not None:
        return _place_errors(post, topic, errors, taken)
    data = _object(data)
    said = data.get("type")
    if said is not None and said != topic.value and (said, topic) != ("jobs", Topic.JOB):
        raise _BadEnvelopeError(f"data.type is not {topic.value!r}")
    attributes = data.get("attributes")
    if not isinstance(attributes, dict):
        raise _BadEnvelopeError("no data.attributes")
    time, instant = _time(attributes, post.now)
    cluster = post.cluster(_text(attributes, "cluster"))
    node = host_name(_text(attributes, "node") or post.node) if topic.per_node else None
    path = envelope_path(cluster, post.rules.envelope_day(time, instant), topic, node)
    return _Facts(path, cluster, node or "", time, instant)


def _place_errors(post: Post, topic: Topic, errors: Any, taken: Taken) -> _Facts:
    """Place an envelope in which a sampler says what went wrong; its word goes to the journal too."""
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        raise _BadEnvelopeError("'errors' is not a list of objects")
    try:
        time, instant = _time(first, post.now)
    except _BadEnvelopeError:
        time, instant = iso_text(post.now), post.now
    cluster = post.cluster(_text(first, "cluster"))
    # Batch system and partitions are told by one node for the whole cluster, which need not say its name.
    node = host_name(_text(first, "node") or post.node or ("unknown" if topic.per_node else "slurm"))
    detail = "".join(char if char.isprintable() else " " for char in _text(first, "detail")[:500])
    taken.notices.append(f"{node} of {cluster} reports: {detail}")
    path = errors_path(cluster, post.rules.envelope_day(time, instant), node)
    return _Facts(path, cluster, node, time, instant)


def _time(attributes: dict[str, Any], now: int) -> tuple[str, int]:
    text = _text(attributes, "time")
    instant = parse_instant(text)
    if instant is None or not is_plausible(instant, now):
        raise _BadEnvelopeError(f"bad time {text[:40]!r}")
    return text, instant


def _text(attributes: dict[str, Any], key: str) -> str:
    value = attributes.get(key, "")
    return value if isinstance(value, str) else ""


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


ENDPOINTS = (Endpoint("insert", "/(?:api/v[01]/)?insert/([^/]{1,300})", JSON, take_inserted),)
