"""`/add?sample=true&cluster=C`, `/add?sysinfo=…`, `/add?slurm-sacct=…`: one place for three kinds of records.

`slurm-sacct` takes lines of CSV with the finished jobs of a cluster, stored as they are by the day of a job's end.
"""

from collections.abc import Callable, Mapping

from sonar.ingest.csv_lines import sort_jobs
from sonar.ingest.endpoints.freecsv import take_samples
from sonar.ingest.endpoints.sysinfo import take_sysinfo
from sonar.ingest.post import CSV, JSON, Endpoint, MediaTypes, Parameters, Post, Refusal, Taken
from sonar.store.layout import Append, sacct_path

__all__ = ["ENDPOINTS"]

# Deployed scripts send the longer one.
_YES = frozenset({"true", "xxxxxtruexxxxx"})


def take_added(post: Post) -> Taken:
    """Take what the parameters say that it is."""
    operation = _operation(post.parameters)
    taken = _OPERATIONS[operation][1](post)
    taken.topic = operation
    return taken


def take_jobs(post: Post) -> Taken:
    """Take each line to the cluster's file of finished jobs."""
    cluster = post.cluster_parameter()
    taken = Taken(cluster=cluster)
    sorted_lines = sort_jobs(post.body, post.now, post.rules.record_day)
    for place, data in sorted_lines.groups.items():
        taken.appends.append(Append(sacct_path(cluster, place[0]), data))
        taken.count(cluster, "", sorted_lines.shares[place])
    if sorted_lines.dropped:
        taken.drop(sorted_lines.complaint, sorted_lines.dropped)
    return taken


_OPERATIONS: Mapping[str, tuple[MediaTypes, Callable[[Post], Taken]]] = {
    "sample": (CSV, take_samples),
    "sysinfo": (JSON, take_sysinfo),
    "slurm-sacct": (CSV, take_jobs),
}


def _operation(parameters: Parameters) -> str:
    chosen = []
    for name in _OPERATIONS:
        values = parameters.get(name, ("false",))
        if len(values) != 1 or (values[0] not in _YES and values[0] != "false"):
            raise Refusal(400, f"Bad operation: Bad `{name}` parameter")
        if values[0] in _YES:
            chosen.append(name)
    if len(chosen) != 1:
        raise Refusal(400, "Bad operation: Need exactly one of `-sample`, `-sysinfo`, or `-slurm-sacct`")
    return chosen[0]


def _media(parameters: Parameters) -> MediaTypes:
    return _OPERATIONS[_operation(parameters)][0]


ENDPOINTS = (Endpoint("add", "/add", _media, take_added),)
