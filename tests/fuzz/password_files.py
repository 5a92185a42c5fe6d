"""Password files and identity files: refused in one line, or what was read can be written and read again."""

import tempfile
from pathlib import Path

from sonar.errors import SonarError
from sonar.node.identity import parse_identity
from sonar.serve.passwords import Hash, PasswordFile, line_of, read_entries

__all__ = ["check"]

_SCRATCH = tempfile.NamedTemporaryFile(prefix="passwords-")  # noqa: SIM115 -- as long as the process


def check(data: bytes) -> None:
    """Read a file of either kind."""
    path = Path(_SCRATCH.name)
    path.write_bytes(data)
    if identity := parse_identity(data.decode(errors="replace")):
        assert parse_identity(f"{identity.user}:{identity.password}") == identity
    try:
        entries = read_entries(path)
    except SonarError as error:
        assert "\n" not in str(error)
        return
    path.write_text("".join(line_of(entry.identity, entry.secret) + "\n" for entry in entries))
    assert read_entries(path) == entries
    file = PasswordFile.read(path)
    for entry in entries:
        file.put(entry.identity, Hash(4, 8, 1, b"0" * 16, b"1" * 32))
        file.remove(entry.identity.name)
    assert file.entries() == []
