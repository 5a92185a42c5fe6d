"""Asking a verb on somebody's behalf: the only way from the server, its pages and its interfaces to an analysis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonar import verbs
from sonar.config.clusters import Clusters, UnknownClusterError
from sonar.errors import SonarError, UsageError
from sonar.names import ClusterName
from sonar.serve.passwords import Role
from sonar.verbs.declare import OptionType, Reads, Result, Verb
from sonar.web.privacy import narrowed, restricted

if TYPE_CHECKING:
    from sonar.render.formats import Format
    from sonar.serve.passwords import Identity
    from sonar.web.shared import SharedScans

__all__ = ["Answered", "Asker", "question_of"]

_OTHER_NAMES = {"q": "query"}  # of parameters, in newer servers of the family
_LONGEST_NAME = 80  # of what a message repeats


@dataclass(frozen=True, slots=True)
class Answered:
    """What a verb answered, cut to what the asker may see, and how it is to be written."""

    verb: Verb
    result: Result
    fmt: "Format"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows as values."""
        return self.result.rows.to_pylist()

    def texts(self) -> list[dict[str, str]]:
        """Return the rows as the texts of their fields."""
        from sonar.render.formats import texts

        columns = {field.name: texts(self.result.rows, field, self.fmt) for field in self.fmt.fields}
        return [{name: column[at] for name, column in columns.items()} for at in range(len(self.result.rows))]


@dataclass(frozen=True, slots=True)
class Asker:
    """Somebody who asks, at some instant."""

    clusters: Clusters
    who: "Identity"
    now: int
    shared: "SharedScans | None" = None  # where several verbs are asked about the same time

    def cluster_names(self) -> list[ClusterName]:
        """Return the clusters that this one may ask about."""
        return [name for name in self.clusters.names() if self._may_ask(name)]

    def cluster(self, text: str) -> ClusterName:
        """Return the cluster of a name or alias; raise UnknownClusterError also for one that is somebody else's."""
        name = self.clusters.find(text)
        if not self._may_ask(name):
            raise UnknownClusterError(f"no cluster {text[:_LONGEST_NAME]!r}")
        return name

    def _may_ask(self, name: ClusterName) -> bool:
        """Return whether this one may know of a cluster: by the password file, and by its own description."""
        if not self.who.may_ask(name, self.clusters.aliases()):
            return False
        if self.who.role is not Role.USER:
            return True
        try:
            return self.clusters.describe(name).audience == "users"
        except SonarError:  # who may is not known before it is mended
            return False

    def reports_of(self, cluster: ClusterName) -> tuple[Path, ...]:
        """Return the directories of a cluster's reports that this one may read: see `sonar.report.audience`."""
        if self.clusters.reports is None:
            return ()
        audiences = ("admin", "login", "public") if self.who.accounts is None else ("login", "public")
        return tuple(self.clusters.reports / cluster / audience for audience in audiences)

    def ask(self, verb_name: str, cluster: ClusterName | None, given: Mapping[str, Sequence[str]]) -> Answered:
        """Return a verb's answer about a cluster; None is for a verb that is about the site."""
        from sonar.verbs.parameters import query_of
        from sonar.verbs.rows import chosen

        verb = verbs.verb(verb_name)
        question = narrowed(verb, given, self.who)
        clusters = self.clusters
        data: Path | tuple[Path, ...] = ()
        nodes = described = None
        reports: tuple[Path, ...] = ()
        if cluster is not None:
            data = clusters.data / cluster
            described = clusters.describe(cluster)
            nodes = described.nodes or None if verb.takes_config else None
            reports = self.reports_of(cluster)
        query, fmt = query_of(
            verb, question, data=data, nodes=nodes, described=described, clusters=clusters, reports=reports,
            now=self.now,
        )  # fmt: skip
        if self.shared is not None and cluster is not None:
            query = replace(query, scan=self.shared.of(cluster, query))
        # Rows that are not to be seen go before anything else looks at rows: no count or order may tell of them.
        result = restricted(verb, verb.run(query), self.who, self.cluster_names)
        return Answered(verb, chosen(verb, result, query), fmt)


def question_of(verb: Verb, parameters: Sequence[tuple[str, str]]) -> tuple[str | None, dict[str, list[str]]]:
    """Return the cluster's name, and the texts of each option, of a request's parameters. Raise UsageError.

    Nothing in a parameter can become another option, a path, or a flag that has a value.
    """
    from sonar.verbs.parameters import REMOTE_TRUE, options_of

    types = {option.name: option.type for option in options_of(verb) if not option.local}
    given: dict[str, list[str]] = {}
    names = []
    for given_name, value in parameters:
        name = _OTHER_NAMES.get(given_name, given_name)
        if name == "cluster":
            names.append(value)
        elif name not in types or types[name] is OptionType.PATH:
            raise UsageError(f"Bad parameter {name[:_LONGEST_NAME]}")
        elif "\0" in value:
            raise UsageError(f"Bad parameter {name}: a text without NUL")
        elif types[name] is not OptionType.FLAG:
            given.setdefault(name, []).append(value)
        elif value in {"true", REMOTE_TRUE}:
            given.setdefault(name, []).append("true")
        elif value != "false":
            raise UsageError(f"Bad parameter {name}: a flag is true or false")
    if len(names) > 1:
        raise UsageError("Bad parameter cluster")
    if verb.reads is Reads.SITE:
        if names:
            raise UsageError("Bad parameter cluster: this is about all clusters")
        return None, given
    if not names or not names[0]:
        raise UsageError("Missing `cluster`")
    return names[0], given
