"""`/sysinfo?cluster=C`: JSON descriptions of a node by older samplers, stored as they are, newlines and all."""

from typing import Any

from sonar.ingest.json_values import TooDeepError, split_values
from sonar.ingest.post import JSON, Endpoint, Post, Refusal, Share, Taken
from sonar.names import BadNameError, host_name
from sonar.store.layout import Append, is_plausible, sysinfo_path
from sonar.times import parse_instant

__all__ = ["ENDPOINTS", "take_sysinfo"]


def take_sysinfo(post: Post) -> Taken:
    """Take each object to the file of its `hostname` and of the day of its `timestamp`."""
    cluster = post.cluster_parameter()
    taken = Taken(cluster=cluster)
    if not post.body.strip():
        raise Refusal(400, "Can't unmarshal Sysinfo JSON: nothing there")
    parts: dict[str, list[bytes]] = {}
    try:
        for raw, value in split_values(post.body):
            try:
                time, instant, host = _facts(value, post.now)
                path = sysinfo_path(cluster, post.rules.record_day(time, instant), host_name(host))
            except (ValueError, BadNameError) as error:
                taken.drop(str(error))
                continue
            parts.setdefault(path, []).append(raw + b"\n")
            taken.count(cluster, host, Share(1, len(raw) + 1, instant, instant))
    except TooDeepError as error:
        raise Refusal(400, str(error)) from None
    taken.appends = [Append(path, b"".join(values)) for path, values in parts.items()]
    return taken


def _facts(value: Any, now: int) -> tuple[str, int, str]:
    """Return time, instant and host name; raise ValueError."""
    if not isinstance(value, dict):
        raise ValueError("Can't unmarshal Sysinfo JSON: not an object")
    time, host = value.get("timestamp"), value.get("hostname")
    if not (time and host and isinstance(time, str) and isinstance(host, str)):
        raise ValueError("Missing timestamp or host in Sonar sysinfo data")
    instant = parse_instant(time)
    if instant is None or not is_plausible(instant, now):
        raise ValueError(f"bad time {time[:40]!r}")
    return time, instant, host


ENDPOINTS = (Endpoint("sysinfo", "/sysinfo", JSON, take_sysinfo),)
