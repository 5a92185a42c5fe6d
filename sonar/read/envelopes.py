"""Sample envelopes: JSON messages of newer samplers, one or several after each other; sonar-data(5) has the format.

A message that cannot be read costs itself only: reading goes on at the next line that begins with `{`.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sonar.gpusets import mask_of_cards
from sonar.read.json_objects import (
    BadShapeError,
    as_object,
    json_values,
    list_of,
    number_of,
    object_of,
    text_of,
    whole_of,
)
from sonar.read.rows import Rows
from sonar.read.schema import HEARTBEAT_COMMAND, HEARTBEAT_USER
from sonar.times import parse_instant

__all__ = ["read_envelopes"]

_VERSION = re.compile(r"(\d+)\.(\d+)")

_TYPES = frozenset({"", "sample"})  # where the type is missing, the file's name has told it

# Up to this version `cpu_util` was a fraction, from then on a percentage.
_FIRST_WITH_PERCENT = (0, 16)


def read_envelopes(data: bytes, rows: Rows, dropped: Counter[str]) -> None:
    """Add the samples of every good envelope in a file's bytes to `rows`; count each bad one in `dropped`."""
    for envelope in json_values(data, dropped):
        try:
            samples = _samples(envelope)
        except BadShapeError as reason:
            dropped[str(reason)] += 1
        else:
            for sample in samples:
                rows.add(sample)


def _samples(envelope: Any) -> list[dict[str, Any]]:
    """Return the samples of one envelope: a row a process, or one heartbeat."""
    if not isinstance(envelope, dict):
        raise BadShapeError("no-envelope")
    if "errors" in envelope:
        raise BadShapeError("both-data-and-errors" if "data" in envelope else "error-record")
    data = object_of(envelope, "data")
    if text_of(data, "type") not in _TYPES:
        raise BadShapeError("other-type")  # such as a node's description, whose `node` and `time` are no heartbeat
    attributes = object_of(data, "attributes")
    time = parse_instant(text_of(attributes, "time"))
    if time is None:
        raise BadShapeError("bad-time")
    host = text_of(attributes, "node")
    if not host:
        raise BadShapeError("missing-node")
    system = object_of(attributes, "system")
    version = text_of(object_of(envelope, "meta"), "version")
    whole = {"time": time, "host": host, "version": version, "cores": len(list_of(system, "cpus"))}
    jobs = list_of(attributes, "jobs")
    if not jobs:
        return [whole | {"user": HEARTBEAT_USER, "cmd": HEARTBEAT_COMMAND, "epoch": 0}]
    failing = _failing_cards(system)
    scale = 1.0 if _version(version) >= _FIRST_WITH_PERCENT else 100.0
    samples: list[dict[str, Any]] = []
    for job in map(as_object, jobs):
        of_job = whole | {"job": whole_of(job, "job"), "user": text_of(job, "user"), "epoch": whole_of(job, "epoch")}
        processes = map(as_object, list_of(job, "processes"))
        samples += [of_job | _process(process, failing, scale) for process in processes]
    return samples


def _process(process: Mapping[str, Any], failing: frozenset[str | int], scale: float) -> dict[str, Any]:
    gpus = [as_object(gpu) for gpu in list_of(process, "gpus")]
    indices = [whole_of(gpu, "index") for gpu in gpus]
    failed = any(_has_failed(text_of(gpu, "uuid"), index, failing) for gpu, index in zip(gpus, indices, strict=True))
    return {
        "pid": whole_of(process, "pid"),
        "ppid": whole_of(process, "ppid") or whole_of(process, "parent_pid"),
        "cmd": text_of(process, "cmd"),
        "cpu_pct": number_of(process, "cpu_avg"),
        "cpu_sampled_pct": number_of(process, "cpu_util") * scale,
        "cpu_kib": number_of(process, "virtual_memory"),
        "rss_kib": number_of(process, "resident_memory"),
        "gpus": mask_of_cards(indices),
        "gpu_pct": math.fsum(number_of(gpu, "gpu_util") for gpu in gpus),
        "gpumem_pct": math.fsum(number_of(gpu, "gpu_memory_util") for gpu in gpus),
        "gpu_kib": math.fsum(number_of(gpu, "gpu_memory") for gpu in gpus),
        "gpufail": int(failed),
        "cputime_s": number_of(process, "cpu_time"),
        "rolledup": whole_of(process, "rolledup"),
        "threads": whole_of(process, "num_threads") + 1,
        "read_kib": number_of(process, "data_read"),
        "written_kib": number_of(process, "data_written"),
        "cancelled_kib": number_of(process, "data_cancelled"),
        "in_container": process.get("in_container") is True,
    }


def _failing_cards(system: Mapping[str, Any]) -> frozenset[str | int]:
    """Return identifiers and numbers of the cards that have failed; the identifier of one that has not is `!` with it.

    Two makers on one node number their cards apart: the identifier decides, the number only where it is not known.
    """
    cards = [as_object(card) for card in list_of(system, "gpus")]
    failing: set[str | int] = set()
    for card in cards:
        uuid, index = text_of(card, "uuid"), whole_of(card, "index")
        if number_of(card, "failing"):
            failing |= {uuid, index}
        elif uuid:
            failing.add(f"!{uuid}")
    return frozenset(failing - {""})


def _has_failed(uuid: str, index: int, failing: frozenset[str | int]) -> bool:
    return uuid in failing or (index in failing and f"!{uuid}" not in failing)


def _version(text: str) -> tuple[int, int]:
    """Return major and minor version; what cannot be read counts as new."""
    match = _VERSION.match(text)
    return (int(match[1]), int(match[2])) if match else (1 << 30, 0)
