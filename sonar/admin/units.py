"""What the service manager says about our units, by `systemctl show`."""

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sonar.errors import SonarError, UsageError

__all__ = ["Unit", "check_name", "show", "systemctl", "take_into_use"]

_PROPERTIES = (
    "Id", "Description", "LoadState", "ActiveState", "SubState", "Result", "NRestarts", "UnitFileState", "StatusText",
    "MemoryCurrent", "ActiveEnterTimestampMonotonic", "NextElapseUSecRealtime", "LastTriggerUSec", "ListenStream",
    "Listen",
)  # fmt: skip
_TIMEOUT_S = 20
_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]{1,250}\.[a-z]+", re.ASCII)  # systemd.unit(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """The state of a unit, in systemd's words. `active_s` is for how long it has been active."""

    name: str
    description: str = ""
    load: str = ""
    active: str = ""
    sub: str = ""
    result: str = ""
    file_state: str = ""
    status: str = ""
    restarts: int = 0
    memory: int | None = None
    active_s: float | None = None
    next_run: str = ""
    last_run: str = ""
    listens: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the unit is in the state that systemd calls failed."""
        return self.active == "failed"


def show(patterns: Sequence[str] = ("sonar-*", "sonar.*")) -> list[Unit]:
    """Return the loaded units that match, sorted by name; raise SonarError if the service manager does not answer."""
    text = systemctl("show", "--all", f"--property={','.join(_PROPERTIES)}", "--", *patterns)
    return sorted(_units(text), key=lambda unit: unit.name)


def check_name(text: str) -> str:
    """Return the name of a unit, of a service without its suffix too; raise UsageError if it cannot be one."""
    text = text if "." in text else f"{text}.service"
    if not _NAME.fullmatch(text):
        raise UsageError(f"{text[:80]!r} is no name of a unit such as sonar-check.service")
    return text


def systemctl(*argv: str) -> str:
    """Run systemctl and return what it prints; raise SonarError with its last words if it fails."""
    try:
        done = subprocess.run(
            ["systemctl", "--no-pager", *argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S if argv[0] == "show" else None,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise SonarError("systemctl is not here: this machine does not run systemd") from None
    except subprocess.TimeoutExpired:
        raise SonarError(f"the service manager does not answer within {_TIMEOUT_S} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise SonarError(f"systemctl {argv[0]}: {last}")
    return done.stdout


def take_into_use(service: str) -> None:
    """Have a service of the server take what has changed into use, without a restart; raise SonarError if it cannot.

    What waited for its first password is started, if the server is.
    """
    systemctl("try-reload-or-restart", service)
    if any(unit.active == "active" for unit in show(["sonar.target"])):
        systemctl("start", "sonar.target")


def _units(text: str) -> Iterator[Unit]:
    for block in text.split("\n\n"):
        values: dict[str, str] = {}
        listens = []
        for line in block.splitlines():
            key, _, value = line.partition("=")
            if key == "Listen":
                listens.append(value.partition(" (")[0])
            values[key] = value
        if values.get("Id") and values.get("LoadState") not in {"", "not-found"}:
            yield Unit(
                name=values["Id"],
                description=values.get("Description", ""),
                load=values.get("LoadState", ""),
                active=values.get("ActiveState", ""),
                sub=values.get("SubState", ""),
                result=values.get("Result", ""),
                file_state=values.get("UnitFileState", ""),
                status=values.get("StatusText", ""),
                restarts=_number(values.get("NRestarts")) or 0,
                memory=_number(values.get("MemoryCurrent")),
                active_s=_age(values),
                next_run=values.get("NextElapseUSecRealtime", ""),
                last_run=values.get("LastTriggerUSec", ""),
                listens=tuple(listens),
            )


def _number(text: str | None) -> int | None:
    # systemd prints what it does not know as 2^64-1 or in words.
    return int(text) if text and text.isdigit() and int(text) < 1 << 63 else None


def _age(values: dict[str, str]) -> float | None:
    since = _number(values.get("ActiveEnterTimestampMonotonic"))
    return time.monotonic() - since / 1e6 if since and values.get("ActiveState") == "active" else None
