"""Answers become documents: the reports of naicreport, one module each, imported when asked for."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sonar.report.declare import Report
    from sonar.report.tables import TableReport

__all__ = ["NAMES", "OLD_NAMES", "TABLES", "report", "tables_by_name"]

# In the order that help lists them: the name of each report, where its declaration is.
NAMES = {
    "load": "load:REPORT",
    "at-a-glance": "glance:REPORT",
    "hostnames": "hostnames:REPORT",
    "violations": "violations:REPORT",
    "deadweight": "violations:DEADWEIGHT",
    "ml-cpuhog": "violations:ML_CPUHOG",
}
# Reports that are tables: the module sonar.report.NAME (with _ for -) holds the declaration as TABLE.
TABLES: tuple[str, ...] = ()
OLD_NAMES = {"ml-webload": "load", "ml-deadweight": "deadweight"}


def report(name: str) -> "Report":
    """Return the declaration of a report; `name` is one of NAMES or TABLES."""
    if name in TABLES:
        return tables_by_name()[name].report()
    module, _, place = NAMES[name].partition(":")
    declared: Report = getattr(import_module(f"sonar.report.{module}"), place)
    return declared


def tables_by_name() -> "dict[str, TableReport]":
    """Return the declarations of all reports that are tables."""
    return {name: import_module(f"sonar.report.{name.replace('-', '_')}").TABLE for name in TABLES}
