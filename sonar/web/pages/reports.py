"""The page of reports: the files that were made of a cluster, who they are for, and how old they are."""

from collections.abc import Mapping
from typing import Any

from sonar.web.freshness import age_text
from sonar.web.pages import Context, Page

__all__ = ["PAGE"]

_AUDIENCES = {"admin": "administrators", "login": "who can log in", "public": "everybody"}


def build(context: Context) -> Mapping[str, Any]:
    """Return the reports that one may read; of those of equal name the one for the fewest."""
    asker = context.asker
    files: dict[str, dict[str, Any]] = {}
    for directory in asker.reports_of(context.known_cluster):
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            if path.is_file() and not path.is_symlink() and not path.name.startswith(".") and path.name not in files:
                status = path.stat()
                files[path.name] = {
                    "audience": _AUDIENCES[directory.name], "bytes": status.st_size, "made": int(status.st_mtime),
                    "age": age_text(int(status.st_mtime), asker.now),
                }  # fmt: skip
    return {"title": "Reports", "files": sorted(files.items()), "has_reports": asker.clusters.reports is not None}


PAGE = Page("/c/{cluster}/reports", "reports.html", build, section="reports")
