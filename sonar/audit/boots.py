"""When a host was booted, as its own samples tell: a look into the files of the log, at one instant.

Envelopes have it as `system.boot`; tagged CSV has it since 0.13 as `epoch`, the seconds from 2020 to boot, in records
that belong to no batch job.
"""

import re
from functools import lru_cache
from pathlib import Path

import orjson

from sonar.names import ClusterName
from sonar.times import DAY, day_of, parse_instant

__all__ = ["Boots"]

EPOCH_START = 1577836800  # 2020-01-01T00:00:00Z

_LARGEST_FILE = 256 << 20
_TIME = re.compile(rb"(?:^|,)time=([^,\n]+)")
_EPOCH = re.compile(rb",epoch=([1-9][0-9]{0,9})(?=[,\n]|\Z)")


class Boots:
    """The boot times in the samples of a cluster; `root` is the data root."""

    def __init__(self, root: Path, cluster: ClusterName) -> None:
        self._root = root / cluster
        self._of_file = lru_cache(64)(_boots_in)

    def after(self, host: str, instant: int) -> int | None:
        """Return when a host was booted, by its sample of that instant; None if that does not tell."""
        for days in (0, -1, 1):  # CSV may lie in the directory of the local day
            day = day_of(instant + days * DAY)
            directory = self._root / f"{day:%Y/%m/%d}"
            for name in (f"0+sample-{host}.json", f"{host}.csv"):
                found = self._of_file(directory / name).get(instant)
                if found is not None:
                    return found
        return None


def _boots_in(path: Path) -> dict[int, int]:
    """Return the boot time by the time of the sample; of a file that cannot be read, nothing."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE)
    except OSError:
        return {}
    if path.suffix == ".json":
        return dict(filter(None, map(_boot_of_envelope, content.splitlines())))
    return dict(filter(None, map(_boot_of_record, content.splitlines())))


def _boot_of_envelope(line: bytes) -> tuple[int, int] | None:
    try:
        attributes = orjson.loads(line)["data"]["attributes"]
        time, boot = parse_instant(attributes["time"]), parse_instant(attributes["system"]["boot"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return (time, boot) if time is not None and boot is not None else None


def _boot_of_record(line: bytes) -> tuple[int, int] | None:
    time, epoch = _TIME.search(line), _EPOCH.search(line)
    if not time or not epoch:
        return None
    instant = parse_instant(time[1].decode("ascii", "replace"))
    return (instant, int(epoch[1]) + EPOCH_START) if instant is not None else None
