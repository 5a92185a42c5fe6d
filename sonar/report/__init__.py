"""Answers become documents: the reports of naicreport, one module each, imported when asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sonar.report.declare import Report
    from sonar.report.tables import TableReport

__all__ = ["NAMES", "OLD_NAMES", "TABLES", "report", "table"]

# In the order that help lists them: the name of each report, where its declaration is.
NAMES = {
    "load": "load:REPORT",
    "at-a-glance": "glance:REPORT",
    "hostnames": "hostnames:REPORT",
    "violations": "violations:REPORT",
    "deadweight": "violations:DEADWEIGHT",
    "ml-cpuhog": "violations:ML_CPUHOG",
    "explain": "backtest:EXPLAIN",
    "backtest": "backtest:REPORT",
    "remake": "remake:REPORT",
    "schema": "schema:REPORT",
}
# Reports that are tables: the same.
TABLES = {
    "silent-nodes": "silent_nodes:TABLE",
    "downtime": "downtime:TABLE",
    "top-users": "top:USERS",
    "top-accounts": "top:ACCOUNTS",
    "top-commands": "top:COMMANDS",
    "software": "software:TABLE",
    "misfits": "misfits:TABLE",
    "right-sizing": "right_sizing:TABLE",
    "unused-capacity": "capacity:TABLE",
    "utilization": "utilization:TABLE",
    "ingest-health": "ingest_health:TABLE",
    "monitoring-cost": "monitoring_cost:TABLE",
}
OLD_NAMES = {"ml-webload": "load", "ml-deadweight": "deadweight"}


def report(name: str) -> "Report":
    """Return the declaration of a report; `name` is one of NAMES or TABLES."""
    declared: Report = table(name).report() if name in TABLES else _declared(NAMES[name])
    return declared


def table(name: str) -> "TableReport":
    """Return the declaration of a report that is a table; `name` is one of TABLES."""
    declared: TableReport = _declared(TABLES[name])
    return declared


def _declared(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"sonar.report.{module}"), name)
