"""What a message of Kafka is about: its topic is `[PREFIX.]CLUSTER.TYPE`."""

from sonar.ingest.post import Refusal, Rules
from sonar.store.layout import Topic

__all__ = ["split_topic"]


def split_topic(text: str, rules: Rules) -> tuple[str, Topic]:
    """Return the cluster, as it is written, and the type of a topic; raise Refusal.

    A cluster may have dots itself: only what the operator has named is a prefix.
    """
    name, dot, kind = text.rpartition(".")
    for prefix in rules.topic_prefixes:
        if name.startswith(f"{prefix}."):
            name = name.removeprefix(f"{prefix}.")
            break
    try:
        topic = Topic("job" if kind == "jobs" else kind)
    except ValueError:
        topic = None
    if not dot or not name or topic is None:
        raise Refusal(404, f"no topic {text[:80]!r}")
    return name, topic
