"""Scripts, styles and pictures of the pages: read once, compressed once, kept by browsers until they change.

They are no secret and need no password. Only names that were there at the start are served, so no name leads astray.
"""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Asset", "address_of", "assets"]

_DIRECTORY = Path(__file__).parent / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    content: bytes
    gzipped: bytes
    media_type: str
    tag: str


@cache
def assets() -> dict[str, Asset]:
    """Return the files by their names below `/static/`."""
    found = {}
    for path in sorted(_DIRECTORY.rglob("*")):
        if path.is_file():
            found[path.relative_to(_DIRECTORY).as_posix()] = asset_of(path)
    return found


def asset_of(path: Path) -> Asset:
    """Read a file."""
    content = path.read_bytes()
    media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if media_type.startswith("text/") or media_type.endswith(("+xml", "json")):
        media_type += "; charset=utf-8"
    tag = hashlib.blake2b(content, digest_size=9).hexdigest()
    return Asset(content, gzip.compress(content, 9, mtime=0), media_type, tag)


def address_of(name: str) -> str:
    """Return the address of a file, which changes when the file does."""
    return f"/static/{name}?v={assets()[name].tag}"
