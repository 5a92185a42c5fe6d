"""What a sample tells of the node as a whole: CPU seconds of each core, cards, disks, load. Four topics.

Messages have it in `system`; tagged records have the cores in `load=` and the cards in `gpuinfo=`, on one record of
each run of the sampler. sonar-data(5) has the formats.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from sonar.read.json_objects import BadShapeError, as_object, list_of, number_of, object_of, text_of, whole_of
from sonar.read.topics import Column, Row, Topic, attributes_of, reading_rows
from sonar.read.tree import is_json
from sonar.times import parse_instant

__all__ = ["CPUS", "DISKS", "DISK_COUNTERS", "GPUS", "LOADS", "decoded_load"]

_FILES = (("0+sample-", ".json"), ("", ".csv"))

# Counters of /proc/diskstats in their order (Documentation/admin-guide/iostats.rst of the kernel); older kernels have
# fewer.
DISK_COUNTERS = (
    "reads_completed", "reads_merged", "sectors_read", "ms_reading",
    "writes_completed", "writes_merged", "sectors_written", "ms_writing",
    "ios_in_progress", "ms_doing_ios", "weighted_ms_doing_ios",
    "discards_completed", "discards_merged", "sectors_discarded", "ms_discarding",
    "flushes_completed", "ms_flushing",
)  # fmt: skip

# Digits of `load=`: numbers are little endian to base 45, the first digit of each from an alphabet of its own.
_FIRST_DIGITS = "(){}[]<>+-abcdefghijklmnopqrstuvwxyz!@#$%^&*_"
_MORE_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ~|';:.?/`"
_FIRST = {digit: value for value, digit in enumerate(_FIRST_DIGITS)}
_MORE = {digit: value for value, digit in enumerate(_MORE_DIGITS)}
_BASE = len(_FIRST_DIGITS)

_RECORD_START = re.compile(rb'"?v=')
_MOST_CARDS = 1024


def decoded_load(text: str) -> list[int]:
    """Return the CPU seconds of each core behind a `load=` value; raise BadShapeError if it is none.

    The first number is to be added to each of the others.
    """
    numbers: list[int] = []
    scale = 0
    for digit in text:
        if digit in _FIRST:
            numbers.append(_FIRST[digit])
            scale = _BASE
        elif digit in _MORE and numbers:
            numbers[-1] += _MORE[digit] * scale
            scale *= _BASE
        else:
            raise BadShapeError("bad-load")
    if len(numbers) < 2 or max(numbers) >= 1 << 62:
        raise BadShapeError("bad-load")
    base, *rest = numbers
    return [base + number for number in rest]


_System = Mapping[str, Any]
_Of = Callable[[_System], Iterator[dict[str, Any]]]


def _read(data: bytes, dropped: Counter[str], *, of_system: _Of, tag: str, of_tag: _Of) -> Iterator[Row]:
    """Yield rows: what `of_system` makes of the system of a message, or `of_tag` of the value of a record's tag."""

    def of_message(value: Any) -> Iterator[Row]:
        attributes, time, _version = attributes_of(value, "sample")
        host = text_of(attributes, "node")
        if not host:
            raise BadShapeError("missing-node")
        system = object_of(attributes, "system")
        if system:
            yield from ({"time": time, "host": host} | row for row in of_system(system))

    def of_record(fields: list[str]) -> Iterator[Row]:
        values = dict(field.split("=", 1) for field in fields if "=" in field)
        if tag not in values:
            return
        time = parse_instant(values.get("time", ""))
        if time is None or not values.get("host"):
            raise BadShapeError("bad-time" if time is None else "missing-host")
        yield from ({"time": time, "host": values["host"]} | row for row in of_tag({tag: values[tag]}))

    return reading_rows(_with_tag(data, tag.encode()), dropped, of_message, of_record)


def _with_tag(data: bytes, tag: bytes) -> bytes:
    """Return a file of records cut down to those that may have a tag: most have not, and need no parsing."""
    if is_json(data):
        return data
    lines = [line for line in data.split(b"\n") if tag + b"=" in line]
    whole = all(_RECORD_START.match(line) and line.count(b'"') % 2 == 0 for line in lines)
    return b"\n".join(lines) if whole else data  # a record may go on in the next line


def _no_rows(_system: _System) -> Iterator[dict[str, Any]]:
    return iter(())


def _cpus(system: _System) -> Iterator[dict[str, Any]]:
    seconds = [whole_of({"cpus": number}, "cpus") for number in list_of(system, "cpus")]
    if seconds:
        yield {"seconds": seconds}


def _cpus_of_tag(values: _System) -> Iterator[dict[str, Any]]:
    if values["load"]:
        yield {"seconds": decoded_load(values["load"])}


def _gpus(system: _System) -> Iterator[dict[str, Any]]:
    for gpu in map(as_object, list_of(system, "gpus")):
        yield {
            "index": whole_of(gpu, "index"),
            **{name: text_of(gpu, name) for name in ("uuid", "compute_mode")},
            # The sender's number is one more than the state, 0 is not known.
            "performance_state": whole_of(gpu, "performance_state") - 1 if gpu.get("performance_state") else None,
            **{name: number_of(gpu, name) for name in _GPU_NUMBERS if name != "memory_kib"},
            "memory_kib": number_of(gpu, "memory"),
        }


_GPU_NUMBERS = (
    "failing", "fan", "ce_util", "memory_util", "memory_kib", "temperature", "power", "power_limit", "ce_clock",
    "memory_clock",
)  # fmt: skip

# Attributes of `gpuinfo=`, a value a card between bars, and the columns that they are.
_GPU_TAGS = {
    "fan%": "fan",
    "musekib": "memory_kib",
    "cutil%": "ce_util",
    "mutil%": "memory_util",
    "tempc": "temperature",
    "poww": "power",
    "powlimw": "power_limit",
    "cez": "ce_clock",
    "memz": "memory_clock",
}
_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d*)?", re.ASCII)


def _gpus_of_tag(values: _System) -> Iterator[dict[str, Any]]:
    attributes = dict(field.split("=", 1) for field in values["gpuinfo"].split(",") if "=" in field)
    by_card = {name: text.split("|") for name, text in attributes.items()}
    number = max(map(len, by_card.values()), default=0)
    if number > _MOST_CARDS:
        raise BadShapeError("bad-gpuinfo")

    def text(name: str, card: int) -> str:
        texts = by_card.get(name, ())
        return texts[card] if card < len(texts) else ""

    for card in range(number):
        row: dict[str, Any] = {"index": card, "uuid": "", "failing": 0.0}
        for name, column in _GPU_TAGS.items():
            value = text(name, card)
            if value and not _NUMBER.fullmatch(value):
                raise BadShapeError("bad-gpuinfo")
            row[column] = float(value or 0)
        row["compute_mode"] = text("mode", card) or "Default"
        state = text("perf", card).removeprefix("P")
        row["performance_state"] = int(state) if state.isascii() and state.isdigit() and len(state) < 4 else None
        yield row


def _disks(system: _System) -> Iterator[dict[str, Any]]:
    for disk in map(as_object, list_of(system, "disks")):
        stats = [whole_of({"stats": number}, "stats") for number in list_of(disk, "stats")]
        counters = dict(zip(DISK_COUNTERS, stats + [0] * len(DISK_COUNTERS), strict=False))
        name = text_of(disk, "name")
        yield {"name": name, "major": whole_of(disk, "major"), "minor": whole_of(disk, "minor"), **counters}


def _loads(system: _System) -> Iterator[dict[str, Any]]:
    yield {
        "boot": parse_instant(text_of(system, "boot")),
        "used_memory_kib": number_of(system, "used_memory"),
        **{name: number_of(system, name) for name in ("load1", "load5", "load15")},
        **{name: whole_of(system, name) for name in ("runnable_entities", "existing_entities")},
    }


_TIME = Column("time", "whole", "instant of the sample")
_HOST = Column("host", "text", "node")

CPUS = Topic(
    name="cpus",
    columns=(_TIME, _HOST, Column("seconds", "wholes", "CPU seconds of each core since the node booted")),
    key=("host", "time"),
    files=_FILES,
    read=partial(_read, of_system=_cpus, tag="load", of_tag=_cpus_of_tag),
)

GPUS = Topic(
    name="gpus",
    columns=(
        _TIME,
        _HOST,
        Column("index", "whole", "number of the card on the node, among those of its maker"),
        Column("uuid", "text", "identifier; records have none"),
        Column("failing", "number", "0: the card works"),
        Column("fan", "number", "speed of the fan, %; may be above 100"),
        Column("compute_mode", "text", "how it may be shared"),
        Column("performance_state", "whole", "0 is the fastest"),
        Column("memory_kib", "number", "memory in use"),
        Column("ce_util", "number", "utilization of the compute elements, %"),
        Column("memory_util", "number", "utilization of the memory's bandwidth, %"),
        Column("temperature", "number", "°C"),
        Column("power", "number", "W"),
        Column("power_limit", "number", "W"),
        Column("ce_clock", "number", "clock of the compute elements, MHz"),
        Column("memory_clock", "number", "clock of the memory, MHz"),
    ),
    key=("host", "time", "index", "uuid"),
    files=_FILES,
    read=partial(_read, of_system=_gpus, tag="gpuinfo", of_tag=_gpus_of_tag),
)

DISKS = Topic(
    name="disks",
    columns=(
        _TIME,
        _HOST,
        Column("name", "text", "name of the disk"),
        Column("major", "whole", "number of the device's driver"),
        Column("minor", "whole", "number of the device"),
        *(Column(name, "whole", f"{name.replace('_', ' ')} since the node booted") for name in DISK_COUNTERS),
    ),
    key=("host", "time", "name"),
    files=_FILES[:1],
    read=partial(_read, of_system=_disks, tag="disks", of_tag=_no_rows),
)

LOADS = Topic(
    name="loads",
    columns=(
        _TIME,
        _HOST,
        Column("boot", "whole", "instant at which the node booted"),
        Column("used_memory_kib", "number", "main memory in use"),
        Column("load1", "number", "load average over a minute"),
        Column("load5", "number", "over five minutes"),
        Column("load15", "number", "over a quarter of an hour"),
        Column("runnable_entities", "whole", "threads that want to run"),
        Column("existing_entities", "whole", "threads"),
    ),
    key=("host", "time"),
    files=_FILES[:1],
    read=partial(_read, of_system=_loads, tag="load", of_tag=_no_rows),
)
