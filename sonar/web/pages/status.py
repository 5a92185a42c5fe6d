"""The page for administrators: the server itself, its disk, and how fresh each cluster's data are."""

import os
import shutil
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sonar.errors import SonarError
from sonar.places import ObjectPath
from sonar.serve.passwords import Role
from sonar.web.freshness import age_text, level_of
from sonar.web.pages import Context, Page

if TYPE_CHECKING:
    from sonar.web.site import Site

__all__ = ["PAGE"]

_STARTED = time.time()


def of_server(site: "Site") -> dict[str, Any]:
    """Return the facts that only the server's own process knows."""
    workers, limits = site.workers, site.limits
    return {
        "pid": os.getpid(),
        "since": int(_STARTED),
        "lanes": [(lane.value, workers.running[lane], workers.waiting[lane]) for lane in workers.running],
        "ended": dict(workers.ended),
        "limits": {
            "questions at a time": limits.questions,
            "pages at a time": limits.pages,
            "may wait": limits.waiting,
            "seconds for each": f"{limits.time_s:g}",
            "memory for each, MiB": limits.memory_bytes >> 20,
        },
        "people": len(site.identities) if site.identities is not None else None,
        "plain": site.identities.in_plain_text if site.identities is not None else 0,
    }


def build(context: Context) -> Mapping[str, Any]:
    """Return the state of the server and of each cluster's data."""
    asker = context.asker
    data = asker.clusters.data
    disk = None if isinstance(data, ObjectPath) else shutil.disk_usage(data)
    clusters = []
    for name in asker.cluster_names():
        try:
            seen = [row["latest"] for row in asker.ask("metadata", name, {"from": ["1d"]}).rows]
        except SonarError:
            seen = []
        newest = max(seen, default=None)
        live = sum(level_of(one, asker.now) == "live" for one in seen)
        clusters.append((name, level_of(newest, asker.now), age_text(newest, asker.now), len(seen), live))
    return {
        "title": "Status",
        "server": context.server,
        "started": age_text(context.server["since"], asker.now),
        "disk": disk
        and {"free": disk.free >> 30, "total": disk.total >> 30, "used": round(100 * disk.used / disk.total)},
        "clusters": clusters,
    }


PAGE = Page("/status", "status.html", build, needs=Role.ADMIN, of_server=of_server)
