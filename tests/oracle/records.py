"""Files become samples, character by character and record by record, straight from sonar-data(5).

A sample is a dict by the names of the table of samples; whole numbers are ints, other numbers floats, a set of cards is
a frozenset of numbers or the text "unknown".
"""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

Sample = dict[str, Any]

NUMBERS = {
    "cpu%": "cpu_pct", "cpukib": "cpu_kib", "rssanonkib": "rss_kib", "gpu%": "gpu_pct", "gpumem%": "gpumem_pct",
    "gpukib": "gpu_kib", "cputime_sec": "cputime_s",
}  # fmt: skip
COUNTS = {"cores": 2**32, "job": 2**32, "epoch": 2**63, "pid": 2**63, "ppid": 2**63, "rolledup": 2**32}
TEXTS = {"v": "version", "host": "host", "user": "user", "cmd": "cmd"}
DEFAULTS: Sample = {
    "cores": 0, "job": 0, "epoch": None, "pid": 0, "ppid": 0, "cpu_pct": 0.0, "cpu_kib": 0.0, "rss_kib": 0.0,
    "gpus": frozenset(), "gpu_pct": 0.0, "gpumem_pct": 0.0, "gpu_kib": 0.0, "gpufail": 0, "cputime_s": 0.0,
    "rolledup": 0, "threads": 0, "cpu_sampled_pct": 0.0, "read_kib": 0.0, "written_kib": 0.0, "cancelled_kib": 0.0,
    "in_container": False,
}  # fmt: skip


class Bad(Exception):
    """A record that is dropped."""


def samples_of(name: str, content: bytes, *, tree: bool) -> tuple[bool, list[Sample]]:
    """Return whether a file holds envelopes (in a tree its name tells), and its good samples in order."""
    is_json = name.endswith(".json") or (not tree and content.lstrip()[:1] == b"{")
    return is_json, (envelopes if is_json else csv)(content)


# ---- CSV -----------------------------------------------------------------------------------------------------------


def csv(content: bytes) -> list[Sample]:
    samples = []
    for fields in rows(content.decode(errors="surrogateescape")):
        try:
            samples.append(sample_of(fields))
        except Bad:
            continue
    return samples


def rows(text: str) -> list[list[str]]:
    """Split text into records and these into fields: RFC 4180, and a torn quote ends where a record begins."""
    found: list[list[str]] = []
    fields: list[str] = []
    field, at, quoted, fresh = "", 0, False, True
    while at < len(text):
        char = text[at]
        at += 1
        if quoted:
            if char == '"' and text[at : at + 1] == '"':
                field += '"'
                at += 1
            elif char == '"':
                quoted = False
            elif char == "\n" and (at == len(text) or re.match(r'"?v=|\d{4}-\d\d-\d\d[Tt][^,\n]*,', text[at:])):
                fields, field, quoted, fresh = [], "", False, True
            else:
                field += char
        elif char == '"' and fresh:
            quoted, fresh = True, False
        elif char == ",":
            fields.append(field)
            field, fresh = "", True
        elif char in "\r\n":
            if fields or field or not fresh:
                found.append([*fields, field])
            fields, field, fresh = [], "", True
        else:
            field += char
            fresh = False
    if not quoted and (fields or field or not fresh):
        found.append([*fields, field])
    return found


def sample_of(fields: list[str]) -> Sample:
    if any("\udc80" <= char <= "\udcff" for field in fields for char in field):
        raise Bad("no UTF-8")
    try:
        time = instant(fields[0])
    except Bad:
        return tagged(fields)
    return untagged(time, fields)


def tagged(fields: list[str]) -> Sample:
    seen: dict[str, str] = {}
    for field in fields:
        tag, equals, text = field.partition("=")
        if equals and tag in {"time", "gpus", "gpufail", *NUMBERS, *COUNTS, *TEXTS}:
            if tag in seen:
                raise Bad("repeated")
            seen[tag] = text
    if seen.get("cmd") == "_heartbeat_":
        seen.setdefault("user", "_sonar_")
    for tag in ("v", "time", "host", "user", "cmd"):
        if tag not in seen or (seen[tag] == "" and tag != "cmd"):
            raise Bad("missing")
    sample = dict(DEFAULTS)
    for tag, text in seen.items():
        if tag in NUMBERS:
            sample[NUMBERS[tag]] = number(text)
        elif tag in COUNTS:
            sample[tag] = count(text, COUNTS[tag])
        elif tag in TEXTS:
            sample[TEXTS[tag]] = text
        elif tag == "time":
            sample["time"] = instant(text)
        elif tag == "gpus":
            sample["gpus"] = cards(text)
        else:
            sample["gpufail"] = int(count(text, 2**32) != 0)
    return sample


def untagged(time: int, fields: list[str]) -> Sample:
    if len(fields) not in (8, 12, 13):
        raise Bad("width")
    sample = DEFAULTS | {"time": time, "version": "0.6.0", "host": fields[1], "cores": count(fields[2], 2**32)}
    sample |= {"user": fields[3], "job": count(fields[4], 2**32), "cmd": fields[5]}
    sample |= {"pid": sample["job"], "cpu_pct": number(fields[6]), "cpu_kib": number(fields[7])}
    if len(fields) > 8:
        bits = fields[8]
        if not re.fullmatch("[01]{1,64}", bits):
            raise Bad("bits")
        numbers = frozenset(at for at, bit in enumerate(reversed(bits)) if bit == "1")
        sample["gpus"] = "unknown" if bits in ("1" * 32, "1" * 64) or 63 in numbers else numbers
        sample |= {"gpu_pct": number(fields[9]), "gpumem_pct": number(fields[10]), "gpu_kib": number(fields[11])}
    if len(fields) > 12:
        sample["cputime_s"] = number(fields[12])
    return sample


def instant(text: str) -> int:
    """Return seconds since 1970; fractions are cut off downwards."""
    match = re.fullmatch(
        r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})", text
    )
    if not match:
        raise Bad("time")
    zone = UTC
    if match[4] not in "Zz":
        hours, minutes = match[4][1:].split(":")
        if int(hours) > 23 or int(minutes) > 59:
            raise Bad("offset")
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        zone = timezone(-offset if match[4][0] == "-" else offset)
    try:
        return int(datetime.fromisoformat(f"{match[1]} {match[2]}").replace(tzinfo=zone).timestamp())
    except ValueError:
        raise Bad("date") from None


def number(text: str) -> float:
    if not re.fullmatch(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|nan)", text, re.ASCII | re.IGNORECASE):
        raise Bad("number")
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise Bad("infinite")
    return value


def count(text: str, limit: int) -> int:
    match = re.fullmatch(r"\+?([0-9]+)(\.0*)?", text)
    if not match or int(match[1]) >= limit:
        raise Bad("count")
    return int(match[1])


def cards(text: str) -> Any:
    if text in ("none", ""):
        return frozenset()
    if text == "unknown":
        return "unknown"
    numbers = frozenset(count(card, 2**32) for card in text.split(","))
    return "unknown" if max(numbers) > 62 else numbers


# ---- envelopes -----------------------------------------------------------------------------------------------------


def envelopes(content: bytes) -> list[Sample]:
    """Return the samples of envelopes that stand one a line; a line that cannot be read costs itself."""
    samples: list[Sample] = []
    for line in content.decode(errors="replace").split("\n"):
        try:
            samples += of_envelope(json.loads(line))
        except (ValueError, Bad):
            continue
    return samples


def of_envelope(envelope: Any) -> list[Sample]:
    if not isinstance(envelope, dict) or "errors" in envelope:
        raise Bad("no data")
    if envelope.get("data", {}).get("type", "sample") != "sample":
        raise Bad("no sample")
    attributes = envelope["data"]["attributes"] if "data" in envelope else {}
    whole = DEFAULTS | {"time": instant(attributes.get("time", "")), "host": attributes.get("node", "")}
    if not whole["host"]:
        raise Bad("no node")
    system = attributes.get("system", {})
    whole |= {"version": envelope.get("meta", {}).get("version", ""), "cores": len(system.get("cpus", []))}
    if not attributes.get("jobs"):
        return [whole | {"user": "_sonar_", "cmd": "_heartbeat_", "epoch": 0}]
    failing = {card.get("uuid") or card.get("index", 0) for card in system.get("gpus", []) if card.get("failing")}
    samples = []
    for job in attributes["jobs"]:
        for process in job.get("processes", []):
            gpus = process.get("gpus", [])
            numbers = frozenset(gpu.get("index", 0) for gpu in gpus)
            samples.append(
                whole
                | {
                    "job": job.get("job", 0),
                    "user": job.get("user", ""),
                    "epoch": job.get("epoch", 0),
                    "pid": process.get("pid", 0),
                    "ppid": process.get("ppid", 0),
                    "cmd": process.get("cmd", ""),
                    "cpu_pct": float(process.get("cpu_avg", 0)),
                    "cpu_kib": float(process.get("virtual_memory", 0)),
                    "rss_kib": float(process.get("resident_memory", 0)),
                    "gpus": "unknown" if any(card > 62 for card in numbers) else numbers,
                    "gpu_pct": float(sum(gpu.get("gpu_util", 0) for gpu in gpus)),
                    "gpumem_pct": float(sum(gpu.get("gpu_memory_util", 0) for gpu in gpus)),
                    "gpu_kib": float(sum(gpu.get("gpu_memory", 0) for gpu in gpus)),
                    "gpufail": int(any((gpu.get("uuid") or gpu.get("index", 0)) in failing for gpu in gpus)),
                    "cputime_s": float(process.get("cpu_time", 0)),
                    "rolledup": process.get("rolledup", 0),
                    "threads": process.get("num_threads", 0) + 1,
                    # A fraction until 0.15.
                    "cpu_sampled_pct": float(process.get("cpu_util", 0)) * (100 if "0.15." in whole["version"] else 1),
                    "read_kib": float(process.get("data_read", 0)),
                    "written_kib": float(process.get("data_written", 0)),
                    "cancelled_kib": float(process.get("data_cancelled", 0)),
                    "in_container": bool(process.get("in_container")),
                }
            )
    return samples
