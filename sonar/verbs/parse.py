"""The verb parse: the samples themselves, as read, cleaned or merged."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

from sonar.errors import UsageError
from sonar.verbs.declare import Field, Kind, Option, OptionType, Privacy, Result, Verb

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pyarrow as pa

    from sonar.analysis.samples import Samples
    from sonar.render.formats import Format
    from sonar.verbs.query import Query

__all__ = ["MERGE_OPTIONS", "VERB"]

_MERGED_VERSION = "0.0.0"


def run(query: "Query") -> Result:
    """Return the samples in reading order, or with an option the streams, a block each."""
    options = query.options
    if options["merge-by-job"] or options["merge-by-host-and-job"] or options["clean"]:
        return _streams(query)
    import pyarrow as pa

    from sonar.analysis.samples import samples_of
    from sonar.read.rows import empty_table

    tables = [_as_read(samples_of(table), query) for table in (empty_table(), *query.scan.tables())]
    return Result(pa.concat_tables(tables))


def _as_read(samples: "Samples", query: "Query") -> "pa.Table":
    """Return the samples that the question is about as a result table; they have no utilization."""
    import numpy as np

    from sonar.analysis.streams import selected

    return _rows(selected(samples.with_columns(util=np.zeros(len(samples))), query.filter, query.window))


def _streams(query: "Query") -> Result:
    """Return the cleaned or merged streams, sorted by host, first instant, job, command and process."""
    import numpy as np
    import pyarrow as pa

    from sonar.analysis.samples import concatenated, dense, samples_of
    from sonar.analysis.streams import clean_streams, selected
    from sonar.read.rows import empty_table

    parts = [
        selected(clean_streams(samples_of(table)), query.filter, query.window) for _, table in query.scan.by_host()
    ]
    blocks = []
    if parts:
        rows = concatenated(parts)
        rows = rows.with_columns(stream=dense(rows["host"], rows["stream"]))
        rows = rows.take(np.lexsort((rows["time"], rows["stream"])))
        # Of several options --clean counts, then --merge-by-job.
        grouped = (rows["job"] != 0) & (not query.options["clean"])
        blocks = _one_by_one(rows.take(~grouped))
        blocks += _merged(rows.take(grouped), by_host=not query.options["merge-by-job"])
    blocks.sort(key=_order_of_stream)
    last = query.options["last"]
    newest, places, at = [], [], 0
    for block in blocks:
        newest.append(block.slice(max(len(block) - last, 0)) if last else block)
        places.append(("", at, len(newest[-1])))
        at += len(newest[-1])
    return Result(pa.concat_tables([_as_read(samples_of(empty_table()), query), *newest]), tuple(places))


def _order_of_stream(block: "pa.Table") -> tuple[Any, ...]:
    """Return what streams are sorted by, from the first sample of one."""
    return tuple(block.column(name)[0].as_py() for name in ("host", "time", "job", "cmd", "pid"))


def _one_by_one(rows: "Samples") -> "list[pa.Table]":
    """Return a table for each stream."""
    import numpy as np

    stream = rows["stream"]
    starts = np.flatnonzero(np.append(True, stream[1:] != stream[:-1]))
    return [_rows(rows.take(part)) for part in np.split(np.arange(len(rows)), starts[1:]) if len(part)]


def _merged(rows: "Samples", *, by_host: bool) -> "list[pa.Table]":
    """Return a table for each job, its streams merged."""
    import numpy as np
    import pyarrow as pa

    from sonar.analysis.merge import merged
    from sonar.analysis.samples import dense
    from sonar.hosts import compress

    if len(rows) == 0:
        return []
    group = dense(rows["host"], rows["job"]) if by_host else dense(rows["job"])
    steps = merged(rows, group, exact=True)
    tables = []
    for number in range(int(group.max()) + 1):
        members = rows.take(group == number)
        at = np.flatnonzero(steps.group == number)
        names = {column: sorted(set(members.texts(column)), key=str.encode) for column in ("host", "cmd", "user")}
        zero = np.zeros(len(at), np.int64)
        table = {
            "version": [_MERGED_VERSION] * len(at),
            "time": steps.time[at],
            "host": [compress(names["host"])] * len(at),
            "cores": zero,
            "user": [",".join(names["user"])] * len(at),
            "job": zero + members["job"][0],
            "pid": zero,
            "ppid": zero,
            "epoch": pa.nulls(len(at), pa.int64()),
            "cmd": [",".join(names["cmd"])] * len(at),
            **_quantities({name: steps[name][at] for name in (*_SUMS, "gpus", "gpufail", "rolledup")}),
            **{name: pa.nulls(len(at), pa.float64()) for name in _COUNTERS},
            "in_container": pa.nulls(len(at), pa.bool_()),
        }
        tables.append(pa.table(table))
    return tables


def _rows(samples: "Samples") -> "pa.Table":
    """Return samples as a result table."""
    import pyarrow as pa

    from sonar.analysis.samples import NO_EPOCH

    texts = {name: pa.array(samples.texts(name), pa.string()) for name in ("version", "host", "user", "cmd")}
    whole = {name: samples[name] for name in ("time", "cores", "job", "pid", "ppid")}
    epoch = pa.array(samples["epoch"], mask=samples["epoch"] == NO_EPOCH)
    quantities = _quantities({name: samples[name] for name in (*_SUMS, "gpus", "gpufail", "rolledup")})
    order = ("version", "time", "host", "cores", "user", "job", "pid", "ppid", "epoch", "cmd")
    counters = {name: samples[name] for name in (*_COUNTERS, "in_container")}
    return pa.table({name: (texts | whole | {"epoch": epoch})[name] for name in order} | quantities | counters)


_SUMS = ("cpu_pct", "cpu_kib", "rss_kib", "gpu_pct", "gpumem_pct", "gpu_kib", "cputime_s", "threads", "util")
# What is told of a process only: there are no sums of it.
_COUNTERS = ("cpu_sampled_pct", "read_kib", "written_kib", "cancelled_kib")


def _quantities(columns: "dict[str, np.ndarray]") -> "dict[str, np.ndarray]":
    """Return the measured columns of the result table."""
    import numpy as np

    from sonar.analysis.streams import KIB_PER_GB

    floats = {name: columns[name].astype(float) for name in _SUMS}
    return {
        **floats,
        "mem_gb": floats["cpu_kib"] / KIB_PER_GB,
        "res_gb": floats["rss_kib"] / KIB_PER_GB,
        "gpumem_gb": floats["gpu_kib"] / KIB_PER_GB,
        "gpus": columns["gpus"],
        "gpufail": columns["gpufail"].astype(np.int64),
        "rolledup": columns["rolledup"],
    }


def write(result: Result, fmt: "Format", out: TextIO) -> None:
    """Write the samples; streams each under a line `*`, or in JSON an array a line."""
    from sonar.render.formats import Style, block_texts, write_rows

    if fmt.style is Style.CSVNAMED and "roundtrip" in fmt.aliases:
        fmt = replace(fmt, fields=(*fmt.fields, *_OF_NEWER_SAMPLERS))
    if result.blocks is None:
        write_rows(result.rows, fmt, out)
        return
    spans = [(start, length) for _title, start, length in result.blocks]
    for text in block_texts(result.rows, spans, fmt):
        out.write(f"{text}\n" if fmt.is_json else f"*\n{text}")


# What reading again needs besides the fields of `roundtrip`, printed only where a sampler sent it.
_OF_NEWER_SAMPLERS = (
    Field("ppid", Kind.INT, "", default="0", sparse=True),
    Field("epoch", Kind.INT, "", default="", sparse=True),
    Field("rssanonkib", Kind.ROUND, "", "rss_kib", default="0", sparse=True),
)


def check(options: "Mapping[str, Any]") -> None:
    """Refuse options that do not go together."""
    if options["last"] and not any(options[option.name] for option in MERGE_OPTIONS):
        raise UsageError("--last needs --clean, --merge-by-job or --merge-by-host-and-job")


MERGE_OPTIONS = (
    Option("merge-by-host-and-job", "the processes of each job on each host merged", OptionType.FLAG),
    Option("merge-by-job", "the processes of each job merged, over all hosts", OptionType.FLAG),
    Option("clean", "the samples of each process, cleaned, with utilization", OptionType.FLAG),
)

VERB = Verb(
    name="parse",
    summary="Print the samples themselves, as read, cleaned or merged",
    options=(
        *MERGE_OPTIONS,
        Option("last", "only the newest N samples of each stream", OptionType.UINT, default=0, metavar="N"),
    ),
    fields=(
        Field("version", Kind.TEXT, "version of the sampler"),
        Field("v", Kind.TEXT, "the same", "version"),
        Field("localtime", Kind.MINUTE, "time, UTC despite the name", "time"),
        Field("time", Kind.ISO, "time, UTC"),
        Field("host", Kind.TEXT, "host, or hosts"),
        Field("cores", Kind.INT, "cores of the host"),
        Field("user", Kind.TEXT, "user"),
        Field("job", Kind.INT, "job number; 0: no job"),
        Field("pid", Kind.INT, "process number", default="0"),
        Field("ppid", Kind.INT, "process number of the parent", default="0"),
        Field("epoch", Kind.INT, "0: a job number of the batch system; else tells the boot of the host", default=""),
        Field("cmd", Kind.TEXT, "command"),
        Field("cpu_pct", Kind.FLOAT, "mean CPU utilization since the process began", unit="% of a core"),
        Field("cpu%", Kind.FLOAT, "the same", "cpu_pct", "% of a core"),
        Field("mem_gb", Kind.ROUND, "virtual memory", unit="GB"),
        Field("cpukib", Kind.ROUND, "virtual memory", "cpu_kib", "KiB"),
        Field("res_gb", Kind.ROUND, "resident memory", unit="GB", default="0"),
        Field("rssanonkib", Kind.ROUND, "resident memory", "rss_kib", "KiB", "0"),
        Field("gpus", Kind.GPUS, "GPUs in use", default="none"),
        Field("gpu_pct", Kind.FLOAT, "GPU utilization, summed over cards", unit="% of a card", default="0"),
        Field("gpu%", Kind.FLOAT, "the same", "gpu_pct", "% of a card", "0"),
        Field("gpumem_pct", Kind.FLOAT, "GPU memory, summed over cards", unit="% of a card", default="0"),
        Field("gpumem%", Kind.FLOAT, "the same", "gpumem_pct", "% of a card", "0"),
        Field("gpumem_gb", Kind.ROUND, "GPU memory", unit="GB", default="0"),
        Field("gpukib", Kind.ROUND, "GPU memory", "gpu_kib", "KiB", "0"),
        Field("gpu_status", Kind.INT, "1 if a GPU has failed", "gpufail", default="0"),
        Field("gpufail", Kind.INT, "the same", default="0"),
        Field("cputime_sec", Kind.FLOAT, "CPU time used", "cputime_s", "s", "0"),
        Field("rolledup", Kind.INT, "number of other processes in the record", default="0"),
        Field("threads", Kind.INT, "number of threads; 0: not known", default="0"),
        Field("cpu_util_sampled", Kind.FLOAT, "CPU utilization at the sample, as the sampler saw it", "cpu_sampled_pct",
              "% of a core", "0"),
        Field("read", Kind.ROUND, "what the process has read", "read_kib", "KiB", "0"),
        Field("written", Kind.ROUND, "what the process has written", "written_kib", "KiB", "0"),
        Field("cancelled", Kind.ROUND, "what it has written and removed again before it got to a disk", "cancelled_kib",
              "KiB", "0"),
        Field("contained", Kind.BOOL, "whether the process runs in a container", "in_container", default="no"),
        Field("cpu_util_pct", Kind.FLOAT, "CPU utilization since the last sample", "util", "% of a core", "0"),
    ),
    aliases={
        "all": (
            "version", "localtime", "host", "cores", "user", "pid", "job", "cmd", "cpu_pct", "mem_gb", "gpus",
            "gpu_pct", "gpumem_pct", "gpumem_gb", "gpu_status", "cputime_sec", "rolledup", "cpu_util_pct",
        ),
        "roundtrip": (
            "v", "time", "host", "cores", "user", "job", "pid", "cmd", "cpu%", "cpukib", "gpus", "gpu%", "gpumem%",
            "gpukib", "gpufail", "cputime_sec", "rolledup",
        ),
    },
    default_fields="job,user,cmd",
    run=run,
    privacy=Privacy.OWNED,
    default_format="csv",
    everyone=True,
    check=check,
    write=write,
    controls={"separator": "a line `*` before each stream, as there is in any case but in JSON"},
)  # fmt: skip
