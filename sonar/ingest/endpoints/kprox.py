r"""Messages to Kafka, in the framing of the sampler's proxy: taken as if they had come out of Kafka.

    \n{"topic":"[PREFIX.]CLUSTER.TYPE","key":"NODE","client":…,"sasl-user":"CLUSTER","sasl-password":…,"data-size":N}\n
    N bytes: an envelope and its newline

any number of times. Credentials are in each message, and a user may write what it may write elsewhere. The path is the
operator's to choose, see infiltrate(8).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from sonar.ingest.endpoints.insert import take_envelopes
from sonar.ingest.messages import split_topic
from sonar.ingest.post import Credentials, Endpoint, Post, Refusal, Taken

__all__ = ["ENDPOINTS"]

_LONGEST_CONTROL = 64 << 10
_MOST_SENDERS = 100

_MEDIA = frozenset({"application/octet-stream", "application/x-www-form-urlencoded"})


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    key: str
    sender: Credentials | None
    data: bytes


def take_messages(post: Post) -> Taken:
    """Take the envelopes of each message whose sender may write the cluster in its topic."""
    taken = Taken()
    try:
        for message in _messages(post.body):
            _take_message(post, message, taken)
    except ValueError as error:
        taken.drop(str(error))
    return taken


def senders_of(body: bytes) -> Sequence[Credentials]:
    """Return the credentials in a body, each once."""
    found: dict[Credentials, None] = {}
    try:
        for message in _messages(body):
            if message.sender is not None and len(found) < _MOST_SENDERS:
                found[message.sender] = None
    except ValueError:
        pass
    return list(found)


def _take_message(post: Post, message: _Message, taken: Taken) -> None:
    try:
        if message.sender not in post.senders:
            raise Refusal(401, "Bad credentials")
        cluster, topic = split_topic(message.topic, post.rules)
        sender = replace(post, clusters=post.senders[message.sender])
        cluster = sender.cluster(cluster)
        part = replace(sender, body=message.data, clusters=frozenset({cluster}), node=message.key)
        taken.add(take_envelopes(part, topic))
    except Refusal as refusal:
        taken.drop(refusal.reason, status=refusal.status)


def _messages(body: bytes) -> Iterator[_Message]:
    """Iterate over the messages in a body; raise ValueError where they cannot be told from each other."""
    at = 0
    while True:
        while body[at : at + 1] == b"\n":
            at += 1
        if at == len(body):
            return
        end = body.find(b"\n", at, at + _LONGEST_CONTROL)
        if end < 0:
            raise ValueError("Trailing junk")
        control = _control(body[at:end])
        size = control.get("data-size")
        if type(size) is not int or size < 0 or end + 1 + size > len(body):
            raise ValueError("Out of bounds data length")
        at = end + 1 + size
        user, password = _text(control, "sasl-user"), _text(control, "sasl-password")
        sender = (user, password) if user or password else None
        yield _Message(_text(control, "topic"), _text(control, "key"), sender, body[end + 1 : at])


def _control(line: bytes) -> Mapping[str, Any]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("Malformed control object")
    return value


def _text(control: Mapping[str, Any], key: str) -> str:
    value = control.get(key)
    return value.strip() if isinstance(value, str) else ""


ENDPOINTS = (Endpoint("kprox", "/kprox", _MEDIA, take_messages, senders_of),)
