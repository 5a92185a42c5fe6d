"""A question ready to be answered: the samples to read, the filters, the window and the present time.

CLI, HTTP server, reports and tests build a `Query` (see `sonar.verbs.parameters`) and hand it to a verb's `run`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from sonar.analysis.select import RecordFilter
    from sonar.config.clusters import Clusters
    from sonar.config.nodes import NodeTable
    from sonar.read.scan import Scan
    from sonar.read.topics import TopicScan
    from sonar.verbs.expression import Expression
    from sonar.verbs.rows import SortKey

__all__ = ["Query", "Window"]


@dataclass(frozen=True, slots=True)
class Window:
    """The instants asked for, both inclusive; a limit that is not `active` selects nothing and is only inferred.

    With the log tree both limits are active. With explicit files a limit is active only if its option was given.
    """

    start: int
    end: int
    start_active: bool = True
    end_active: bool = True


@dataclass(frozen=True, slots=True)
class Query:
    """One question to one verb."""

    options: Mapping[str, Any]  # parsed values of the verb's own options, by name, defaults filled in
    scan: "Scan"
    topics: "TopicScan"  # what is no sample, read when it is asked for
    filter: "RecordFilter"  # users, commands, jobs, hosts; not time
    window: Window
    now: int
    nodes: "NodeTable | None" = None  # capacities of the hosts (--config-file)
    interval_s: int | None = None  # between two samples of a host, if it is stated
    has_node_file: bool = False  # a description of the nodes was given: what it leaves out is its mistake
    clusters: "Clusters | None" = None  # all clusters, for a verb that is about the site
    reports: "tuple[Path, ...]" = ()  # where the cluster's reports are: the first directory that has one counts
    where: "Expression | None" = None  # which rows are asked for (--query)
    sort: "tuple[SortKey, ...]" = ()  # in which order (--sort); by default the verb's own
    fields: frozenset[str] = frozenset()  # names of the fields that are printed, compared or sorted by
    sources: frozenset[str] = frozenset()  # the columns that these fields show
    only_fields: bool = False  # nobody looks at other columns of the answer than these
    words: frozenset[str] = frozenset()  # control words of the format
