"""Trouble, and what is remembered of it, so that each is told once, and once more when it is over."""

import fcntl
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sonar import durable
from sonar.errors import SonarError

__all__ = ["Memory", "Trouble", "compare", "locked_memory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that is wrong now. `kind` is the check that found it; with `what` it tells this trouble from others."""

    kind: str
    what: str
    text: str
    unit: str = ""
    cluster: str = ""
    node: str = ""

    @property
    def key(self) -> str:
        """What tells this trouble from others."""
        return f"{self.kind}:{self.what}"


@dataclass(slots=True)
class Memory:
    """What was told and when, and the counters that a check compares with."""

    told: dict[str, tuple[Trouble, int]] = field(default_factory=dict)  # by key, with the instant
    restarts: dict[str, int] = field(default_factory=dict)


def compare(
    memory: Memory, found: Sequence[Trouble], kinds: Collection[str], now: int, repeat_after_s: int = 0
) -> tuple[list[Trouble], list[Trouble]]:
    """Return what is to be told as new and as over, and remember that it was.

    Only troubles of `kinds`, those that were looked for, can be over. What lasts is told again after `repeat_after_s`
    seconds; 0 means never.
    """
    current = {trouble.key: trouble for trouble in found}
    over = [trouble for key, (trouble, _) in memory.told.items() if trouble.kind in kinds and key not in current]
    for trouble in over:
        del memory.told[trouble.key]
    new = []
    for key, trouble in current.items():
        before = memory.told.get(key)
        if before is None or (repeat_after_s and now - before[1] >= repeat_after_s):
            new.append(trouble)
            memory.told[key] = (trouble, now)
    return new, over


@contextmanager
def locked_memory(path: Path) -> Iterator[Memory]:
    """Give what is remembered in a file, and write it back whole if the block ends well. One process at a time.

    A file that cannot be understood is set aside as PATH.bad: to tell once more does no harm, to tell nothing would.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise SonarError(f"cannot keep '{path}': {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        memory = _read(path)
        yield memory
        _write(path, memory)
    finally:
        os.close(lock)


def _read(path: Path) -> Memory:
    try:
        content = json.loads(path.read_bytes())
        told = {key: (Trouble(**one["trouble"]), int(one["at"])) for key, one in content["told"].items()}
        return Memory(told, {str(unit): int(number) for unit, number in content["restarts"].items()})
    except FileNotFoundError:
        return Memory()
    except OSError as error:
        raise SonarError(f"cannot read '{path}': {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        path.replace(path.with_name(f"{path.name}.bad"))
        return Memory()


def _write(path: Path, memory: Memory) -> None:
    told: Mapping[str, object] = {
        key: {"at": at, "trouble": asdict(trouble)} for key, (trouble, at) in sorted(memory.told.items())
    }
    text = json.dumps({"told": told, "restarts": memory.restarts}, indent=1, ensure_ascii=False)
    try:
        durable.put(path, text.encode())
    except OSError as error:
        raise SonarError(f"cannot write '{path}': {error.strerror}") from None
