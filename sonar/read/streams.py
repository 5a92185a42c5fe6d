"""The table of streams in a file of columns: the key of each, in the order of the rows, and how many rows it has.

It lies between the rows and the footer, as a stream of Arrow, and the metadata say where. Whoever goes through many
hosts has from it, in a fiftieth of the numbers, what the rows say again and again. Hosts of which a stream has two
rows of the same instant are not in it.
"""

import json
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from sonar.analysis.exact import ranges
from sonar.analysis.rows import are_in_order, streams_of
from sonar.analysis.samples import Samples, Streams

__all__ = ["StreamsWriter", "streams_in"]

_ABOUT = b"sonar"
_CODED = ("user", "cmd")
_STORED = {"job": "int64", "epoch": "int64", "user": "int32", "cmd": "int32", "group": "uint8", "which": "int64"}


class StreamsWriter:
    """The table in the making, while the rows of some hosts after the other come by."""

    def __init__(self) -> None:
        self._parts: list[tuple[Streams, dict[str, list[str]]]] = []
        self._hosts: dict[str, int] = {}

    def add(self, samples: Samples) -> None:
        """Add the streams of some hosts, whose rows are sorted by host, stream and time."""
        streams = streams_of(samples)
        if are_in_order(streams, samples["time"]):
            hosts = samples.words["host"]
            self._parts.append((streams, samples.words))
            self._hosts |= dict(zip(hosts, np.bincount(streams["host"], minlength=len(hosts)).tolist(), strict=True))

    def encoded(self) -> bytes:
        """Return the table as it is written."""
        import pyarrow as pa

        words = {
            name: sorted({word for _, of_part in self._parts for word in of_part[name]}, key=str.encode)
            for name in _CODED
        }
        codes = {name: {word: code for code, word in enumerate(known)} for name, known in words.items()}
        columns: dict[str, list[np.ndarray]] = {name: [np.zeros(0, kind)] for name, kind in _STORED.items()}
        for streams, of_part in self._parts:
            for name, found in columns.items():
                values = streams[name]
                if name in _CODED:
                    values = np.array([codes[name][word] for word in of_part[name]] or [0])[values]
                found.append(values.astype(_STORED[name]))
        length = np.concatenate(
            [np.zeros(0, np.int32), *(streams.length.astype(np.int32) for streams, _ in self._parts)]
        )
        table = pa.table({name: np.concatenate(found) for name, found in columns.items()} | {"length": length})
        table = table.replace_schema_metadata({_ABOUT: json.dumps({"hosts": self._hosts, "words": words})})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table)
        return sink.getvalue().to_pybytes()


def streams_in(content: Any, hosts: Sequence[str]) -> tuple[Streams, dict[str, list[str]]] | None:
    """Return the streams of some hosts, in their order, and the words of users and commands; None if it lacks one."""
    import pyarrow as pa

    with pa.ipc.open_stream(content) as reader:
        table = reader.read_all().combine_chunks()
    about = json.loads((table.schema.metadata or {})[_ABOUT])
    numbers: dict[str, int] = about["hosts"]
    if not all(host in numbers for host in hosts):
        return None
    before = dict(zip(numbers, accumulate(numbers.values(), initial=0), strict=False))
    number = np.array([numbers[host] for host in hosts], np.int64)
    at = ranges(np.array([before[host] for host in hosts], np.int64), number)
    keys = {"host": np.repeat(np.arange(len(hosts)), number)}
    keys |= {name: table.column(name).to_numpy().take(at) for name in _STORED}
    keys["group"] = keys["group"].astype(bool)
    return Streams(keys, table.column("length").to_numpy().take(at).astype(np.int64)), about["words"]
