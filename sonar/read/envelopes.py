"""Sample envelopes: JSON messages of newer samplers, one or several after each other; sonar-data(5) has the format.

A message that cannot be read costs itself only: reading goes on at the next line that begins with `{`.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from sonar.gpusets import mask_of_cards
from sonar.read.rows import Rows
from sonar.read.schema import HEARTBEAT_COMMAND, HEARTBEAT_USER
from sonar.times import parse_instant

__all__ = ["read_envelopes"]

_NEXT_START = re.compile(r"^\{", re.MULTILINE)
_SPACE = re.compile(r"\s*")
_VERSION = re.compile(r"(\d+)\.(\d+)")

# Up to this version `cpu_util` was a fraction, from then on a percentage.
_FIRST_WITH_PERCENT = (0, 16)


class _BadEnvelopeError(Exception):
    """An envelope that is dropped; the text is the reason."""


def read_envelopes(data: bytes, rows: Rows, dropped: Counter[str]) -> None:
    """Add the samples of every good envelope in a file's bytes to `rows`; count each bad one in `dropped`."""
    for envelope in _envelopes(data, dropped):
        try:
            samples = _samples(envelope)
        except _BadEnvelopeError as reason:
            dropped[str(reason)] += 1
        else:
            for sample in samples:
                rows.add(sample)


def _envelopes(data: bytes, dropped: Counter[str]) -> Iterator[Any]:
    """Yield the JSON values, by lines where each line is one value, else by decoding one after the other."""
    import orjson

    lines = data.split(b"\n")
    torn = lines.pop() if lines and lines[-1] else b""
    at = 0
    for at, line in enumerate(lines):  # noqa: B007 -- the number is needed after the loop
        if line.strip():
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError:
                break
    else:
        if torn:
            yield from _values(torn.decode(errors="replace"), dropped)
        return
    rest = b"\n".join([*lines[at:], torn]).decode(errors="replace")
    yield from _values(rest, dropped)


def _values(text: str, dropped: Counter[str]) -> Iterator[Any]:
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    at = _SPACE.match(text).end()  # type: ignore[union-attr]
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            dropped["bad-json"] += 1
            following = _NEXT_START.search(text, at + 1)
            at = following.start() if following else len(text)
        else:
            yield value
            at = _SPACE.match(text, at).end()  # type: ignore[union-attr]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _samples(envelope: Any) -> list[dict[str, Any]]:
    """Return the samples of one envelope: a row a process, or one heartbeat."""
    if not isinstance(envelope, dict):
        raise _BadEnvelopeError("no-envelope")
    if "errors" in envelope:
        raise _BadEnvelopeError("both-data-and-errors" if "data" in envelope else "error-record")
    attributes = _object(_object(envelope, "data"), "attributes")
    time = parse_instant(_text(attributes, "time"))
    if time is None:
        raise _BadEnvelopeError("bad-time")
    host = _text(attributes, "node")
    if not host:
        raise _BadEnvelopeError("missing-node")
    system = _object(attributes, "system")
    version = _text(_object(envelope, "meta"), "version")
    whole = {"time": time, "host": host, "version": version, "cores": len(_list(system, "cpus"))}
    jobs = _list(attributes, "jobs")
    if not jobs:
        return [whole | {"user": HEARTBEAT_USER, "cmd": HEARTBEAT_COMMAND, "epoch": 0}]
    failing = _failing_cards(system)
    scale = 1.0 if _version(version) >= _FIRST_WITH_PERCENT else 100.0
    samples: list[dict[str, Any]] = []
    for job in map(_as_object, jobs):
        of_job = whole | {"job": _whole(job, "job"), "user": _text(job, "user"), "epoch": _whole(job, "epoch")}
        processes = map(_as_object, _list(job, "processes"))
        samples += [of_job | _process(process, failing, scale) for process in processes]
    return samples


def _process(process: Mapping[str, Any], failing: frozenset[str | int], scale: float) -> dict[str, Any]:
    gpus = [_as_object(gpu) for gpu in _list(process, "gpus")]
    indices = [_whole(gpu, "index") for gpu in gpus]
    # Two makers on one node number their cards apart: the identifier decides, the number only where there is none.
    failed = any((_text(gpu, "uuid") or index) in failing for gpu, index in zip(gpus, indices, strict=True))
    return {
        "pid": _whole(process, "pid"),
        "ppid": _whole(process, "ppid") or _whole(process, "parent_pid"),
        "cmd": _text(process, "cmd"),
        "cpu_pct": _number(process, "cpu_avg"),
        "cpu_sampled_pct": _number(process, "cpu_util") * scale,
        "cpu_kib": _number(process, "virtual_memory"),
        "rss_kib": _number(process, "resident_memory"),
        "gpus": mask_of_cards(indices),
        "gpu_pct": math.fsum(_number(gpu, "gpu_util") for gpu in gpus),
        "gpumem_pct": math.fsum(_number(gpu, "gpu_memory_util") for gpu in gpus),
        "gpu_kib": math.fsum(_number(gpu, "gpu_memory") for gpu in gpus),
        "gpufail": int(failed),
        "cputime_s": _number(process, "cpu_time"),
        "rolledup": _whole(process, "rolledup"),
        "threads": _whole(process, "num_threads") + 1,
        "read_kib": _number(process, "data_read"),
        "written_kib": _number(process, "data_written"),
        "cancelled_kib": _number(process, "data_cancelled"),
        "in_container": process.get("in_container") is True,
    }


def _failing_cards(system: Mapping[str, Any]) -> frozenset[str | int]:
    """Return the identifiers, or the numbers of those without one, of the cards that have failed."""
    cards = [_as_object(card) for card in _list(system, "gpus")]
    return frozenset(_text(card, "uuid") or _whole(card, "index") for card in cards if _number(card, "failing"))


def _version(text: str) -> tuple[int, int]:
    """Return major and minor version; what cannot be read counts as new."""
    match = _VERSION.match(text)
    return (int(match[1]), int(match[2])) if match else (1 << 30, 0)


# Typed access: what is absent or null is empty or zero, what is of the wrong type costs the envelope.


def _as_object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _BadEnvelopeError("bad-shape")
    return value


def _object(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    return {} if value is None else _as_object(value)


def _list(parent: Mapping[str, Any], key: str) -> list[Any]:
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _BadEnvelopeError(f"bad-{key}")
    return value


def _text(parent: Mapping[str, Any], key: str) -> str:
    value = parent.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _BadEnvelopeError(f"bad-{key}")
    return value


def _number(parent: Mapping[str, Any], key: str) -> float:
    value = parent.get(key)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _BadEnvelopeError(f"bad-{key}")
    try:
        number = float(value)
    except OverflowError:
        raise _BadEnvelopeError(f"bad-{key}") from None
    if not math.isfinite(number):
        raise _BadEnvelopeError(f"bad-{key}")
    return number


def _whole(parent: Mapping[str, Any], key: str) -> int:
    number = parent.get(key)
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 63:
        return number
    value = _number(parent, key)
    if not value.is_integer() or not 0 <= value < 1 << 63:
        raise _BadEnvelopeError(f"bad-{key}")
    return int(value)
