"""Files of Arrow record batches of which some are read: streams of Arrow, whose schema says how long each batch is.

pyarrow's own files with a footer are opened by other threads, which takes ten times as long as all else that is read.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from sonar.places import publishing, telling

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BatchFile", "opened_batches", "write_batches"]

_SIZES_KEY = b"sonar-batches"
_PREFIX = 8  # bytes before the schema, of which the last four are its length


@dataclass(frozen=True, slots=True)
class BatchFile:
    """An open file of batches, and what its metadata say."""

    metadata: Mapping[bytes, bytes]
    _file: BinaryIO
    _schema: bytes

    def table(self, numbers: Sequence[int]) -> "pa.Table":
        """Return the rows of some batches. Raise OSError, ValueError or LookupError if they are damaged."""
        import pyarrow as pa

        sizes = json.loads(self.metadata[_SIZES_KEY])
        parts = [self._schema]
        for number in numbers:
            self._file.seek(len(self._schema) + sum(sizes[:number]))
            parts.append(self._file.read(sizes[number]))
        options = pa.ipc.IpcReadOptions(use_threads=False)
        with pa.ipc.open_stream(pa.py_buffer(b"".join(parts)), options=options) as stream:
            return stream.read_all()


@contextmanager
def opened_batches(path: Path) -> Iterator[BatchFile]:
    """Give a file of batches. Raise OSError or ValueError for what is none."""
    import pyarrow as pa

    with telling(path), path.open("rb") as file:
        prefix = file.read(_PREFIX)
        text = prefix + file.read(max(int.from_bytes(prefix[4:], "little", signed=True), 0))
        yield BatchFile(pa.ipc.read_schema(pa.py_buffer(text)).metadata or {}, file, text)


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
    sizes = []
    for _ in lengths:
        before = reader.tell()
        pa.ipc.read_message(reader)
        sizes.append(reader.tell() - before)
    told: dict[Any, Any] = {**metadata, _SIZES_KEY: json.dumps(sizes)}
    with publishing(path) as scratch, scratch.open("wb") as file:
        file.write(table.schema.with_metadata(told).serialize())
        file.write(content.slice(begin))
