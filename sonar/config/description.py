"""The description of a cluster, sonar-cluster(5): one file NAME.conf from which everything that knows a cluster reads.

[Cluster]     its title, aliases, sampling interval, features, whose processes to leave out, who may see its pages
[Node]        what nodes have; one section for all that are alike
[Group]       nodes that are reported together
[Policy]      a rule of the cluster's own, see sonar.config.policies
[Recipients]  who gets which report by mail

The description of the original, NAME-config.json, is read too: an array of nodes (version 1), or an object with name,
description, aliases, exclude-user and nodes (version 2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sonar import hosts
from sonar.config import values
from sonar.config.nodes import Node, NodeTable, read_json_description
from sonar.config.policies import OLD_NAMES, OwnPolicy, default_policies, policy_names
from sonar.config.sections import Entry, Section, nearest, read_sections
from sonar.config.values import Kind
from sonar.errors import ConfigError, SonarError
from sonar.names import ClusterName, cluster_name

__all__ = ["FEATURES", "KEYS", "Cluster", "Group", "Key", "read_described", "read_description", "read_json"]

FEATURES = ("uptime", "gpu", "slurm")

_USUAL_INTERVAL_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Nodes that are shown and added up together; `nodes` are host patterns."""

    name: str
    title: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What is known about a cluster from its description; a cluster that has none has the defaults."""

    name: ClusterName
    title: str
    description: str = ""
    aliases: tuple[ClusterName, ...] = ()
    sample_interval_s: int | None = None  # None: not stated
    features: frozenset[str] = frozenset({"uptime"})  # of FEATURES: which reports and pages make sense
    exclude_users: tuple[str, ...] = ()  # whose processes are left out of answers
    exclude_commands: tuple[str, ...] = ()
    audience: str = "users"  # users: whoever can log in; staff: support and administrators
    default_nodes: tuple[str, ...] = ()  # host patterns that pages begin with; none: all
    nodes: NodeTable = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    policies: tuple[str, ...] = ("deadweight",)  # names of those that apply
    own_policies: Mapping[str, OwnPolicy] = field(default_factory=dict)  # written in the description itself
    recipients: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of each report, in lower case
    source: Path | None = field(default=None, compare=False)

    @property
    def usual_interval_s(self) -> int:
        """How often its nodes sample: as stated, else as samplers do by themselves."""
        return self.sample_interval_s or _USUAL_INTERVAL_S


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the file: the row from which parser, manual and example come."""

    section: str
    key: str
    kind: Kind[Any]
    default: str
    help: str
    required: bool = False


KEYS = (
    Key("Cluster", "Title", values.TEXT, "", "What people call it. By default its name."),
    Key("Cluster", "Description", values.TEXT, "", "A sentence about it."),
    Key("Cluster", "Aliases", values.WORDS, "", "Other names, for uploads and for questions."),
    Key("Cluster", "SampleInterval", values.SPAN, "5min", "How often its nodes sample. "
        "If stated, coverage goes by it, else by what each node sends."),
    Key("Cluster", "Features", values.WORDS, "", "Some of uptime, gpu, slurm. By default what the nodes tell."),
    Key("Cluster", "ExcludeUsers", values.WORDS, "", "Users whose processes count in no jobs, load or samples."),
    Key("Cluster", "ExcludeCommands", values.WORDS, "", "Commands that are left out likewise."),
    Key(
        "Cluster", "Audience", values.choice("users", "staff"), "users",
        "Who may ask about it: whoever can log in, or the roles support and admin only.",
    ),
    Key("Cluster", "DefaultNodes", values.HOSTS, "", "Host patterns that the overview begins with. By default all."),
    Key("Cluster", "Policies", values.WORDS, "", "Policies that apply. By default deadweight, cpuhog where there "
        "are GPUs, and those of this file."),
    Key("Node", "Hosts", values.HOSTS, "", "Names or patterns of nodes that are alike, as they name themselves.",
        required=True),
    Key("Node", "Description", values.TEXT, "", "What they are, for people."),
    Key("Node", "Cores", values.COUNT, "", "Logical cores of a node.", required=True),
    Key("Node", "Memory", values.SIZE, "", "Main memory of a node.", required=True),
    Key("Node", "GPUs", values.COUNT, "0", "GPUs of a node."),
    Key("Node", "GPUMemory", values.SIZE, "0", "Memory of all the GPUs of a node together."),
    Key("Node", "GPUMemoryByPercent", values.BOOLEAN, "no", "Of the two readings of GPU memory in a sample, believe "
        "the percentage."),
    Key("Node", "CrossNodeJobs", values.BOOLEAN, "", "Whether job numbers are those of a batch system. By default yes "
        "where Features= has slurm."),
    Key("Group", "Name", values.TEXT, "", "Name of the group, which becomes part of file names.", required=True),
    Key("Group", "Title", values.TEXT, "", "What people call it. By default its name."),
    Key("Group", "Nodes", values.HOSTS, "", "Names or patterns of its nodes.", required=True),
    Key("Policy", "Name", values.TEXT, "", "Name of the policy; that of a shipped one replaces it.", required=True),
    Key("Policy", "Title", values.TEXT, "", "What people call it. By default its name."),
    Key("Policy", "Options", values.COMMAND, "", "Options of sonalyze jobs that find the jobs which break it.",
        required=True),
    Key("Policy", "Window", values.SPAN, "1d", "How far back each scan looks."),
    Key("Policy", "Trigger", values.TEXT, "", "What is seen, for the notice."),
    Key("Policy", "Problem", values.TEXT, "", "Why that is a problem."),
    Key("Policy", "Remedy", values.TEXT, "", "What the job's owner can do."),
)  # fmt: skip


def read_description(path: Path, files: Sequence[Path] = ()) -> Cluster:
    """Return what NAME.conf says; raise ConfigError with all that is wrong. `files` are it and its drop-ins."""
    name = cluster_name(path.name.removesuffix(".conf"))
    problems: list[str] = []
    sections: list[Section] = []
    for one in files or (path,):
        try:
            sections += read_sections(one)
        except ConfigError as error:
            problems += error.problems
    reader = _Reader(problems)
    known = {key.section for key in KEYS} | {"Recipients"}
    found: dict[str, list[tuple[Section, dict[str, Any]]]] = {each: [] for each in known}
    recipients: dict[str, tuple[str, ...]] = {}
    everything: list[Entry] = []  # of the [Cluster] sections of one or several files
    for section in sections:
        if section.name == "Cluster":
            everything += section.entries
        elif section.name in known - {"Recipients"}:
            found[section.name].append((section, reader.values(section)))
        elif section.name == "Recipients":
            reader.recipients(section, recipients)
        elif not section.name.startswith("X-"):
            at = f"{section.path}:{section.line}"
            problems.append(f"{at}: unknown section [{section.name}]{nearest(section.name, known)}")
    cluster = reader.values(Section("Cluster", path, 1, everything))
    features = reader.features(cluster.get("Features"), everything)
    nodes = reader.nodes(found["Node"], slurm="slurm" in (features or ()))
    groups = reader.groups(found["Group"])
    own = {given["Name"]: _policy(given) for _, given in found["Policy"] if given}
    if features is None:
        features = _features_of(nodes)
    policies = reader.policies(cluster.get("Policies"), own, features, path)
    aliases = reader.aliases(cluster.get("Aliases", ()), path)
    if problems:
        raise ConfigError(problems)
    return Cluster(
        name=name,
        title=cluster.get("Title", name),
        description=cluster.get("Description", ""),
        aliases=aliases,
        sample_interval_s=cluster.get("SampleInterval") or None,
        features=features,
        exclude_users=cluster.get("ExcludeUsers", ()),
        exclude_commands=cluster.get("ExcludeCommands", ()),
        audience=cluster.get("Audience", "users"),
        default_nodes=cluster.get("DefaultNodes", ()),
        nodes=nodes,
        groups=groups,
        policies=policies,
        own_policies=own,
        recipients=recipients,
        source=path,
    )


def read_described(path: Path) -> Cluster:
    """Return what a file says of a cluster: NAME.conf as sonar-cluster(5) has it, any other as the original's JSON.

    Raise SonarError naming the file and what is wrong.
    """
    if path.suffix == ".conf":
        return read_description(path)
    return read_json(path, ClusterName(path.name))


def read_json(path: Path, name: ClusterName) -> Cluster:
    """Return what the original's file NAME-config.json says; raise SonarError, naming the file, if it is bad."""
    document, nodes = read_json_description(path)
    features = _features_of(nodes)
    try:
        aliases = tuple(cluster_name(alias) for alias in _texts(document, "aliases"))
        users = tuple(_texts(document, "exclude-user"))
    except SonarError as error:
        raise SonarError(f"'{path}': {error}") from None
    title = document.get("description")
    return Cluster(
        name=name,
        title=title if isinstance(title, str) and title else name,
        aliases=aliases,
        features=features,
        exclude_users=users,
        nodes=nodes,
        policies=default_policies(features),
        source=path,
    )


def _texts(document: Mapping[str, Any], member: str) -> list[str]:
    found = document.get(member, [])
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise SonarError(f"Field '{member}' must be an array of strings")
    return found


def _features_of(nodes: NodeTable) -> frozenset[str]:
    found = {"uptime"}
    if any(node.gpu_cards for node in nodes.values()):
        found.add("gpu")
    if any(node.cross_node_jobs for node in nodes.values()):
        found.add("slurm")
    return frozenset(found)


def _policy(given: Mapping[str, Any]) -> OwnPolicy:
    texts = {key.lower(): given.get(key, "") for key in ("Trigger", "Problem", "Remedy")}
    return OwnPolicy(
        name=given["Name"],
        title=given.get("Title", given["Name"]),
        options=given["Options"],
        window_s=given.get("Window") or 86400,
        **texts,
    )


class _Reader:
    """Turns sections into values and notes what is wrong, so that all of it can be told at once."""

    def __init__(self, problems: list[str]) -> None:
        self._problems = problems
        self._keys = {(key.section, key.key): key for key in KEYS}

    def values(self, section: Section) -> dict[str, Any]:
        """Return the values of a section; nothing if one that must be there is missing."""
        found: dict[str, Any] = {}
        broken = set()
        for entry in section.entries:
            key = self._keys.get((section.name, entry.key))
            if key is None:
                if not entry.key.startswith("X-"):
                    names = [one.key for one in KEYS if one.section == section.name]
                    self._problems.append(f"{entry}: unknown{nearest(entry.key, names)}")
                continue
            if not entry.value:
                found[entry.key] = None
                continue
            try:
                value = key.kind.parse(entry.value)
            except SonarError as error:
                broken.add(entry.key)
                self._problems.append(f"{entry}: {error}")
                continue
            before = found.get(entry.key)
            found[entry.key] = before + value if key.kind.gathers and before else value
        missing = [
            key.key
            for key in KEYS
            if key.section == section.name
            and key.required
            and found.get(key.key) in (None, ())
            and key.key not in broken
        ]
        for name in missing:
            self._problems.append(f"{section.path}:{section.line}: [{section.name}] has no {name}=")
        is_whole = section.name == "Cluster" or not (missing or broken)
        return {key: value for key, value in found.items() if value is not None} if is_whole else {}

    def recipients(self, section: Section, into: dict[str, tuple[str, ...]]) -> None:
        for entry in section.entries:
            report = entry.key.lower()
            into[report] = (into.get(report, ()) + tuple(entry.value.split())) if entry.value else ()
            for address in entry.value.split():
                if "@" not in address.strip("@"):
                    self._problems.append(f"{entry}: {address[:80]!r} is no mail address")

    def features(self, given: tuple[str, ...] | None, entries: Sequence[Entry]) -> frozenset[str] | None:
        for word in given or ():
            if word not in FEATURES:
                entry = next(one for one in reversed(entries) if one.key == "Features" and word in one.value)
                self._problems.append(f"{entry}: {word[:80]!r} is none of {', '.join(FEATURES)}")
        return frozenset(given) if given is not None else None

    def nodes(self, sections: Sequence[tuple[Section, Mapping[str, Any]]], *, slurm: bool) -> dict[str, Node]:
        nodes: dict[str, Node] = {}
        for section, given in sections:
            if not given:
                continue
            at = f"{section.path}:{section.line}"
            node = Node(
                hostname="",
                description=given.get("Description", ""),
                cpu_cores=given["Cores"],
                mem_gb=round(given["Memory"] / (1 << 30)),
                gpu_cards=given.get("GPUs", 0),
                gpumem_gb=round(given.get("GPUMemory", 0) / (1 << 30)),
                gpumem_pct=given.get("GPUMemoryByPercent", False),
                cross_node_jobs=given.get("CrossNodeJobs", slurm),
            )
            if not node.cpu_cores or not node.mem_gb:
                self._problems.append(f"{at}: Cores= and Memory= must be at least 1 and 1G")
            if not node.gpu_cards and (node.gpumem_gb or node.gpumem_pct):
                self._problems.append(f"{at}: without GPUs= there is no GPU memory")
            self._add_nodes(nodes, node, given["Hosts"], at)
        return nodes

    def _add_nodes(self, nodes: dict[str, Node], node: Node, patterns: Sequence[str], at: str) -> None:
        for pattern in patterns:
            try:
                names = hosts.expand(pattern)
            except SonarError as error:
                self._problems.append(f"{at}: Hosts: {error}")
                continue
            if len(nodes) + len(names) > hosts.LARGEST_EXPANSION:
                self._problems.append(f"{at}: more than {hosts.LARGEST_EXPANSION} nodes")
                continue
            twice = [name for name in names if name in nodes]
            if twice:
                self._problems.append(f"{at}: Hosts: node {twice[0]} is described already")
            nodes.update((name, replace(node, hostname=name)) for name in names)

    def groups(self, sections: Sequence[tuple[Section, Mapping[str, Any]]]) -> tuple[Group, ...]:
        found: dict[str, Group] = {}
        for section, given in sections:
            if not given:
                continue
            name = given["Name"]
            if "/" in name or name.startswith(".") or name in found:
                what = "is there twice" if name in found else "is no part of a file name"
                self._problems.append(f"{section.path}:{section.line}: group {name[:80]!r} {what}")
            found[name] = Group(name=name, title=given.get("Title", name), nodes=given["Nodes"])
        return tuple(found.values())

    def policies(
        self, given: tuple[str, ...] | None, own: Mapping[str, OwnPolicy], features: frozenset[str], path: Path
    ) -> tuple[str, ...]:
        known = {*policy_names(), *own}
        names = (*default_policies(features), *own) if given is None else given
        names = tuple(name if name in own else OLD_NAMES.get(name, name) for name in names)
        for name in names:
            if name not in known:
                self._problems.append(f"{path}: Policies: no policy {name[:80]!r}{nearest(name, known)}")
        return tuple(dict.fromkeys(names))

    def aliases(self, names: Sequence[str], path: Path) -> tuple[ClusterName, ...]:
        found = []
        for name in names:
            try:
                found.append(cluster_name(name))
            except SonarError as error:
                self._problems.append(f"{path}: Aliases: {error}")
        return tuple(found)
