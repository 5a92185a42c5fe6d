"""The page that describes the HTTP interface, from the same description as `/openapi.json`."""

from collections.abc import Mapping
from typing import Any

from sonar.web.openapi import described
from sonar.web.pages import Context, Page

__all__ = ["PAGE"]


def build(_context: Context) -> Mapping[str, Any]:
    """Return the operations by what they are about."""
    sections: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for path, item in described()["paths"].items():
        operation = item["get"]
        sections.setdefault(operation["tags"][0], []).append((path, operation))
    return {"title": "Interface", "sections": sections}


PAGE = Page("/api", "interface.html", build)
