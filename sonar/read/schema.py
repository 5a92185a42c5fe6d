"""The table of samples: the one schema that every reader gives and every analysis takes.

One row is one process (or one group of rolled-up processes) in one run of the sampler on one host. Where a format
lacks a value the column holds the default given here, so analysis sees no nulls, except in `epoch`.
KiB are 1024 bytes; percentages are of one core or one card; all counters are from the start of the process.
Numbers that may be fractional or huge in old files are float64, exact for whole numbers below 2**53.

| column          | unit | meaning (default)                                                                     |
|-----------------|------|---------------------------------------------------------------------------------------|
| time            | s    | instant of the sample, UTC, floored to the second                                      |
| version         |      | version of the sampler; `0.6.0` for untagged records                                   |
| host            |      | host name as the node gives it                                                         |
| cores           |      | logical cores of the host, informative (0 = unknown)                                   |
| user            |      | account, `_zombie_<pid>`, `_noinfo_…`; `_sonar_` for a heartbeat                       |
| job             |      | job number; 0 = no job                                                                 |
| epoch           | s    | 0: job number of a batch system, unique in the cluster; else the host's boot since      |
|                 |      | 2020-01-01: job number local to the host; null: not known                              |
| pid, ppid       |      | process and parent (0)                                                                 |
| cmd             |      | command; `_heartbeat_` for a heartbeat                                                 |
| cpu_pct         | %    | mean since the process began (0)                                                       |
| cpu_sampled_pct | %    | current utilization as the sampler saw it, printed only (0)                            |
| cpu_kib         | KiB  | virtual data and stack: `mem` in reports (0)                                           |
| rss_kib         | KiB  | private resident memory (0 = no data)                                                  |
| gpus            |      | bit i: card i in use, 0..62; bit 63: cards in use, but not known which; 0: none         |
| gpu_pct         | %    | summed over cards (0)                                                                  |
| gpumem_pct      | %    | summed over cards (0)                                                                  |
| gpu_kib         | KiB  | GPU memory, summed over cards (0)                                                      |
| gpufail         |      | 1 if a card of the process, or of the record, has failed (0)                           |
| cputime_s       | s    | CPU time used (0)                                                                      |
| rolledup        |      | number of *other* processes in the record (0)                                          |
| threads         |      | number of threads (0 = no data)                                                        |
| read_kib, written_kib, cancelled_kib | KiB | I/O (0)                                                           |
| in_container    |      | whether the process runs in a container (false)                                        |
"""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["COLUMNS", "FLOAT_COLUMNS", "HEARTBEAT_COMMAND", "HEARTBEAT_USER", "TEXT_COLUMNS", "sample_schema"]

HEARTBEAT_COMMAND = "_heartbeat_"
HEARTBEAT_USER = "_sonar_"

TEXT_COLUMNS = ("version", "host", "user", "cmd")
_WHOLE = ("time", "cores", "job", "epoch", "pid", "ppid", "rolledup", "threads")
FLOAT_COLUMNS = (
    "cpu_pct",
    "cpu_sampled_pct",
    "cpu_kib",
    "rss_kib",
    "gpu_pct",
    "gpumem_pct",
    "gpu_kib",
    "cputime_s",
    "read_kib",
    "written_kib",
    "cancelled_kib",
)

COLUMNS = (
    "time", "version", "host", "cores", "user", "job", "epoch", "pid", "ppid", "cmd",
    "cpu_pct", "cpu_sampled_pct", "cpu_kib", "rss_kib", "gpus", "gpu_pct", "gpumem_pct", "gpu_kib", "gpufail",
    "cputime_s", "rolledup", "threads", "read_kib", "written_kib", "cancelled_kib", "in_container",
)  # fmt: skip


@cache
def sample_schema() -> "pa.Schema":
    """Return the Arrow schema of a table of samples: COLUMNS in order, only `epoch` nullable."""
    import pyarrow as pa

    def type_of(column: str) -> "pa.DataType":
        if column in TEXT_COLUMNS:
            return pa.dictionary(pa.int32(), pa.string())
        if column in _WHOLE:
            return pa.int64()
        if column in FLOAT_COLUMNS:
            return pa.float64()
        other: dict[str, pa.DataType] = {"gpus": pa.uint64(), "gpufail": pa.uint8(), "in_container": pa.bool_()}
        return other[column]

    return pa.schema([pa.field(name, type_of(name), nullable=name == "epoch") for name in COLUMNS])
