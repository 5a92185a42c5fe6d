"""What samples tell of their node: cards, disks, load, cores; the verbs gpu, diskprof, nodeprof and top."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from tests.oracle import records, texts
from tests.oracle.question import Asked
from tests.oracle.told import Record, Told, instant_or_none, is_json, messages, told

JSON, CSV = ("0+sample-", ".json"), ("", ".csv")
FIRST_DIGITS = "(){}[]<>+-abcdefghijklmnopqrstuvwxyz!@#$%^&*_"
MORE_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ~|';:.?/`"
CARD_TAGS = {
    "fan%": "fan", "musekib": "memory", "cutil%": "ce_util", "mutil%": "memory_util", "tempc": "temperature",
    "poww": "power", "powlimw": "power_limit", "cez": "ce_clock", "memz": "memory_clock",
}  # fmt: skip
COUNTERS = (
    "ReadsCompleted", "ReadsMerged", "SectorsRead", "MsReading", "WritesCompleted", "WritesMerged", "SectorsWritten",
    "MsWriting", "IOsInProgress", "MsDoingIOs", "WeightedMsDoingIOs", "DiscardsCompleted", "DiscardsMerged",
    "SectorsDiscarded", "MsDiscarding", "FlushesCompleted", "MsFlushing",
)  # fmt: skip


def systems(content: bytes) -> Iterator[Record]:
    """Yield instant, host and `system` of messages, or of records with their tags as `tags`."""
    if is_json(content):
        for attributes, time, _version in messages(content, "sample"):
            if attributes.get("node") and attributes.get("system"):
                yield {"time": time, "host": attributes["node"], "system": attributes["system"], "tags": {}}
        return
    for fields in records.rows(content.decode(errors="surrogateescape")):
        tags = dict(field.split("=", 1) for field in fields if "=" in field)
        instant = instant_or_none(tags.get("time", ""))
        if instant is not None and tags.get("host"):
            yield {"time": instant, "host": tags["host"], "system": {}, "tags": tags}


def cards(content: bytes) -> Iterator[Record]:
    for one in systems(content):
        found = [
            {"index": 0, "uuid": "", "failing": 0, "compute_mode": "", "performance_state": 0}
            | dict.fromkeys(CARD_TAGS.values(), 0)
            | card
            for card in one["system"].get("gpus", [])
        ]
        for card in found:
            card["performance_state"] = card["performance_state"] - 1 if card["performance_state"] else None
        yield from ({"time": one["time"], "host": one["host"]} | card for card in found or of_tag(one["tags"]))


def of_tag(tags: dict[str, str]) -> list[Record]:
    listed = dict(part.split("=", 1) for part in tags.get("gpuinfo", "").split(",") if "=" in part)
    by_card = {name: text.split("|") for name, text in listed.items()}
    found = []
    for number in range(max(map(len, by_card.values()), default=0)):
        own = {name: of_all[number] if number < len(of_all) else "" for name, of_all in by_card.items()}
        card: Record = {"index": number, "uuid": "", "failing": 0, "compute_mode": own.get("mode") or "Default"}
        card |= {column: float(own.get(tag) or 0) for tag, column in CARD_TAGS.items()}
        state = own.get("perf", "").removeprefix("P")
        found.append(card | {"performance_state": int(state) if state.isdigit() else None})
    return found


def disks(content: bytes) -> Iterator[Record]:
    for one in systems(content):
        for disk in one["system"].get("disks", []):
            names = {"name": disk.get("name", ""), "major": disk.get("major", 0), "minor": disk.get("minor", 0)}
            yield {"time": one["time"], "host": one["host"], **names, "stats": disk.get("stats", [])}


def loads(content: bytes) -> Iterator[Record]:
    for one in systems(content):
        if one["system"]:
            yield {"time": one["time"], "host": one["host"]} | one["system"]


def cores(content: bytes) -> Iterator[Record]:
    for one in systems(content):
        seconds = one["system"].get("cpus") or decoded(one["tags"].get("load", ""))
        if seconds:
            yield {"time": one["time"], "host": one["host"], "seconds": seconds}


def decoded(text: str) -> list[int]:
    """Return numbers to base 45, little end first, each begun by a digit of the first alphabet; the first is a base."""
    numbers: list[list[int]] = []
    for digit in text:
        if digit in FIRST_DIGITS:
            numbers.append([FIRST_DIGITS.index(digit)])
        else:
            numbers[-1].append(MORE_DIGITS.index(digit))
    base, *rest = [sum(digit * 45**at for at, digit in enumerate(digits)) for digits in numbers] or [0]
    return [base + number for number in rest]


CARDS = Told((JSON, CSV), cards, ("host", "time", "index", "uuid"))
DISKS = Told((JSON,), disks, ("host", "time", "name"))
LOADS = Told((JSON,), loads, ("host", "time"))
CORES = Told((JSON, CSV), cores, ("host", "time"))


def gpu(log: Asked) -> Any:
    wanted = log.question.one("gpu")
    rows = []
    for card in told(CARDS, log):
        if wanted is not None and card["index"] != int(wanted):
            continue
        row = {"Timestamp": texts.minute(card["time"]), "Hostname": card["host"], "UUID": card["uuid"]}
        row |= {"ComputeMode": card["compute_mode"], "PerformanceState": texts.whole(card["performance_state"])}
        names = {"Index": "index", "Failing": "failing", "Fan": "fan", "Memory": "memory", "CEUtil": "ce_util",
                 "MemoryUtil": "memory_util", "Temperature": "temperature", "Power": "power",
                 "PowerLimit": "power_limit", "CEClock": "ce_clock", "MemoryClock": "memory_clock"}  # fmt: skip
        row |= {name: texts.cut(card[column]) for name, column in names.items()}
        rows.append(row | {"host": row["Hostname"], "Gpu": row["Index"], "PowerDraw": row["Power"]})
    return rows, None


def diskprof(log: Asked) -> Any:
    rows = []
    for disk in told(DISKS, log):
        row = {"Timestamp": texts.minute(disk["time"]), "Hostname": disk["host"], "host": disk["host"]}
        row |= {"Name": disk["name"], "Major": str(disk["major"]), "Minor": str(disk["minor"])}
        numbers = [*disk["stats"], *[0] * len(COUNTERS)]
        rows.append(row | {name: str(number) for name, number in zip(COUNTERS, numbers, strict=False)})
    return rows, None


def nodeprof(log: Asked) -> Any:
    rows = []
    for one in told(LOADS, log):
        boot = instant_or_none(one.get("boot", ""))
        row = {"Timestamp": texts.minute(one["time"]), "Boot": "" if boot is None else texts.minute(boot)}
        row |= {"Hostname": one["host"], "UsedMemory": texts.cut(one.get("used_memory", 0))}
        row |= {f"Load{n}": texts.number(float(one.get(f"load{n}", 0))) for n in (1, 5, 15)}
        row |= {f"{name}Entities": str(one.get(f"{name.lower()}_entities", 0)) for name in ("Runnable", "Existing")}
        row |= {"host": row["Hostname"], "usedmem": row["UsedMemory"], "runnable": row["RunnableEntities"]}
        row |= {f"load{n}": row[f"Load{n}"] for n in (1, 5, 15)} | {"existing": row["ExistingEntities"]}
        rows.append(row)
    return rows, None


def top(log: Asked) -> Any:
    rows = []
    for before, after in pairwise(told(CORES, log)):
        spent = [now - then for then, now in zip(before["seconds"], after["seconds"], strict=False)]
        if before["host"] != after["host"] or len(before["seconds"]) != len(after["seconds"]) or min(spent) < 0:
            continue
        shares = [100 * seconds / (after["time"] - before["time"]) for seconds in spent]
        busy = "".join("." if share < 10 else "o" if share < 25 else "O" for share in shares)
        rows.append({"host": after["host"], "time": texts.minute(after["time"]), "cores": busy})
    return rows, None


def top_text(rows: list[dict[str, str]]) -> str:
    text, host = "", None
    for row in rows:
        text += f"HOST: {row['host']}\n" if row["host"] != host else ""
        text += f"  {row['time']} {row['cores']}\n"
        host = row["host"]
    return text
