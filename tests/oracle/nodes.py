"""What nodes told of themselves, and what is known of clusters: the verbs node, card, config and cluster."""

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from fractions import Fraction
from math import floor
from typing import Any

from tests.oracle import texts
from tests.oracle.question import DAY, GB, Asked
from tests.oracle.told import Record, Told, instant_or_none, messages, told, values

FORMS = (("0+sysinfo-", ".json"), ("sysinfo-", ".json"))
CARD_TEXTS = {"UUID": "uuid", "Address": "address", "Manufacturer": "manufacturer", "Model": "model",
              "Architecture": "architecture", "Driver": "driver", "Firmware": "firmware"}  # fmt: skip
CARD_NUMBERS = {"Index": "index", "Memory": "memory", "PowerLimit": "power_limit", "MaxPowerLimit": "max_power_limit",
                "MinPowerLimit": "min_power_limit", "MaxCEClock": "max_ce_clock",
                "MaxMemoryClock": "max_memory_clock"}  # fmt: skip
OLD_NAMES = {"bus_addr": "address", "arch": "architecture", "mem_size_kib": "memory",
             "power_limit_watt": "power_limit", "max_power_limit_watt": "max_power_limit",
             "min_power_limit_watt": "min_power_limit", "max_ce_clock_mhz": "max_ce_clock",
             "max_mem_clock_mhz": "max_memory_clock"}  # fmt: skip


def descriptions(content: bytes) -> Iterator[Record]:
    """Yield what each node told, its cards as a list; numbers of the build that are not known are None."""
    for value in values(content):
        if isinstance(value, dict) and ("data" in value or "errors" in value):
            for attributes, time, version in messages(json.dumps(value).encode(), "sysinfo"):
                if attributes.get("node"):
                    yield of_message(attributes) | {"time": time, "host": attributes["node"], "version": version}
        elif isinstance(value, dict):
            instant = instant_or_none(value.get("timestamp", ""))
            if instant is not None and value.get("hostname"):
                yield of_old_object(value) | {"time": instant, "host": value["hostname"]}


def of_message(told: Record) -> Record:
    build = [told.get(name, 0) for name in ("sockets", "cores_per_socket", "threads_per_core")]
    cards, memory = told.get("cards", []), told.get("memory", 0)
    text = f"{build[0]}x{build[1]}{' (hyperthreaded)' if build[2] > 1 else ''} {told.get('cpu_model', '')}"
    text += f", {round(Fraction(memory) / GB)} GiB"
    if cards:
        text += f", {len(cards)}x {cards[0].get('model', '')} @ {cards[0].get('memory', 0) // GB}GiB"
    distances = "; ".join(" ".join(map(str, row)) for row in told.get("distances", []))
    return {
        **{name: told.get(name, "") for name in ("os_name", "os_release", "architecture", "cpu_model")},
        "build": build, "cores": build[0] * build[1] * build[2], "memory": memory, "cards": cards, "text": text,
        "numa_nodes": told.get("numa_nodes") or None, "distances": distances,
        **{name: decoded(told.get(name, "")) for name in ("topo_svg", "topo_text")},
    }  # fmt: skip


def decoded(text: str) -> str:
    try:
        return b64decode(text, validate=True).decode()
    except ValueError:
        return ""


def of_old_object(old: Record) -> Record:
    text = old.get("description", "")
    match = re.match(r"(\d+)x(\d+)( \(hyperthreaded\))?(.*?), \d+ ?Gi?B", text)
    cards = [{OLD_NAMES.get(name, name): value for name, value in card.items()} for card in old.get("gpu_info", [])]
    if not cards:
        tail = re.search(r", (\d+)x (.*?) @ (\d+) ?Gi?B$", text)
        number = old.get("gpu_cards") or (int(tail[1]) if tail else 0)
        each = Fraction(old["gpumem_gb"], number) if old.get("gpumem_gb") and number else int(tail[3]) if tail else 0
        unknown = dict.fromkeys(CARD_NUMBERS.values(), "")
        known = {"model": tail[2] if tail else "", "memory": each * GB}
        cards = [unknown | known | {"index": at} for at in range(number)]
    return {
        "os_name": "", "os_release": "", "architecture": "", "cpu_model": match[4].strip() if match else "",
        "build": [int(match[1]), int(match[2]), 2 if match[3] else 1] if match else [None] * 3,
        "cores": old.get("cpu_cores", 0), "memory": old.get("mem_gb", 0) * GB, "cards": cards, "text": text,
        "numa_nodes": None, "distances": "", "topo_svg": "", "topo_text": "", "version": old.get("version", ""),
    }  # fmt: skip


def cards_of(content: bytes) -> Iterator[Record]:
    for one in descriptions(content):
        for card in one["cards"]:
            known = {"index": 0, "uuid": ""} | {name: value for name, value in card.items() if value is not None}
            yield known | {"time": one["time"], "host": one["host"]}


NODES = Told(FORMS, descriptions, ("host", "time"))
CARDS = Told(FORMS, cards_of, ("time", "host", "index", "uuid"))


def newest(found: list[Record]) -> dict[str, Record]:
    return {one["host"]: one for one in found}  # sorted by host and time: the last stays


def half_up(kib: Any) -> int:
    return floor(Fraction(kib) / GB + Fraction(1, 2))


def capacities(log: Asked) -> dict[str, Record]:
    """Return what hosts have by their newest descriptions of the window and the two weeks before its end."""
    start, end = log.window
    found = told(NODES, log, since=min(start, end - 14 * DAY), until=end, named=True)
    return {
        host: {
            "cpu_cores": one["cores"], "mem_gb": half_up(one["memory"]), "gpu_cards": len(one["cards"]),
            "gpumem_gb": half_up(sum(Fraction(card.get("memory", 0)) for card in one["cards"])),
            "gpumem_pct": False, "description": one["text"],
        }
        for host, one in newest(found).items()
    }  # fmt: skip


def node(log: Asked) -> Any:
    found = told(NODES, log)
    rows = [node_row(one) for one in (newest(found).values() if log.question.has("newest") else found)]
    return rows, None


def node_row(one: Record) -> dict[str, str]:
    memory = sum(Fraction(card.get("memory", 0)) for card in one["cards"])
    return capacity_row(one["host"], one["text"], one["cores"], half_up(one["memory"]), len(one["cards"]),
                        half_up(memory), one["time"]) | {
        "NumaNodes": texts.whole(one["numa_nodes"]), "numas": texts.whole(one["numa_nodes"]),
        **dict(zip(("Sockets", "CoresPerSocket", "ThreadsPerCore"), map(texts.whole, one["build"]), strict=True)),
        "CpuModel": one["cpu_model"], "OsName": one["os_name"], "OsRelease": one["os_release"],
        "Architecture": one["architecture"], "Distances": one["distances"], "TopoSVG": one["topo_svg"],
        "TopoText": one["topo_text"], "Version": one["version"],
    }  # fmt: skip


def capacity_row(
    host: str, text: str, cores: int, mem: int, cards: int, gpumem: int, time: int | None
) -> dict[str, str]:
    told_at = "" if time is None else texts.minute(time)
    row = {"Timestamp": told_at, "Hostname": host, "Description": text, "CpuCores": str(cores), "MemGB": str(mem)}
    row |= {"GpuCards": str(cards), "GpuMemGB": str(gpumem)}
    short = ("timestamp", "host", "desc", "cores", "mem", "gpus", "gpumem")
    return row | dict(zip(short, row.values(), strict=True))


def config(log: Asked) -> Any:
    rows = {}
    for host, one in newest(told(NODES, log)).items():
        rows[host] = node_row(one) | {"GpuMemPct": "no"}
    for host, one in (log.question.nodes or {}).items():
        if log.about(host):
            cores, mem, cards, gpumem = (one.get(name, 0) for name in ("cpu_cores", "mem_gb", "gpu_cards", "gpumem_gb"))
            rows[host] = capacity_row(host, one.get("description", ""), cores, mem, cards, gpumem, None)
            rows[host]["GpuMemPct"] = "yes" if one.get("gpumem_pct") else "no"
    return [rows[host] | {"gpumempct": rows[host]["GpuMemPct"]} for host in sorted(rows)], None


def card(log: Asked) -> Any:
    rows = []
    for one in told(CARDS, log):
        row = {"Time": texts.minute(one["time"]), "Node": one["host"]}
        row |= {name: one.get(column, "") for name, column in CARD_TEXTS.items()}
        numbers = {name: one.get(column, 0) for name, column in CARD_NUMBERS.items()}
        rows.append(row | {name: value if value == "" else texts.cut(value) for name, value in numbers.items()})
    return rows, None


def cluster(log: Asked) -> Any:
    rows = []
    for name, (aliases, title) in sorted(log.question.clusters.items()):
        row = {"Name": name, "Aliases": ",".join(sorted(aliases)), "Description": title}
        rows.append(row | {"cluster": row["Name"], "aliases": row["Aliases"], "desc": row["Description"]})
    return rows, None
