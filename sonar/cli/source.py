"""Where an answer of sonalyze comes from: the options that say so, and what they mean."""

import os
import pwd
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from sonar.cli.defaults import NAME, read_defaults
from sonar.errors import SonarError
from sonar.places import place_of
from sonar.verbs.declare import Option, OptionType, Reads, Verb

if TYPE_CHECKING:
    from sonar.config.clusters import Clusters
    from sonar.config.description import Cluster
    from sonar.config.nodes import NodeTable

__all__ = [
    "CONFIG_OPTION",
    "REPORTS_OPTION",
    "SOURCE_OPTIONS",
    "Source",
    "account_of_caller",
    "own_defaults",
    "source_of",
]

SOURCE_OPTIONS = (
    Option(
        "data-path", "root of the log tree, or s3:// ($SONAR_ROOT, else ~/sonar/data)", OptionType.PATH, metavar="DIR"
    ),
    Option(
        "jobanalyzer-dir",
        "root of many clusters: data/, cluster-config/, reports/; with --cluster",
        OptionType.PATH,
        metavar="DIR",
    ),
    Option("remote", "ask the server at this address", metavar="URL"),
    Option("cluster", "cluster to ask about, of a server or a directory of many", metavar="NAME"),
    Option("auth-file", "file with USER:PASSWORD, with --remote", OptionType.PATH, metavar="FILE"),
    Option("ca-file", "certificates to trust, with --remote", OptionType.PATH, metavar="FILE"),
)
CONFIG_OPTION = Option("config-file", "description of the nodes, for relative values", OptionType.PATH, metavar="FILE")
REPORTS_OPTION = Option("report-dir", "where the reports of the cluster are", OptionType.PATH, metavar="DIR")


class Source(TypedDict):
    """Where an answer comes from: arguments of `query_of`."""

    data: Path | Sequence[Path]
    nodes: "NodeTable | None"
    described: "Cluster | None"
    clusters: "Clusters | None"
    reports: Sequence[Path]


def source_of(verb: Verb, source: Mapping[str, str], files: Sequence[str]) -> "Source":
    """Return where the answer comes from: files, one cluster's log tree, or a directory of many clusters."""
    from sonar.config.clusters import Clusters
    from sonar.config.description import read_described

    described = read_described(Path(source["config-file"])) if "config-file" in source else None
    nodes = None if described is None else described.nodes
    reports = _audiences(Path(source["report-dir"])) if "report-dir" in source else ()
    if "jobanalyzer-dir" not in source:
        if verb.reads is Reads.SITE:
            return {"data": [], "nodes": None, "described": None, "clusters": _clusters_here(), "reports": ()}
        data = (
            [Path(name) for name in files]
            if files or verb.reads is Reads.REPORTS
            else _data_path(source.get("data-path"))
        )
        return {"data": data, "nodes": nodes, "described": described, "clusters": None, "reports": reports}
    if files or "data-path" in source or "remote" in source:
        raise SonarError("--jobanalyzer-dir cannot be used with --data-path, --remote or -- logfile ...")
    root = Path(source["jobanalyzer-dir"])
    clusters = Clusters(root / "data", root / "cluster-config", root / "reports")
    if not clusters.data.is_dir():
        raise SonarError(f"Not a directory: '{clusters.data}'")
    if verb.reads is Reads.SITE:
        return {"data": [], "nodes": None, "described": None, "clusters": clusters, "reports": ()}
    if "cluster" not in source:
        raise SonarError("--jobanalyzer-dir needs --cluster")
    cluster = clusters.find(source["cluster"])
    if described is None:
        described = clusters.describe(cluster)
        nodes = described.nodes or None if verb.takes_config else None
    return {
        "data": clusters.data / cluster,
        "nodes": nodes,
        "described": described,
        "clusters": clusters,
        "reports": reports or _audiences(root / "reports" / cluster),
    }


def _clusters_here() -> "Clusters":
    """Return the clusters of the server that this machine is, by its sonar.conf(5). Raise SonarError if it is none."""
    from sonar.config.clusters import Clusters
    from sonar.config.settings import load_settings

    paths = load_settings().paths
    if not paths.data.is_dir():
        raise SonarError(f"No clusters at '{paths.data}': give --jobanalyzer-dir, or --remote")
    return Clusters(paths.data, paths.clusters, paths.reports)


def _audiences(reports: Path) -> tuple[Path, ...]:
    """Return where to look for a report of a cluster, that for the most narrow audience first."""
    return (*(reports / audience for audience in ("admin", "login", "public")), reports)


def _data_path(option: str | None) -> Path:
    """Return the root of the log tree: the option, $SONAR_ROOT, or below the home directory."""
    if option:
        return place_of(option)
    if root := os.environ.get("SONAR_ROOT"):
        return place_of(root)
    if home := os.environ.get("HOME"):
        return Path(home) / "sonar" / "data"
    raise SonarError("No data path: give --data-path, or set SONAR_ROOT or HOME")


def account_of_caller() -> str:
    """Return the name of the caller's account."""
    for variable in ("LOGNAME", "USER"):
        if name := os.environ.get(variable):
            return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise SonarError(f"User {os.getuid()} has no name: give --user, or set LOGNAME") from None


def own_defaults() -> dict[str, str]:
    """Return the defaults of the caller's own file."""
    home = os.environ.get("HOME")
    return read_defaults(Path(home) / NAME) if home else {}
