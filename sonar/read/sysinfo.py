"""Descriptions of nodes: what a node is made of, sent about daily. Two topics: nodes, and their GPU cards.

Three forms are read: messages `{"meta": …, "data": {"type": "sysinfo", …}}`, the older objects with `hostname` and
`description` that stand one after the other in a file, and among these the oldest, which tell of sockets, memory and
cards in the text of the description only. sonar-data(5) has the formats.
"""

import math
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from sonar.read.json_objects import (
    BadShapeError,
    as_object,
    json_values,
    list_of,
    number_of,
    text_of,
    whole_of,
)
from sonar.read.topics import Column, Row, Topic, attributes_of
from sonar.times import parse_instant

__all__ = ["CARDS", "NODES"]

_KIB_PER_GIB = 1 << 20

_FILES = (("0+sysinfo-", ".json"), ("sysinfo-", ".json"))

# `2x24 (hyperthreaded) EPYC 7402, 251 GiB, 4x A100 @ 40GiB`; older samplers wrote GB for the same unit.
_BUILD = re.compile(r"(\d{1,4})x(\d{1,5})( \(hyperthreaded\))?(.*?), (\d{1,9}) ?Gi?B\b", re.ASCII)
_CARDS = re.compile(r", (\d{1,3})x (.*?) @ (\d{1,6}) ?Gi?B$", re.ASCII)


def _read(data: bytes, dropped: Counter[str], *, cards: bool) -> Iterator[Row]:
    for value in json_values(data, dropped):
        try:
            node, its_cards = _message(value, dropped) if _is_message(value) else _old_object(value)
        except BadShapeError as reason:
            dropped[str(reason)] += 1
            continue
        if cards:
            yield from ({"time": node["time"], "host": node["host"]} | card for card in its_cards)
        else:
            yield node


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and ("data" in value or "errors" in value)


def _message(value: Any, dropped: Counter[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the node and the cards of a message."""
    attributes, time, version = attributes_of(value, "sysinfo")
    host = text_of(attributes, "node")
    if not host:
        raise BadShapeError("missing-node")
    build = {name: whole_of(attributes, name) for name in ("sockets", "cores_per_socket", "threads_per_core")}
    cpu_cores = math.prod(build.values())
    if cpu_cores >= 1 << 63:
        raise BadShapeError("bad-sockets")
    memory = number_of(attributes, "memory")
    cards = [_card(as_object(card)) for card in list_of(attributes, "cards")]
    node = {
        "time": time,
        "host": host,
        "version": version,
        **{name: text_of(attributes, name) for name in ("os_name", "os_release", "architecture", "cpu_model")},
        **build,
        "cpu_cores": cpu_cores,
        "memory_kib": memory,
        **_sums(cards),
        "description": _description(build, text_of(attributes, "cpu_model"), memory, cards),
        "numa_nodes": whole_of(attributes, "numa_nodes") or None,
        "distances": _distances(list_of(attributes, "distances")),
        "topo_svg": _drawing(attributes, "topo_svg", dropped),
        "topo_text": _drawing(attributes, "topo_text", dropped),
    }
    return node, cards


def _old_object(value: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the node and the cards of an object of older samplers."""
    old = as_object(value)
    host, time = text_of(old, "hostname"), parse_instant(text_of(old, "timestamp"))
    if not host:
        raise BadShapeError("missing-hostname")
    if time is None:
        raise BadShapeError("bad-timestamp")
    text = text_of(old, "description")
    build = _BUILD.match(text)
    cards = [_old_card(as_object(card)) for card in list_of(old, "gpu_info")] or _cards_of_text(
        text, whole_of(old, "gpu_cards"), number_of(old, "gpumem_gb")
    )
    threads = 2 if build and build[3] else 1
    node = {
        "time": time,
        "host": host,
        "version": text_of(old, "version"),
        "cpu_model": build[4].strip() if build else "",
        "sockets": int(build[1]) if build else None,
        "cores_per_socket": int(build[2]) if build else None,
        "threads_per_core": threads if build else None,
        "cpu_cores": whole_of(old, "cpu_cores"),
        "memory_kib": number_of(old, "mem_gb") * _KIB_PER_GIB,
        **_sums(cards),
        "description": text,
    }
    return node, cards


def _card(card: Mapping[str, Any]) -> dict[str, Any]:
    texts = ("uuid", "address", "manufacturer", "model", "architecture", "driver", "firmware")
    numbers = ("power_limit", "max_power_limit", "min_power_limit", "max_ce_clock", "max_memory_clock")
    return {
        "index": whole_of(card, "index"),
        **{name: text_of(card, name) for name in texts},
        "memory_kib": number_of(card, "memory"),
        **{name: number_of(card, name) for name in numbers},
    }


def _old_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return a card as an older sampler describes it: other names for the same."""
    names = {
        "address": "bus_addr",
        "architecture": "arch",
        "memory": "mem_size_kib",
        "power_limit": "power_limit_watt",
        "max_power_limit": "max_power_limit_watt",
        "min_power_limit": "min_power_limit_watt",
        "max_ce_clock": "max_ce_clock_mhz",
        "max_memory_clock": "max_mem_clock_mhz",
    }
    return _card({**card, **{name: card.get(old) for name, old in names.items()}})


def _cards_of_text(description: str, number: int, memory_gib: float) -> list[dict[str, Any]]:
    """Return as many cards as there are, what is known of them from the description's end."""
    match = _CARDS.search(description)
    if not number:
        number = int(match[1]) if match else 0
    if number > 1000:
        raise BadShapeError("bad-gpu_cards")
    of_one = memory_gib / number if memory_gib and number else float(match[3]) if match else 0.0
    known = {"uuid": "", "model": match[2] if match else ""}
    return [{"index": index, **known, "memory_kib": of_one * _KIB_PER_GIB} for index in range(number)]


def _sums(cards: list[dict[str, Any]]) -> dict[str, Any]:
    return {"cards": len(cards), "gpumem_kib": sum(card["memory_kib"] for card in cards)}


def _description(build: Mapping[str, int], model: str, memory_kib: float, cards: list[dict[str, Any]]) -> str:
    """Return the text that older samplers sent: `2x24 (hyperthreaded) EPYC 7402, 251 GiB, 4x A100 @ 40GiB`."""
    threads = " (hyperthreaded)" if build["threads_per_core"] > 1 else ""
    text = f"{build['sockets']}x{build['cores_per_socket']}{threads} {model}, {round(memory_kib / _KIB_PER_GIB)} GiB"
    if cards:
        text += f", {len(cards)}x {cards[0]['model']} @ {int(cards[0]['memory_kib'] / _KIB_PER_GIB)}GiB"
    return text


def _distances(rows: list[Any]) -> str | None:
    """Return the matrix of distances as text, rows divided by semicolons; None if it is not known."""
    texts = []
    for row in rows:
        if not isinstance(row, list):
            raise BadShapeError("bad-distances")
        texts.append(" ".join(str(whole_of({"distances": number}, "distances")) for number in row))
    return "; ".join(texts) or None


def _drawing(attributes: Mapping[str, Any], name: str, dropped: Counter[str]) -> str | None:
    """Return the text behind base64; bad data are left out and counted, the node stays."""
    text = text_of(attributes, name)
    if not text:
        return None
    try:
        return b64decode(text, validate=True).decode()
    except (Base64Error, ValueError):
        dropped[f"bad-{name}"] += 1
        return None


NODES = Topic(
    name="nodes",
    columns=(
        Column("time", "whole", "instant of the description"),
        Column("host", "text", "node"),
        Column("version", "text", "version of the sampler"),
        Column("os_name", "text", "operating system"),
        Column("os_release", "text", "its release"),
        Column("architecture", "text", "architecture of the machine"),
        Column("cpu_model", "text", "model of the processors"),
        Column("sockets", "whole", "number of sockets"),
        Column("cores_per_socket", "whole", "cores of each"),
        Column("threads_per_core", "whole", "threads of each core"),
        Column("cpu_cores", "whole", "logical cores: the product of these"),
        Column("memory_kib", "number", "main memory"),
        Column("cards", "whole", "number of GPU cards"),
        Column("gpumem_kib", "number", "memory of all cards together"),
        Column("description", "text", "all that in a line"),
        Column("numa_nodes", "whole", "number of NUMA nodes"),
        Column("distances", "text", "distances of the NUMA nodes, a row each, divided by semicolons"),
        Column("topo_svg", "text", "drawing of the machine"),
        Column("topo_text", "text", "the same in characters"),
    ),
    key=("host", "time"),
    files=_FILES,
    read=partial(_read, cards=False),
)

CARDS = Topic(
    name="cards",
    columns=(
        Column("time", "whole", "instant of the description"),
        Column("host", "text", "node"),
        Column("index", "whole", "number of the card on the node, among those of its maker"),
        Column("uuid", "text", "identifier; some change when the node boots"),
        Column("address", "text", "address on the bus"),
        Column("manufacturer", "text", "maker"),
        Column("model", "text", "model"),
        Column("architecture", "text", "architecture"),
        Column("driver", "text", "version of the driver"),
        Column("firmware", "text", "version of the firmware"),
        Column("memory_kib", "number", "memory"),
        Column("power_limit", "number", "power limit, W"),
        Column("max_power_limit", "number", "highest power limit, W"),
        Column("min_power_limit", "number", "lowest power limit, W"),
        Column("max_ce_clock", "number", "highest clock of the compute elements, MHz"),
        Column("max_memory_clock", "number", "highest clock of the memory, MHz"),
    ),
    key=("time", "host", "index", "uuid"),
    files=_FILES,
    read=partial(_read, cards=True),
)
