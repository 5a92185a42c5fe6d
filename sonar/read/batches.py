"""Files of Arrow record batches of which some are read: streams of Arrow, whose schema says how long each batch is.

pyarrow's own files with a footer are opened by other threads, which takes ten times as long as all else that is read.
What pyarrow reads of a stream it believes, and a byte that a disk has changed would end the process: so the schema has
checksums (CRC-32) of the batches and of itself, and nothing is decoded before they fit.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from sonar.places import publishing, telling

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BatchFile", "opened_batches", "write_batches"]

_BATCHES_KEY = b"sonar-batches"  # length and checksum of each
_SEAL_KEY = b"sonar-seal"  # checksum of all else in the schema
_PREFIX = 8  # bytes before the schema, of which the last four are its length


@dataclass(frozen=True, slots=True)
class BatchFile:
    """An open file of batches, and what its metadata say."""

    metadata: Mapping[bytes, bytes]
    _file: BinaryIO
    _schema: bytes

    def table(self, numbers: Sequence[int]) -> "pa.Table":
        """Return the rows of some batches. Raise OSError or ValueError if they are damaged."""
        import pyarrow as pa

        batches = json.loads(self.metadata[_BATCHES_KEY])
        parts = [self._schema]
        for number in numbers:
            size, checksum = batches[number]
            self._file.seek(len(self._schema) + sum(before for before, _ in batches[:number]))
            parts.append(self._file.read(size))
            if zlib.crc32(parts[-1]) != checksum:
                raise ValueError("damaged batch")
        options = pa.ipc.IpcReadOptions(use_threads=False)
        with pa.ipc.open_stream(pa.py_buffer(b"".join(parts)), options=options) as stream:
            return stream.read_all()


@contextmanager
def opened_batches(path: Path) -> Iterator[BatchFile]:
    """Give a file of batches. Raise OSError or ValueError for what is none, or is damaged."""
    import pyarrow as pa

    with telling(path), path.open("rb") as file:
        prefix = file.read(_PREFIX)
        text = prefix + file.read(max(int.from_bytes(prefix[4:], "little", signed=True), 0))
        try:
            schema = pa.ipc.read_schema(pa.py_buffer(text))
        except pa.ArrowException as error:
            raise ValueError("damaged schema") from error
        metadata = dict(schema.metadata or {})
        if metadata.pop(_SEAL_KEY, b"") != _seal(schema, metadata):
            raise ValueError("damaged schema")
        yield BatchFile(metadata, file, text)


def write_batches(path: Path, table: "pa.Table", lengths: Sequence[int], metadata: Mapping[bytes, bytes | str]) -> None:
    """Write the rows of a table as batches of these lengths. Raise OSError if that cannot be done."""
    import pyarrow as pa

    made = pa.BufferOutputStream()
    with pa.ipc.new_stream(made, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as stream:
        at = 0
        for length in lengths:
            stream.write_table(table.slice(at, length))
            at += length
    content = made.getvalue()
    reader: Any = pa.BufferReader(content)
    pa.ipc.read_message(reader)  # the schema, which does not say yet what follows
    begin = reader.tell()
    batches = []
    for _ in lengths:
        before = reader.tell()
        pa.ipc.read_message(reader)
        size = reader.tell() - before
        batches.append((size, zlib.crc32(content.slice(before, size))))
    told = {key: text.encode() if isinstance(text, str) else text for key, text in metadata.items()}
    told[_BATCHES_KEY] = json.dumps(batches).encode()
    told[_SEAL_KEY] = _seal(table.schema, told)
    with publishing(path) as scratch, scratch.open("wb") as file:
        file.write(table.schema.with_metadata(cast("dict[Any, Any]", told)).serialize())
        file.write(content.slice(begin))


def _seal(schema: "pa.Schema", metadata: Mapping[bytes, bytes]) -> bytes:
    """Return the checksum of names, types and metadata."""
    checksum = zlib.crc32(str(schema.remove_metadata()).encode())
    for key in sorted(metadata):
        checksum = zlib.crc32(b"%d %d " % (len(key), len(metadata[key])) + key + metadata[key], checksum)
    return b"%08x" % checksum
