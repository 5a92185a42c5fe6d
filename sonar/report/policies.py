"""Policies: what is not welcome on a cluster, as data: which jobs to look at, what makes one an offender, what to say.

A policy is one file NAME.policy, see sonar-policy(5). A site's own files go before those shipped beside this module.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sonar.config import values
from sonar.config.policies import OLD_NAMES, SHIPPED, SITE_DIRECTORY, SUFFIX, policy_names
from sonar.config.sections import Section, nearest, read_sections
from sonar.config.values import Kind
from sonar.errors import ConfigError, SonarError, UsageError

__all__ = [
    "KEYS",
    "Condition",
    "Key",
    "Policy",
    "options_of_words",
    "policy",
    "read_policy",
]

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}", re.ASCII)
_CONDITION = re.compile(r"\s*([a-z][a-z0-9-]*)\s*(<=|>=|==|!=|<|>)\s*(?:([a-z][a-z0-9-]*)|([0-9]+(?:\.[0-9]+)?))\s*")
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of a measure with a number or another measure, as it was written."""

    measure: str
    operator: str
    other: str | float

    def __str__(self) -> str:
        return f"{self.measure} {self.operator} {self.other}"

    def holds(self, measures: Mapping[str, float | None]) -> bool | None:
        """Return whether it holds; None if a measure is not known, and nobody is judged by what is not known."""
        left = measures.get(self.measure)
        right = measures.get(self.other) if isinstance(self.other, str) else self.other
        return None if left is None or right is None else _OPERATORS[self.operator](left, right)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One policy, as sonar-policy(5) has it; lengths are seconds, shares percent."""

    name: str
    title: str
    heading: str = ""
    trigger: str = ""
    problem: str = ""
    remedy: str = ""
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of `sonalyze jobs`, by name
    per: str = "job"
    window_s: int = 86400
    fields: tuple[str, ...] = ()
    select_where: tuple[Condition, ...] = ()  # on jobs, where users are judged
    where: tuple[Condition, ...] = ()
    min_coverage: int = 0
    idle_s: int = 0  # length of the sliding window in which GPUs that are held are not used; 0: not looked at
    idle_gpu: int = 5
    idle_gpumem: int = 100
    except_users: tuple[str, ...] = ()
    except_hosts: tuple[str, ...] = ()
    except_commands: tuple[str, ...] = ()
    except_accounts: tuple[str, ...] = ()
    except_partitions: tuple[str, ...] = ()
    old_tags: tuple[str, ...] = ()
    letters: bool = False
    source: Path | None = field(default=None, compare=False)

    @property
    def tags(self) -> frozenset[str]:
        """The tags of its records in the log of scans."""
        return frozenset({self.name, *self.old_tags})


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the file: the row from which the parser, the manual and the tests come."""

    section: str
    key: str
    kind: Kind[Any]
    attribute: str
    help: str


KEYS = (
    Key("Policy", "Title", values.TEXT, "title", "What people call it."),
    Key("Policy", "Heading", values.TEXT, "heading", "Begins the paragraph about an offender; by default of Title=."),
    Key("Policy", "Trigger", values.TEXT, "trigger", "What is seen."),
    Key("Policy", "Problem", values.TEXT, "problem", "Why that is a problem."),
    Key("Policy", "Remedy", values.TEXT, "remedy", "What the job's owner can do."),
    Key("Policy", "Options", values.COMMAND, "options", "Options of sonalyze jobs that select the jobs to judge."),
    Key("Policy", "Per", values.choice("job", "user"), "per", "Whether jobs are judged, or users by all their jobs."),
    Key("Policy", "Window", values.SPAN, "window_s", "How far back each scan looks."),
    Key("Policy", "Fields", values.WORDS, "fields", "Measures that the report shows."),
    Key("Policy", "OldTags", values.WORDS, "old_tags", "Names by which old logs of scans know it."),
    Key("Policy", "Letters", values.BOOLEAN, "letters", "Whether offenders may get a letter."),
    Key("Select", "Where", values.TEXT, "select_where", "A condition on a job before users are judged."),
    Key("Judge", "Where", values.TEXT, "where", "A condition on measures; all must hold."),
    Key("Judge", "MinCoverage", values.PERCENT, "min_coverage", "Share of a job's samples that must be there."),
    Key("Idle", "Length", values.SPAN, "idle_s", "How long GPUs must have been held without use."),
    Key("Idle", "GPU", values.PERCENT, "idle_gpu", "Mean utilization of a card below which it is not used."),
    Key("Idle", "GPUMemory", values.PERCENT, "idle_gpumem", "Share of its memory up to which it counts as idle."),
    Key("Except", "Users", values.WORDS, "except_users", "Users who are never offenders."),
    Key("Except", "Hosts", values.HOSTS, "except_hosts", "Hosts that are not looked at."),
    Key("Except", "Commands", values.WORDS, "except_commands", "Commands that excuse a job."),
    Key("Except", "Accounts", values.WORDS, "except_accounts", "Slurm accounts that are not looked at."),
    Key("Except", "Partitions", values.WORDS, "except_partitions", "Slurm partitions that are not looked at."),
)


def policy(name: str, directory: Path | None = None) -> Policy:
    """Return a policy by name; a site's own file goes before the shipped one. Raise UsageError if there is none."""
    name = OLD_NAMES.get(name, name)
    if _NAME.fullmatch(name):
        for place in (directory or SITE_DIRECTORY, SHIPPED):
            if (place / f"{name}{SUFFIX}").exists():
                return read_policy(place / f"{name}{SUFFIX}")
    known = policy_names(directory)
    raise UsageError(f"there is no policy {name[:80]!r}{nearest(name, known)}; there are {', '.join(known)}")


def read_policy(path: Path) -> Policy:
    """Return the policy in a file. Raise ConfigError with all that is wrong in it, each with its line."""
    if not _NAME.fullmatch(path.stem):
        raise ConfigError([f"{path}: {path.stem!r} is no name of a policy: small letters, digits and -"])
    problems: list[str] = []
    found = _values(path, problems)
    if "title" not in found:
        problems.append(f"{path}: [Policy] has no Title=")
    if problems:
        raise ConfigError(problems)
    return Policy(name=path.stem, **found)


def options_of_words(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the options of `sonalyze jobs` in words, by name; raise SonarError for what that does not take."""
    from sonar import verbs
    from sonar.verbs.declare import OptionType
    from sonar.verbs.parameters import check_options, options_of

    verb = verbs.verb("jobs")
    flags = {option.name for option in options_of(verb) if option.type is OptionType.FLAG}
    found: dict[str, tuple[str, ...]] = {}
    rest = list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--"):
            raise SonarError(f"{name!r} is no option; long names only")
        name = name[2:]
        if name in {"from", "to", "fmt", "numjobs"}:
            raise SonarError(f"--{name} does not belong here")
        if name in flags:
            value = "true"
        elif not equals:
            if not rest:
                raise SonarError(f"--{name} has no value")
            value = rest.pop(0)
        found[name] = (*found.get(name, ()), value)
    try:
        check_options(verb, found)
    except UsageError as error:
        raise SonarError(str(error)) from None
    return found


def _values(path: Path, problems: list[str]) -> dict[str, Any]:
    """Return the attributes that a file gives, those of the policy that it extends under its own."""
    try:
        sections = read_sections(path)
    except ConfigError as error:
        problems += error.problems
        return {}
    found: dict[str, Any] = {}
    base = [entry for section in sections for entry in section.entries if entry.key == "Extends"]
    for entry in base[:1]:
        under = SHIPPED / f"{entry.value}{SUFFIX}"
        if not _NAME.fullmatch(entry.value) or not under.exists() or under == path:
            problems.append(f"{entry}: there is no shipped policy {entry.value[:80]!r}")
        else:
            found = _values(under, problems)
    own: dict[str, Any] = {}
    for section in sections:
        _read_section(section, own, problems)
    return found | own | {"source": path}


def _read_section(section: Section, found: dict[str, Any], problems: list[str]) -> None:
    keys = {key.key: key for key in KEYS if key.section == section.name}
    if not keys and not section.name.startswith("X-"):
        known = nearest(section.name, {key.section for key in KEYS})
        problems.append(f"{section.path}:{section.line}: unknown section [{section.name}]{known}")
        return
    for entry in section.entries:
        key = keys.get(entry.key)
        if key is None:
            if not entry.key.startswith("X-") and (section.name, entry.key) != ("Policy", "Extends"):
                problems.append(f"{entry}: unknown{nearest(entry.key, keys)}")
            continue
        try:
            value = key.kind.parse(entry.value)
            if key.attribute in {"where", "select_where"}:
                value = (*found.get(key.attribute, ()), _condition(value)) if value else ()
            elif key.attribute == "options":
                value = options_of_words(value)
            elif key.kind.gathers and entry.value:
                value = (*found.get(key.attribute, ()), *value)
        except SonarError as error:
            problems.append(f"{entry}: {error}")
        else:
            found[key.attribute] = value


def _condition(text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    if not match:
        raise SonarError(f"{text[:80]!r} is no condition such as 'cpu-peak >= 10'")
    measure, sign, other, number = match.groups()
    return Condition(measure, sign, other if number is None else float(number))
