"""The report unused-capacity: what nodes have and what of it nobody used, by kind of node."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sonar.report.tables import Column, Row, Table, TableReport
from sonar.report.usage import share

if TYPE_CHECKING:
    from sonar.config.nodes import Node
    from sonar.report.survey import Survey

__all__ = ["TABLE", "mean_loads"]


def mean_loads(survey: "Survey", slots: str = "daily") -> dict[str, dict[str, float]]:
    """Return the mean load of each host over its slots that have samples: cores, cards, and GB of resident memory."""
    result = survey.ask("load", {slots: ("true",), "compact": ("true",)})
    names = {"cores": ("cpu", 100), "cards": ("gpu", 100), "res": ("res", 1), "gpumem": ("gpumem", 1)}
    found = {}
    for title, first, length in result.blocks or ():
        rows = result.rows.slice(first, length)
        columns: dict[str, list[Any]] = {name: rows.column(of).to_pylist() for name, (of, _) in names.items()}
        found[title] = {
            name: sum(columns[name]) / len(columns[name]) / names[name][1] if columns[name] else 0.0 for name in names
        }
    return found


def make(survey: "Survey", given: Mapping[str, str]) -> Table:
    """Return a row for each kind of node, by its description, and one for all."""
    del given
    loads = mean_loads(survey)
    kinds: dict[str, list[Node]] = {}
    for host in sorted(loads):
        if host in survey.nodes:
            kinds.setdefault(survey.nodes[host].description or "no description", []).append(survey.nodes[host])
    rows = [_row(kind, nodes, loads) for kind, nodes in sorted(kinds.items())]
    if rows:
        rows.append(_row("all", [node for nodes in kinds.values() for node in nodes], loads))
    return Table(rows, {"not-described": len([host for host in loads if host not in survey.nodes])})


def _row(kind: str, nodes: "Sequence[Node]", loads: Mapping[str, Mapping[str, float]]) -> Row:
    def used(name: str) -> float:
        return sum(loads[node.hostname][name] for node in nodes)

    cores, memory = sum(node.cpu_cores for node in nodes), sum(node.mem_gb for node in nodes)
    cards = sum(node.gpu_cards for node in nodes)
    return {
        "nodes-like": kind,
        "nodes": len(nodes),
        "cores": cores,
        "unused-cores": round(max(cores - used("cores"), 0), 1),
        "cpu": share(used("cores"), cores),
        "memory": memory,
        "unused-memory": round(max(memory - used("res"), 0), 1),
        "mem": share(used("res"), memory),
        "cards": cards,
        "unused-cards": round(max(cards - used("cards"), 0), 1),
        "gpu": share(used("cards"), cards) if cards else None,
    }


TABLE = TableReport(
    name="unused-capacity",
    title="Unused capacity",
    summary="Tell how much of the cores, memory and GPUs nobody used",
    columns=(
        Column("nodes-like", "text", "description of the nodes, or all"),
        Column("nodes", "count", "nodes with samples"),
        Column("cores", "count", "cores"),
        Column("unused-cores", "number", "cores that were idle, on average"),
        Column("cpu", "number", "share of the cores used", "%"),
        Column("memory", "count", "memory", "GB"),
        Column("unused-memory", "number", "memory without resident data, on average", "GB"),
        Column("mem", "number", "share of the memory used", "%"),
        Column("cards", "count", "GPUs"),
        Column("unused-cards", "number", "GPUs that were idle, on average"),
        Column("gpu", "number", "share of the GPUs used", "%"),
    ),
    make=make,
    window="30d",
)
