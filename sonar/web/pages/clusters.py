"""The first page: the clusters that one may ask about."""

from collections.abc import Mapping
from typing import Any

from sonar.web.pages import Context, Page

__all__ = ["PAGE"]


def build(context: Context) -> Mapping[str, Any]:
    """Return the clusters."""
    return {"title": "Clusters", "clusters": context.asker.cluster_names()}


PAGE = Page("/", "clusters.html", build)
