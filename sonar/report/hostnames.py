"""The report hostnames: the hosts that have report files, as pages of old ask for them."""

import json
import re
from pathlib import Path

from sonar.errors import SonarError, UsageError
from sonar.report.declare import Call, Report
from sonar.verbs.declare import Option, OptionType

__all__ = ["REPORT", "hosts_with_files"]

_HOSTNAME = re.compile(rb'"hostname": ?"([^"]*)"')
_FILE = re.compile(r"(.+)-(?:minutely|daily|weekly|monthly|quarterly)\.json")


def hosts_with_files(directory: Path) -> list[str]:
    """Return the hosts that files HOST-daily.json and the like are about, in byte order; files of groups are left out.

    A file is a group's if its own member `hostname` is not what it is named after.
    """
    try:
        names = [entry.name for entry in directory.iterdir() if entry.is_file() and not entry.is_symlink()]
    except OSError as error:
        raise SonarError(f"{error.strerror}: '{directory}'") from None
    matches = (_FILE.fullmatch(name) for name in names)
    found = {match[1] for match in matches if match and not _is_of_group(directory / match[0], match[1])}
    return sorted(found, key=str.encode)


def _is_of_group(path: Path, host: str) -> bool:
    try:
        with path.open("rb") as file:
            match = _HOSTNAME.search(file.read(4096))
    except FileNotFoundError:  # it may be replaced or removed meanwhile
        return False
    return match is not None and match[1] != host.encode()


def _run(call: Call) -> None:
    directory = call.path("report-dir")
    if directory is None:
        raise UsageError("No report directory specified: give --report-dir")
    call.out.write(json.dumps(hosts_with_files(directory), ensure_ascii=False, separators=(",", ":")) + "\n")


REPORT = Report(
    "hostnames",
    "Print the hosts that have report files",
    (Option("report-dir", "where the report files are; also as a bare word", OptionType.PATH, metavar="DIR"),),
    _run,
    takes_files=False,
    positional="report-dir",
)
