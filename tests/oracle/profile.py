"""One job over time, process by process: the verb profile."""

import json
from fractions import Fraction
from typing import Any

from tests.oracle import texts
from tests.oracle.question import GB, Asked
from tests.oracle.streams import Stream, mean, streams

QUANTITIES = ("cpu", "mem", "gpu", "gpumem", "res")


def profile(log: Asked) -> Any:
    rows: list[Any] = []
    before = None
    for point in points(log):
        shown = texts.minute(point["time"])
        rows.append(
            {name: texts.nearest(point[name]) for name in QUANTITIES}
            | {
                "time": shown if point["time"] != before else " " * len(shown),
                "rss": texts.nearest(point["res"]),
                "nproc": str(point["rolledup"] + 1) if point["rolledup"] else "",
                "cmd": point["sample"]["cmd"],
                "host": point["sample"]["host"],
                "_point": point,
            }
        )
        before = point["time"]
    return rows, None


def processes_of(log: Asked) -> list[tuple[Any, Stream]]:
    """Return the streams in order. On several hosts instants are minutes, and the first sample in one counts."""
    found = streams(log)
    if len({key[0] for key, _ in found}) > 1:
        rounded = []
        for key, stream in found:
            by_minute: dict[int, Any] = {}
            for sample in stream:
                by_minute.setdefault((sample["time"] + 30) // 60 * 60, sample)
            rounded.append((key, [sample | {"time": time} for time, sample in by_minute.items()]))
        found = rounded
    return sorted(found, key=lambda one: (one[1][0]["time"], one[0][4], one[1][0]["pid"], one[0][0], one[0]))


def points(log: Asked) -> list[dict[str, Any]]:
    """Return what each process used at each instant, by instant and process; buckets of instants if asked for."""
    largest = Fraction(log.question.one("max", "1e300"))
    found = []
    for number, (_, stream) in enumerate(processes_of(log)):
        for sample in stream:
            values = {"cpu": sample["util"], "mem": Fraction(sample["cpu_kib"]) / GB}
            values |= {"gpu": Fraction(sample["gpu_pct"]), "gpumem": Fraction(sample["gpu_kib"]) / GB}
            values |= {"res": Fraction(sample["rss_kib"]) / GB}
            cut = {name: Fraction(0) if v > 2 * largest else min(v, largest) for name, v in values.items()}
            names = {"time": sample["time"], "process": number, "pid": stream[0]["pid"], "sample": sample}
            found.append(cut | names | {"rolledup": sample["rolledup"]})
    size = int(log.question.one("bucket", "0"))
    if size > 1:
        found = bucketed(found, size)
    return sorted(found, key=lambda point: (point["time"], point["process"]))


def bucketed(found: list[dict[str, Any]], size: int) -> list[dict[str, Any]]:
    instants = sorted({point["time"] for point in found})
    means = []
    for start in range(0, len(instants), size):
        bucket = instants[start : start + size]
        inside = [point for point in found if point["time"] in bucket]
        for number in sorted({point["process"] for point in inside}):
            own = [point for point in inside if point["process"] == number]
            values = {name: mean([point[name] for point in own]) for name in QUANTITIES}
            rolledup = max(point["rolledup"] for point in own)
            means.append(own[0] | values | {"time": bucket[len(bucket) // 2], "rolledup": rolledup})
    return means


def is_on_several_hosts(rows: list[Any]) -> bool:
    return len({row["host"] for row in rows}) > 1


def as_csv(rows: list[Any], quantity: str) -> str:
    several = is_on_several_hosts(rows)
    names = {}
    for row in rows:
        where = f"@{row['host']}" if several else ""
        names[row["_point"]["process"]] = f"{row['cmd']} ({row['_point']['pid']}{where})"
    lines = [["time", *(names[number] for number in sorted(names))]]
    for time in sorted({row["_point"]["time"] for row in rows}):
        cells = {row["_point"]["process"]: row[quantity] for row in rows if row["_point"]["time"] == time}
        lines.append([texts.minute(time), *(cells.get(number, "") for number in sorted(names))])
    return "".join(",".join(texts.quoted(cell) for cell in line) + "\n" for line in lines)


def as_json(rows: list[Any], job: int, fields: list[str]) -> str:
    names = ("cpu", "mem", "gpu", "gpumem", *(("res",) if {"res", "rss"} & set(fields) else ()))
    several = is_on_several_hosts(rows)
    document = []
    for time in sorted({row["_point"]["time"] for row in rows}):
        told = [
            {"command": row["cmd"], "pid": row["_point"]["pid"]}
            | {name: int(row[name]) for name in names}
            | ({"host": row["host"]} if several else {})
            | {"nproc": int(row["nproc"] or 1)}
            for row in rows
            if row["_point"]["time"] == time
        ]
        document.append({"time": texts.minute(time), "job": job, "points": told})
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
