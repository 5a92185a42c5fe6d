"""A request to the ingest server as far as it is known: where it goes, what its headers say, what the journal says."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qs

from sonar.ingest.endpoints import find_endpoint
from sonar.ingest.post import Endpoint, Parameters, Refusal, Taken
from sonar.names import ClusterName
from sonar.serve.gate import Scope
from sonar.serve.sockets import LOCAL, address_of

__all__ = ["Request", "check_media_type", "header", "parameters_of", "route", "short_route"]

_LONGEST_KEPT = 200  # of query strings, which seldom differ

_FRAMED = "/kprox"  # in the table of endpoints; where it really is, the operator says


@dataclass(slots=True)
class Request:
    """What is known by now: first no endpoint, later what the sender may write, last what was taken."""

    scope: Scope
    endpoint: str = ""
    clusters: frozenset[ClusterName] | None = None  # that the sender may write; None: any, or not known yet
    taken: Taken | None = None

    @property
    def cluster(self) -> str:
        """The cluster that it is about: that of its records, or the only one that the sender may write."""
        if self.taken is not None and self.taken.cluster:
            return self.taken.cluster
        return next(iter(self.clusters)) if self.clusters is not None and len(self.clusters) == 1 else ""

    @property
    def place(self) -> str:
        """The endpoint, with its topic where it has several."""
        return f"{self.endpoint}/{self.taken.topic}" if self.taken is not None and self.taken.topic else self.endpoint

    @property
    def remote(self) -> str:
        """The address of the sender; a proxy at the socket that only our group can open is believed what it says."""
        address = address_of(self.scope.get("client"))
        if address == LOCAL and (told := header(self.scope, b"x-real-ip")):
            return told.decode("latin-1")[:64]
        return address

    def journal_fields(self, status: int) -> dict[str, object]:
        """Return the structured fields of what the journal is told about it."""
        fields: dict[str, object] = {
            "SONAR_ENDPOINT": self.endpoint,
            "SONAR_STATUS": status,
            "SONAR_REMOTE": self.remote,
        }
        if self.cluster:
            fields["SONAR_CLUSTER"] = self.cluster
        if self.taken is not None and status == 200:
            fields |= {
                "SONAR_HOST": self.taken.host,
                "SONAR_RECORDS": self.taken.stored,
                "SONAR_DROPPED": self.taken.dropped,
            }
        return fields


def short_route(
    path: str, query: bytes, media_type: bytes | None, framed_path: str
) -> tuple[Endpoint, str, Parameters] | None:
    """Return the endpoint of a POST, the argument in its path, and its parameters; None if it would be refused."""
    return _short_routed(path, query, media_type, framed_path) if len(query) < _LONGEST_KEPT else None


@lru_cache(1024)
def _short_routed(
    path: str, query: bytes, media_type: bytes | None, framed_path: str
) -> tuple[Endpoint, str, Parameters] | None:
    try:
        endpoint, argument = route({"method": "POST", "path": path}, framed_path)
        parameters = parameters_of(query)
        check_media_type(endpoint, parameters, media_type)
    except Refusal:
        return None
    return endpoint, argument, parameters


def route(scope: Scope, framed_path: str = "") -> tuple[Endpoint, str]:
    """Return the endpoint of a request and the argument in its path; raise Refusal.

    `framed_path` is where messages in the framing of a Kafka proxy are taken; if it is empty, nowhere.
    """
    path = scope["path"]
    if framed_path and path == framed_path:
        path = _FRAMED
    elif path == _FRAMED:
        raise Refusal(404, "Not found")
    found = find_endpoint(path)
    if found is None:
        raise Refusal(404, "Not found")
    if scope["method"] != "POST":
        raise Refusal(405, "Bad method")
    return found


def parameters_of(query: bytes) -> Mapping[str, list[str]]:
    """Return the parameters of a query string; raise Refusal."""
    return _parsed(query) if len(query) < _LONGEST_KEPT else _parsed.__wrapped__(query)


@lru_cache(1024)
def _parsed(query: bytes) -> Mapping[str, list[str]]:
    try:
        return parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=20)
    except ValueError as error:
        raise Refusal(400, f"Bad parameters - {error}") from None


def check_media_type(endpoint: Endpoint, parameters: Parameters, given: bytes | None) -> None:
    """Raise Refusal if an endpoint does not take a media type; none is as good as the right one."""
    name = given.partition(b";")[0].strip().lower().decode("latin-1") if given else ""
    wanted = endpoint.media_types(parameters)
    if name and name not in wanted:
        general = "application/*+json" if name.startswith("application/") and name.endswith("+json") else name
        if general not in wanted:
            raise Refusal(415, "Bad content-type")


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first header of a name in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None
