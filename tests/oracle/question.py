"""A question, and which samples and hosts it is about."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tests.oracle.records import Sample, samples_of

DAY = 86400
GB = 1 << 20
Files = list[tuple[str, bytes]]
Options = dict[str, list[str]]


@dataclass(frozen=True)
class Question:
    """What is asked: options by their long names, whose account asks, when, and what the nodes have."""

    options: Options
    account: str = "ann"
    now: int = 0
    nodes: dict[str, dict[str, Any]] | None = None
    clusters: dict[str, tuple[list[str], str]] = field(default_factory=dict)  # aliases and title of each

    def has(self, name: str) -> bool:
        return name in self.options

    def one(self, name: str, default: Any = None) -> Any:
        return self.options[name][0] if name in self.options else default

    def all(self, name: str) -> list[str]:
        return self.options.get(name, [])


@dataclass(frozen=True)
class Asked:
    """A question and the log that it is about: the limits that select, None for one that does not, and the samples."""

    verb: str
    question: Question
    files: Files
    tree: bool
    start: Any
    end: Any
    samples: list[Sample]

    def within(self, time: int) -> bool:
        return (self.start is None or time >= self.start) and (self.end is None or time <= self.end)

    def wants(self, fields: set[str]) -> bool:
        """Whether some of these fields are asked for."""
        return bool(fields & set(self.question.one("fmt", "").split(",")))

    def about(self, host: str) -> bool:
        return not self.question.has("host") or any(matches(host, p) for p in self.question.all("host"))

    @property
    def window(self) -> tuple[int, int]:
        """The limits, inferred from the samples where none is given; without samples, the last day."""
        times = [sample["time"] for sample in self.samples] or [self.question.now]
        first = min(times) if self.samples else self.question.now - DAY
        return first if self.start is None else self.start, max(times) if self.end is None else self.end


def asked(verb: str, question: Question, files: Files, *, tree: bool, days: int = 1) -> Asked:
    start = limit(question.one("from"), question.now, end=False)
    end = limit(question.one("to"), question.now, end=True)
    if tree:
        start, end = question.now - days * DAY if start is None else start, question.now if end is None else end
    return Asked(verb, question, files, tree, start, end, read(question, files, start, end, tree=tree))


def read(question: Question, files: Files, start: Any, end: Any, *, tree: bool) -> list[Sample]:
    """Return the samples that are read, in order."""
    names = sorted(files) if tree else files
    by_envelope: set[tuple[str, int]] = set()
    samples: list[Sample] = []
    for is_json in (True, False):
        for name, content in names:
            if tree and not (of_days(name, start, end) and has_samples(name)):
                continue
            of_json, found = samples_of(name, content, tree=tree)
            if of_json != is_json:
                continue
            found = [sample for sample in found if is_json or (sample["host"], sample["time"]) not in by_envelope]
            if is_json:
                by_envelope |= {(sample["host"], sample["time"]) for sample in found}
            samples += found
    if tree:
        samples = [sample for sample in samples if start // DAY <= sample["time"] // DAY <= end // DAY]
    if question.has("host"):
        samples = [sample for sample in samples if any(matches(sample["host"], p) for p in question.all("host"))]
    return samples


def has_samples(name: str) -> bool:
    """Whether a file of a tree is called as those of samples are."""
    base = name.rpartition("/")[2]
    return base.startswith("0+sample-") or (base.endswith(".csv") and base != "slurm-sacct.csv")


def of_days(name: str, start: int, end: int) -> bool:
    day = date(*map(int, name.split("/")[:3]))
    first, last = (datetime.fromtimestamp(at, UTC).date() for at in (start, end))
    return first - timedelta(days=1) <= day <= last + timedelta(days=1)


def limit(text: str | None, now: int, *, end: bool) -> Any:
    if text is None:
        return None
    if text[-1] in "dw":
        return now - int(text[:-1]) * DAY * (7 if text[-1] == "w" else 1)
    midnight = int(datetime(*map(int, text.split("-")), tzinfo=UTC).timestamp())  # type: ignore[misc,arg-type]
    return midnight + DAY - 1 if end else midnight


def matches(host: str, pattern: str) -> bool:
    """Whether a host matches a pattern of elements, each of which may end in `*`."""
    elements, parts = pattern.split("."), host.split(".")
    return len(elements) <= len(parts) and all(
        part.startswith(element[:-1]) if element.endswith("*") else part == element
        for element, part in zip(elements, parts, strict=False)
    )


def passes(sample: Sample, log: Asked) -> bool:
    verb, question = log.verb, log.question
    users, excluded = set(question.all("user")), set(question.all("exclude-user"))
    commands, no_commands = question.all("command"), set(question.all("exclude-command"))
    only_own = verb in ("jobs", "job", "profile") and not any(
        map(question.has, ("user", "job", "exclude-user", "zombie"))
    )
    if only_own:
        users = {question.account}
    if verb in ("jobs", "job", "profile") and question.has("job"):
        excluded |= {"root", "zabbix"}
    if verb in ("jobs", "job", "load"):
        no_commands |= {"bash", "zsh", "sshd", "tmux", "systemd"}
    if verb in ("jobs", "job", "profile"):
        no_commands |= {"_heartbeat_"}
    return (
        (not users or "-" in users or sample["user"] in users)
        and sample["user"] not in excluded
        and (not commands or sample["cmd"] in commands)
        and sample["cmd"] not in no_commands
        and (not question.has("job") or str(sample["job"]) in question.all("job"))
        and str(sample["job"]) not in question.all("exclude-job")
        and not (question.has("exclude-system-jobs") and 0 < sample["pid"] < 1000)
        and log.within(sample["time"])
    )
