"""Rows of texts as fixed columns, CSV, named CSV, JSON or for awk, cell by cell."""

import json
import re
from datetime import UTC, datetime
from fractions import Fraction
from math import ceil, floor, isnan
from typing import Any

Row = dict[str, str]


def table(rows: list[Row], fields: list[str], style: str, *, header: bool = False) -> str:
    """Return the text of a table; `header` is of CSV only, fixed columns have one."""
    if style == "json":
        return "[" + ",".join(json_object({field: row[field] for field in fields}) for row in rows) + "]"
    lines = [[row[field] for field in fields] for row in rows]
    if style == "fixed":
        lines = [list(fields), *([re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", cell) for cell in line] for line in lines)]
        widths = [max(len(line[at]) for line in lines) for at in range(len(fields))]
        texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "".join(text.rstrip() + "\n" for text in texts)
    if style == "awk":
        lines = [[re.sub(r"[\x00-\x20\x7f-\x9f]", "_", cell) or "-" for cell in line] for line in lines]
        return "".join(" ".join(line) + "\n" for line in lines)
    if style == "csvnamed":
        lines = [[f"{field}={cell}" for field, cell in zip(fields, line, strict=True)] for line in lines]
    if header:
        lines = [list(fields), *lines]
    return "".join((",".join(quoted(cell) for cell in line) or '""') + "\n" for line in lines)


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if re.search('[,"\n\r]', cell) else cell


def json_object(members: dict[str, str]) -> str:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":"))


def number(value: float) -> str:
    """Return the shortest decimal that reads back as the number, without exponent."""
    if isnan(value):
        return "NaN"
    text = repr(value)
    if "e" in text:
        text = f"{Fraction(text).numerator}" if abs(value) > 1 else f"{value:.40f}".rstrip("0")
    return text.removesuffix(".0")


def up(value: Any) -> str:
    return str(ceil(value))


def cut(value: Any) -> str:
    return str(int(value))


def nearest(value: Any) -> str:
    """Round half away from zero."""
    return str(floor(Fraction(value) + Fraction(1, 2)))


def minute(instant: int) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%d %H:%M")


def duration(seconds: int) -> str:
    minutes = floor(Fraction(seconds, 60) + Fraction(1, 2))
    return f"{minutes // 1440}d{minutes // 60 % 24:2}h{minutes % 60:2}m"


def gpus(cards: Any) -> str:
    if cards == "unknown":
        return "unknown"
    return ",".join(map(str, sorted(cards))) or "none"


def union(sets: list[Any]) -> Any:
    return "unknown" if "unknown" in sets else frozenset().union(*sets)


def hosts(names: Any) -> str:
    """Write a set of hosts compactly: those that differ only in the last number of their first element together."""
    groups: dict[Any, list[str]] = {}
    for name in set(names):
        head, *tail = name.split(".")
        match = re.fullmatch(r"(.+?)([0-9]+)([^0-9]*)", head)
        if match:
            # Numbers with leading zeros go together by width; a group without any takes all widths.
            groups.setdefault((tail, match[1], match[3]).__repr__(), []).append(name)
        else:
            groups[name] = [name]
    texts = []
    for members in groups.values():
        head, *tail = members[0].split(".")
        match = re.fullmatch(r"(.+?)([0-9]+)([^0-9]*)", head)
        if not match:
            texts.append(((tail, head, -1, ""), members[0]))
            continue
        digits = [re.fullmatch(r"(.+?)([0-9]+)([^0-9]*)", name.split(".")[0])[2] for name in members]  # type: ignore[index]
        padded = any(len(text) > 1 and text[0] == "0" for text in digits)
        for width in {len(text) for text in digits} if padded else {0}:
            same = sorted((text for text in digits if not padded or len(text) == width), key=int)
            listed = same[0] if len(same) == 1 else f"[{runs(same)}]"
            text = ".".join([match[1] + listed + match[3], *tail])
            texts.append(((tail, match[1], int(same[0]), match[3]), text))
    return ",".join(text for _, text in sorted(texts))


def runs(numbers: list[str]) -> str:
    """Write ascending numbers with consecutive ones as `first-last`."""
    parts: list[list[str]] = []
    for text in numbers:
        if parts and int(text) == int(parts[-1][-1]) + 1:
            parts[-1].append(text)
        else:
            parts.append([text])
    return ",".join(part[0] if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def whole(value: Any) -> str:
    """Return a whole number, its fraction cut off, or nothing where there is none."""
    return "" if value is None else str(int(value))


def iso(instant: int | None, missing: str = "") -> str:
    return missing if instant is None else datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
