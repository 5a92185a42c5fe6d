"""What an upload endpoint is given, what it makes of it, and how it refuses.

An endpoint is data (`Endpoint`) with one function in it, from a `Post` to what is to be stored (`Taken`). It does no
input or output: the application (`sonar.ingest.app`) reads bodies, checks credentials, stores and answers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sonar.errors import SonarError
from sonar.names import BadNameError, ClusterName, resolve_cluster
from sonar.store.layout import Append, local_day, utc_day

__all__ = [
    "CSV",
    "JSON",
    "Credentials",
    "Endpoint",
    "MediaTypes",
    "Parameters",
    "Post",
    "Refusal",
    "Rules",
    "Share",
    "Taken",
]


Parameters = Mapping[str, Sequence[str]]
Credentials = tuple[str, str]  # user, password


_MOST_RESOLVED = 1024


class Refusal(SonarError):
    """A request that is answered with an error, and of which nothing is stored."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator has laid down; replaced as a whole by a reload."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    topic_prefixes: frozenset[str] = frozenset()
    csv_day: str = "local"  # which day a record belongs to: that of its own UTC offset, or `utc`
    json_day: str = "utc"  # the same for envelopes
    may_create: Callable[[ClusterName], bool] = lambda _: True  # whether a cluster may be written that has no data
    _resolved: dict[str, ClusterName] = field(default_factory=dict, compare=False, init=False)

    def resolve(self, text: str) -> ClusterName:
        """Return the cluster that a name or alias means; raise BadNameError."""
        found = self._resolved.get(text)
        if found is None:
            found = resolve_cluster(text, self.aliases)
            if len(self._resolved) < _MOST_RESOLVED:
                self._resolved[text] = found
        return found

    def record_day(self, time: str, instant: int) -> str:
        """Return the day directory of a CSV record, or of what is stored beside them."""
        return local_day(time) if self.csv_day == "local" else utc_day(instant)

    def envelope_day(self, time: str, instant: int) -> str:
        """Return the day directory of an envelope."""
        return local_day(time) if self.json_day == "local" else utc_day(instant)


@dataclass(frozen=True, slots=True)
class Post:
    """One upload. `clusters` are those that its sender may write; None: any."""

    body: bytes
    argument: str  # what the endpoint's path has matched in its group
    parameters: Parameters
    clusters: frozenset[ClusterName] | None
    rules: Rules
    now: int
    node: str = ""  # for records that do not name theirs
    senders: Mapping[Credentials | None, frozenset[ClusterName] | None] = field(default_factory=dict)

    def cluster(self, text: str | None) -> ClusterName:
        """Return the cluster that `text` means, or the only one that the sender may write where there is no text.

        Raise Refusal: 400 if there is none or its name is bad, 403 if the sender may not write it.
        """
        if text:
            try:
                cluster = self.rules.resolve(text)
            except BadNameError as error:
                raise Refusal(400, str(error)) from None
            if self.clusters is not None and cluster not in self.clusters:
                raise Refusal(403, "Upload not authorized")
        elif self.clusters is not None and len(self.clusters) == 1:
            cluster = next(iter(self.clusters))
        else:
            raise Refusal(400, "no cluster is named")
        if not self.rules.may_create(cluster):
            raise Refusal(403, f"unknown cluster '{cluster}'")
        return cluster

    def cluster_parameter(self) -> ClusterName:
        """Return the cluster of the query parameter `cluster`, which must be there once; raise Refusal."""
        values = self.parameters.get("cluster", ())
        if len(values) != 1 or not values[0]:
            raise Refusal(400, "Bad parameters - missing or empty or repeated 'cluster'")
        return self.cluster(values[0])


@dataclass(slots=True)
class Share:
    """What a post brought of one host: for the arrival ledger."""

    records: int
    bytes: int
    oldest: int  # time of a record
    newest: int

    def add(self, records: int, size: int, oldest: int, newest: int) -> None:
        """Count further records."""
        self.records += records
        self.bytes += size
        self.oldest = min(self.oldest, oldest)
        self.newest = max(self.newest, newest)


@dataclass(slots=True)
class Taken:
    """What an endpoint made of a post."""

    appends: list[Append] = field(default_factory=list)
    shares: dict[tuple[ClusterName, str], Share] = field(default_factory=dict)  # by cluster and host; "": all hosts
    stored: int = 0
    dropped: int = 0
    complaint: str = ""  # why the first record was dropped
    notices: list[str] = field(default_factory=list)  # for the journal
    cluster: str = ""
    host: str = ""  # the first
    topic: str = ""  # where an endpoint has several
    reply: bytes = b""  # JSON
    status: int = 400  # if nothing is stored

    def count(self, cluster: ClusterName, host: str, share: Share) -> None:
        """Count records that are stored."""
        self.stored += share.records
        self.cluster = self.cluster or cluster
        self.host = self.host or host
        before = self.shares.get((cluster, host))
        if before is None:
            self.shares[cluster, host] = share
        else:
            before.add(share.records, share.bytes, share.oldest, share.newest)

    def add(self, other: "Taken") -> None:
        """Take over what was made of a part of the post."""
        self.appends += other.appends
        for (cluster, host), share in other.shares.items():
            self.count(cluster, host, share)
        if other.dropped:
            self.drop(other.complaint, other.dropped, other.status)
        self.notices += other.notices

    def drop(self, reason: str, count: int = 1, status: int = 400) -> None:
        """Count records that are not stored; `status` is for the case that all others are dropped too."""
        self.dropped += count
        self.complaint = self.complaint or reason
        self.status = max(self.status, status)


MediaTypes = frozenset[str]

# What curl says when nobody told it what it sends.
_CURL_DEFAULT = "application/x-www-form-urlencoded"
CSV: MediaTypes = frozenset({"text/csv", "text/plain", "application/octet-stream", _CURL_DEFAULT})
JSON: MediaTypes = frozenset({"application/json", "application/*+json", _CURL_DEFAULT})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place to post to."""

    name: str  # in the journal
    path: str  # regular expression of the whole path; its group, if it has one, becomes the argument
    media: MediaTypes | Callable[[Parameters], MediaTypes]
    take: Callable[[Post], Taken]
    senders: Callable[[bytes], Sequence[Credentials]] | None = None  # in the body, where they are not in the headers

    def media_types(self, parameters: Parameters) -> MediaTypes:
        """Return the media types that may be sent with these parameters; may raise Refusal."""
        return self.media(parameters) if callable(self.media) else self.media
