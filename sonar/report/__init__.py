"""Answers become documents: the reports of naicreport, one module each, imported when asked for."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sonar.report.declare import Report

__all__ = ["NAMES", "OLD_NAMES", "report"]

# In the order that help lists them: the name of each report, where its declaration is.
NAMES = {
    "load": "load:REPORT",
    "at-a-glance": "glance:REPORT",
    "hostnames": "hostnames:REPORT",
    "violations": "violations:REPORT",
    "deadweight": "violations:DEADWEIGHT",
    "ml-cpuhog": "violations:ML_CPUHOG",
}
OLD_NAMES = {"ml-webload": "load", "ml-deadweight": "deadweight"}


def report(name: str) -> "Report":
    """Return the declaration of a report; `name` is one of NAMES."""
    module, _, place = NAMES[name].partition(":")
    declared: Report = getattr(import_module(f"sonar.report.{module}"), place)
    return declared
