"""`/sonar-freecsv?cluster=C`: lines of tagged CSV as the sampler printed them, stored as they are."""

from sonar.ingest.csv_lines import sort_samples
from sonar.ingest.post import CSV, Endpoint, Post, Taken
from sonar.names import HostName
from sonar.store.layout import Append, samples_path

__all__ = ["ENDPOINTS", "take_samples"]


def take_samples(post: Post) -> Taken:
    """Take each line to the file of its host and of the day in the record's own UTC offset."""
    cluster = post.cluster_parameter()
    taken = Taken(cluster=cluster)
    sorted_lines = sort_samples(post.body, post.now, post.rules.record_day)
    for place, data in sorted_lines.groups.items():
        day, host = place
        taken.appends.append(Append(samples_path(cluster, day, HostName(host)), data))
        taken.count(cluster, host, sorted_lines.shares[place])
    if sorted_lines.dropped:
        taken.drop(sorted_lines.complaint, sorted_lines.dropped)
    return taken


ENDPOINTS = (Endpoint("sonar-freecsv", "/sonar-freecsv", CSV, take_samples),)
