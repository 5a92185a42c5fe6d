"""Where a configuration file and its drop-ins are, and in which order they count, as systemd has it.

A file NAME.conf is taken from the first of these directories that has it: /etc/sonar, /run/sonar, and that of the
vendor below /usr. After it come the drop-ins NAME.conf.d/*.conf of all three, sorted by their names whatever the
directory; of the same name only the first directory's is read. One that is empty or a link to /dev/null masks it.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from sonar.paths import CONFIG, VENDOR

__all__ = ["directories", "files_of"]


def directories() -> list[Path]:
    """Return the directories of configuration, the strongest first."""
    return [CONFIG, Path("/run/sonar"), VENDOR]


def files_of(name: str, where: Sequence[Path]) -> list[Path]:
    """Return the files that make up `name`, the weakest first; later assignments win."""
    main = next((path / name for path in where if os.path.lexists(path / name)), None)
    found = [main] if main is not None and not _masked(main) else []
    drop_ins: dict[str, Path] = {}
    for directory in where:
        try:
            entries = sorted((directory / f"{name}.d").iterdir())
        except OSError:
            continue
        for path in entries:
            if path.suffix == ".conf" and not path.name.startswith("."):
                drop_ins.setdefault(path.name, path)
    return found + [drop_ins[key] for key in sorted(drop_ins) if not _masked(drop_ins[key])]


def _masked(path: Path) -> bool:
    """Whether a file says by being empty, or no file, that there is none; one that cannot be looked at is not."""
    try:
        return path.stat().st_size == 0 or not path.is_file()
    except OSError:
        return False
