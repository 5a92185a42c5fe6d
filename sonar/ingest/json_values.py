"""Take a body of JSON values apart without changing what they say: fields nobody knows and all digits are kept.

Values are read with orjson, which takes no NaN and no Infinity; what is stored are the bytes that were sent. Only where
these have newlines in them, blanks are taken out, and only a member that must not be kept is cut out.
"""

import re
from array import array
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import orjson

__all__ = ["DEEPEST", "TooDeepError", "one_line", "split_elements", "split_values", "without_member"]

DEEPEST = 64

_STRING = rb'"(?:[^"\\]|\\.)*+"'
_STRINGS = re.compile(_STRING, re.DOTALL)
_STRING_OR_BLANK = re.compile(rb"(" + _STRING + rb")|[ \t\r\n]++", re.DOTALL)
_STRING_OR_BRACKET = re.compile(_STRING + rb"|[\[\]{}]", re.DOTALL)
_TOKEN = re.compile(_STRING + rb"|[\[\]{},:]|[^\s\[\]{},:\"]+", re.DOTALL)

_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


class TooDeepError(ValueError):
    """Values nested deeper than DEEPEST."""


def split_values(body: bytes) -> Iterator[tuple[bytes, Any]]:
    """Iterate over the concatenated values of a body, each as it was sent and as it reads; None as what cannot be read.

    Raise TooDeepError.
    """
    body = body.strip()
    if body.count(b"{") + body.count(b"[") > DEEPEST and _depth(body) > DEEPEST:
        raise TooDeepError(f"JSON nested deeper than {DEEPEST}")
    try:
        yield body, orjson.loads(body)
        return
    except orjson.JSONDecodeError:
        pass
    for part in _parts(body):
        try:
            yield part, orjson.loads(part)
        except orjson.JSONDecodeError:
            yield part, None


def split_elements(body: bytes) -> Iterator[Any]:
    """Iterate over the elements of an array that as a whole cannot be read; None as what cannot.

    Raise ValueError if it is no array, and TooDeepError.
    """
    body = body.strip()
    if not (body.startswith(b"[") and body.endswith(b"]") and len(body) > 1):
        raise ValueError("not an array")
    if _depth(body) > DEEPEST:
        raise TooDeepError(f"JSON nested deeper than {DEEPEST}")
    for part in _parts(body[1:-1]):
        if part == b",":
            continue
        try:
            yield orjson.loads(part)
        except orjson.JSONDecodeError:
            yield None


def one_line(value: bytes) -> bytes:
    """Return a value with no newline in it."""
    return _STRING_OR_BLANK.sub(rb"\1", value) if b"\n" in value or b"\r" in value else value


def without_member(value: bytes, path: tuple[str, ...]) -> bytes:
    """Return an object without the member that `path` leads to, all else as it is."""
    for key, start, at, end in reversed(list(_members(value, 0))):
        if key != path[0]:
            continue
        if len(path) > 1:
            if value[at : at + 1] == b"{":
                value = value[:at] + without_member(value[at:end], path[1:]) + value[end:]
        else:
            value = _cut(value, start, end)
    return value


def _depth(body: bytes) -> int:
    brackets = _STRINGS.sub(b"", body).translate(None, _NOT_BRACKETS)
    return max(accumulate(array("b", brackets.translate(_STEPS))), default=0)


def _parts(body: bytes) -> Iterator[bytes]:
    """Iterate over the top-level values, and over what lies between them and is none."""
    begin, depth = 0, 0
    for match in _STRING_OR_BRACKET.finditer(body):
        char = match.group()
        if char in b"[{":
            if depth == 0:
                if between := body[begin : match.start()].strip():
                    yield between
                begin = match.start()
            depth += 1
        elif char in b"]}" and depth:
            depth -= 1
            if depth == 0:
                yield body[begin : match.end()]
                begin = match.end()
    if rest := body[begin:].strip():
        yield rest


def _members(text: bytes, at: int) -> Iterator[tuple[str, int, int, int]]:
    """Iterate over the members of the object that begins at `at`: key, start of key, start and end of value."""
    tokens = _TOKEN.finditer(text, at)
    next(tokens)  # the opening bracket
    depth, key, key_start, value_start, value_end = 0, "", 0, -1, 0
    expects_key = True
    for match in tokens:
        token = match.group()
        if depth == 0 and token in {b",", b"}"}:
            if value_start >= 0:
                yield key, key_start, value_start, value_end
            if token == b"}":
                return
            expects_key, value_start = True, -1
        elif depth == 0 and expects_key:
            key, key_start, expects_key = orjson.loads(token), match.start(), False
        elif depth == 0 and token == b":" and value_start < 0:
            continue
        else:
            if value_start < 0:
                value_start = match.start()
            depth += (token in {b"{", b"["}) - (token in {b"}", b"]"})
            value_end = match.end()


def _cut(text: bytes, start: int, end: int) -> bytes:
    """Return `text` without the member there, and without the one comma that is then too many."""
    head, tail = text[:start].rstrip(), text[end:].lstrip()
    if tail.startswith(b","):
        return head + tail[1:].lstrip()
    return head.removesuffix(b",") + tail
