"""What is no sample, as it was told: nodes, cards, disks, jobs of the batch system; names are those of sonar-data(5).

`told` is the one entry: the records of one kind that a question is about, each once, sorted.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.oracle import records
from tests.oracle.question import Asked, of_days

Record = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """One kind of data: the names of its files in a tree, the reader of their bytes, and what tells records apart."""

    forms: tuple[tuple[str, str], ...]
    read: Callable[[bytes], Iterator[Record]]
    key: tuple[str, ...]

    def host_of(self, name: str) -> str | None:
        base = name.rpartition("/")[2]
        for before, after in self.forms:
            if base.startswith(before) and base.endswith(after):
                return base[len(before) : len(base) - len(after)]
        return None


def told(kind: Told, log: Asked, *, since: Any = None, until: Any = None, named: bool = False) -> list[Record]:
    """Return the records within the limits of the question, or those given."""
    start, end = log.start if since is None else since, log.end if until is None else until
    of_hosts = "host" in kind.key
    files = [
        (name, content) for name, content in log.files if not (log.tree or named) or kind.host_of(name) is not None
    ]
    if log.tree:
        files = sorted(file for file in files if of_days(file[0], start, end))
        files = [(name, c) for name, c in files if not of_hosts or log.about(kind.host_of(name) or "")]
        files = [(name, c) for name, c in files if not (of_hosts and kind.host_of(name) == "slurm-sacct")]
    first: dict[Any, Record] = {}
    by_message: set[tuple[Any, int]] = set()
    for is_json in (True, False):
        for name, content in files:
            if name.endswith(".json") != is_json:
                continue
            found = [one for one in kind.read(content) if not of_hosts or log.about(one["host"])]
            found = [
                one for one in found if (start is None or one["time"] >= start) and (end is None or one["time"] <= end)
            ]
            if of_hosts and not is_json:
                found = [one for one in found if (one["host"], one["time"]) not in by_message]
            elif of_hosts:
                by_message |= {(one["host"], one["time"]) for one in found}
            for one in found:
                first.setdefault(tuple(one[name] for name in kind.key), one)
    return [first[key] for key in sorted(first)]


def messages(content: bytes, *types: str) -> Iterator[tuple[Record, int, str]]:
    """Yield attributes, instant and sender's version of the messages of these types that can be read."""
    for value in values(content):
        if not isinstance(value, dict) or "errors" in value or value.get("data", {}).get("type") not in types:
            continue
        attributes = value["data"].get("attributes", {})
        try:
            yield attributes, records.instant(attributes.get("time", "")), value.get("meta", {}).get("version", "")
        except records.Bad:
            continue


def values(content: bytes) -> Iterator[Any]:
    """Yield JSON values one after the other; after one that cannot be read, from the next line with `{` on."""
    text, decoder = content.decode(errors="replace"), json.JSONDecoder()
    while text := text.lstrip():
        try:
            value, at = decoder.raw_decode(text)
        except ValueError:
            at = text.find("\n{")
            text = text[at + 1 :] if at >= 0 else ""
            continue
        yield value
        text = text[at:]


def is_json(content: bytes) -> bool:
    return any(line.lstrip(b" \t\r").startswith(b"{") for line in content.split(b"\n"))


def instant_or_none(text: str) -> int | None:
    try:
        return records.instant(text)
    except records.Bad:
        return None
