"""Bodies that were sent with `Content-Encoding: gzip`, inflated to a bounded size."""

import zlib

from sonar.ingest.post import Refusal

__all__ = ["inflate", "is_deflated"]

_GZIP = 16 + zlib.MAX_WBITS


def is_deflated(encoding: bytes | None) -> bool:
    """Return whether a header means gzip; raise Refusal if it means what nobody here can undo."""
    name = (encoding or b"").strip().lower()
    if name in {b"", b"identity"}:
        return False
    if name in {b"gzip", b"x-gzip"}:
        return True
    raise Refusal(415, "Bad content-encoding")


def inflate(body: bytes, limit: int) -> bytes:
    """Return what a gzip body of one or more members holds; raise Refusal if it is over `limit` bytes, or broken."""
    parts: list[bytes] = []
    room = limit
    while body:
        member = zlib.decompressobj(_GZIP)
        try:
            part = member.decompress(body, room + 1)
        except zlib.error:
            raise Refusal(400, "Bad content - not gzip") from None
        if len(part) > room:
            raise Refusal(413, f"body over {limit} bytes")
        if not member.eof:
            raise Refusal(400, "Bad content - gzip breaks off")
        parts.append(part)
        room -= len(part)
        body = member.unused_data
    return b"".join(parts)
