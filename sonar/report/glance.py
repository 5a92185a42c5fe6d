"""The report at-a-glance: one row a host with its state, its jobs and its load, recent and longer.

naicreport(1) has the members of a row. In process the means slide over exactly the last half hour and the last twelve
hours; an external program gives the means of the half hour and half day that now is in.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonar.errors import SonarError
from sonar.hosts import names_in
from sonar.report.answers import FLAG, NODES, WINDOW, Answers, InProcess, answers_for
from sonar.report.declare import CONFIG, DATA, FROM, NOW, SONALYZE, STATE_DIR, TO, Call, Report
from sonar.report.jobstate import read_state
from sonar.times import DAY, MINUTE, minute_text, parse_instant
from sonar.verbs.declare import Option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sonar.config.nodes import NodeTable

__all__ = ["REPORT", "glance"]

RECENT, LONGER, LONG = 30, 720, 1440  # minutes
_QUANTITIES = {"cpu": "rcpu", "mem": "rmem", "gpu": "rgpu", "gpumem": "rgpumem"}
_RESIDENT = {"resident": "rres"}
_STATES = {"violators_long": "cpuhog-state.csv", "zombies_long": "deadweight-state.csv"}


@dataclass(slots=True)
class _Host:
    """What is gathered of one host before it becomes a row."""

    cpu_down: bool = False
    gpu_down: bool = False
    jobs: dict[int, int] = field(default_factory=lambda: {RECENT: 0, LONGER: 0})
    users: dict[int, set[str]] = field(default_factory=lambda: {RECENT: set(), LONGER: set()})
    means: dict[str, float | int | None] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    last_seen: int | None = None


def glance(
    answers: Answers, nodes: "NodeTable", state_dir: Path, tag: str, now: int, interval: int
) -> list[dict[str, Any]]:
    """Return the rows, sorted by host: those in the data, and those of violations in the last day."""
    hosts: dict[str, _Host] = {}
    silent = frozenset[str]()
    if isinstance(answers, InProcess):
        question: dict[str, Sequence[str]] = {"interval": [str(interval)], "only-up": [FLAG]}
        for row in answers.ask("uptime", question | {"fmt": ["json,host,device,end"]}):
            if row["device"] == "host":
                of_host = hosts.setdefault(row["host"], _Host())
                of_host.last_seen = max(of_host.last_seen or 0, _instant(row["end"]))
        silent = frozenset(host for host, one in hosts.items() if (one.last_seen or 0) <= now - RECENT * MINUTE)
    _add_jobs(hosts, answers, now, silent)
    _add_states(hosts, answers, interval)
    if isinstance(answers, InProcess):
        _add_sliding_means(hosts, answers, now)
    else:
        _add_means(hosts, answers, RECENT, "half-hourly")
        _add_means(hosts, answers, LONGER, "half-daily")
    for name, file in _STATES.items():
        for job in read_state(state_dir / file).jobs:
            if job.first_violation > now - DAY:
                counts = hosts.setdefault(job.host, _Host()).counts
                counts[name] = counts.get(name, 0) + 1
    in_process = isinstance(answers, InProcess)
    return [
        _row(host, hosts[host], nodes, tag, now, in_process=in_process) for host in sorted(hosts, key=str.encode)
    ]  # fmt: skip


def _add_jobs(hosts: dict[str, _Host], answers: Answers, now: int, silent: frozenset[str]) -> None:
    """Count jobs and users; a job counts on each of its hosts, and is over where the host has fallen silent."""
    question: dict[str, Sequence[str]] = {"user": ["-"], "fmt": ["json,host,user,classification,end"], WINDOW: ()}
    for row in answers.ask("jobs", question):
        end, is_live = _instant(row["end"]), int(row["classification"], 0) & 1
        for host in names_in(row["host"]):
            of_host = hosts.setdefault(host, _Host())
            for length in (RECENT, LONGER):
                if (is_live and host not in silent) or end > now - length * MINUTE:
                    of_host.jobs[length] += 1
                    of_host.users[length].add(row["user"])


def _add_states(hosts: dict[str, _Host], answers: Answers, interval: int) -> None:
    """Take whether host and GPUs are down from the last record of each host."""
    question = {"interval": [str(interval)], "fmt": ["json,host,device,state"], WINDOW: ()}
    for row in answers.ask("uptime", question):
        of_host = hosts.setdefault(row["host"], _Host())
        of_host.cpu_down = row["state"] == "down" and row["device"] == "host"
        of_host.gpu_down = row["state"] == "down"


def _add_means(hosts: dict[str, _Host], answers: Answers, length: int, slots: str) -> None:
    """Take the last slot of each host as its mean."""
    question = {slots: [FLAG], "fmt": ["json,host,rcpu,rmem,rgpu,rgpumem"], NODES: (), WINDOW: ()}
    for system in answers.ask("load", question):
        for row in system["records"][-1:]:
            means = hosts.setdefault(row["host"], _Host()).means
            means.update({_mean_name(name, length): _number(row[of]) for name, of in _QUANTITIES.items()})


def _add_sliding_means(hosts: dict[str, _Host], answers: InProcess, now: int) -> None:
    """Average the samples of the last half hour and the last twelve hours."""
    for host, series in answers.series(_QUANTITIES | _RESIDENT, since=now - LONGER * MINUTE).items():
        means = hosts.setdefault(host, _Host()).means
        for length in (RECENT, LONGER):
            of_length = series.since(now - length * MINUTE)
            means.update({_mean_name(name, length): value for name, value in of_length.items()})


def _mean_name(name: str, length: int) -> str:
    return f"{name}_{'recent' if length == RECENT else 'longer'}"


def _row(
    host: str, of_host: _Host, nodes: "NodeTable", tag: str, now: int, *, in_process: bool
) -> dict[str, Any]:  # fmt: skip
    """Return the members of a row, in the order that readers of old know."""
    node = nodes.get(host)
    quantities = ["cpu", "mem", *(["gpu", "gpumem"] if node is not None and node.gpu_cards else [])]
    row: dict[str, Any] = {"hostname": host}
    row |= {"tag": tag} if tag else {}
    row |= {"machine": node.description} if node is not None else {}
    row |= {"recent": RECENT, "longer": LONGER, "long": LONG}
    row |= {"cpu_status": int(of_host.cpu_down), "gpu_status": int(of_host.gpu_down)}
    row |= {f"jobs_{name}": of_host.jobs[length] for name, length in (("recent", RECENT), ("longer", LONGER))}
    row |= {f"users_{name}": len(of_host.users[length]) for name, length in (("recent", RECENT), ("longer", LONGER))}
    for name in quantities:
        for length in (RECENT, LONGER):
            row[_mean_name(name, length)] = of_host.means.get(_mean_name(name, length), 0)
    row |= {name: of_host.counts.get(name, 0) for name in _STATES}
    if in_process:
        row |= {name: of_host.means.get(name, 0) for name in ("resident_recent", "resident_longer")}
        row["last_seen"] = None if of_host.last_seen is None else minute_text(of_host.last_seen)
        row["stale"] = of_host.last_seen is None or of_host.last_seen <= now - RECENT * MINUTE
    return row


def _number(text: str) -> float | int | None:
    from sonar.report.load import number_of

    return number_of(text)


def _instant(text: str) -> int:
    instant = parse_instant(text.replace(" ", "T") + ":00Z")
    if instant is None:
        raise SonarError(f"sonalyze gives no time: {text!r}")
    return instant


def _run(call: Call) -> None:
    from sonar.config.nodes import read_nodes

    config, state_dir = call.required("config-file", "state-dir")
    answers = answers_for(call)
    rows = glance(answers, _checked(read_nodes(config), config), state_dir, call.text("tag"), call.now, _interval(call))
    # Readers of old know the answer without rows as these two characters and nothing else.
    call.out.write(json.dumps(rows, ensure_ascii=False, separators=(",", ":")) + "\n" * bool(rows))


def _interval(call: Call) -> int:
    return call.count("interval", 4)


def _checked(nodes: "NodeTable", path: Path) -> "NodeTable":
    """Return the nodes; raise SonarError for one without cores or memory, of which nothing can be a share."""
    for node in nodes.values():
        if not node.cpu_cores or not node.mem_gb:
            raise SonarError(f"'{path}': Nonsensical CPU/memory information for {node.hostname}")
    return nodes


REPORT = Report(
    "at-a-glance",
    "Print state, jobs and load of each host, recent and longer",
    (
        SONALYZE,
        CONFIG,
        STATE_DIR,
        DATA,
        Option("tag", "put into each row", metavar="TEXT"),
        Option("interval", "minutes between samples; a gap of more than twice that is down time", metavar="MINUTES"),
        FROM,
        TO,
        NOW,
    ),
    _run,
    old_options={"data-path": "data-dir", "state-path": "state-dir"},
)
