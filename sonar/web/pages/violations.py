"""The pages of violations: who breaks which policy of a cluster, and the letters about that.

They show the reports `violations.json` and `letters.json` that sonarctl-report(8) publishes, cut to what the asker may
see.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sonar.errors import SonarError
from sonar.names import ClusterName
from sonar.web.freshness import age_text
from sonar.web.pages import Context, Page
from sonar.web.privacy import own_records

__all__ = ["LETTERS", "PAGE"]

_LARGEST = 64 << 20


def build(context: Context) -> Mapping[str, Any]:
    """Return the violations that one may see, by user and by job."""
    document, made = _report(context, "violations.json")
    rows = own_records(document.get("rows", []), context.asker.who)
    rows = sorted(rows, key=lambda row: str(row.get("last-seen", "")), reverse=True)
    users: dict[str, dict[str, Any]] = {}
    for row in rows:
        of_user = users.setdefault(str(row.get("user", "")), {"number": 0, "first": "~", "last": "", "policies": set()})
        of_user["number"] += 1
        of_user["first"] = min(of_user["first"], str(row.get("first-violation", "")))
        of_user["last"] = max(of_user["last"], str(row.get("last-seen", "")))
        of_user["policies"].add(str(row.get("policy", "")))
    return {
        "title": "Violations",
        "made": made,
        "age": age_text(made, context.asker.now),
        "policies": {str(policy.get("name")): policy for policy in document.get("policies", [])},
        "rows": rows,
        "users": sorted(users.items()),
        "is_restricted": context.asker.who.accounts is not None,
    }


def build_letters(context: Context) -> Mapping[str, Any]:
    """Return the letters to one user."""
    user = context.path["user"]
    letters, made = _report(context, "letters.json")
    found = own_records(letters if isinstance(letters, list) else [], context.asker.who)
    return {
        "title": f"Letters to {user}",
        "user": user,
        "made": made,
        "age": age_text(made, context.asker.now),
        "letters": [letter for letter in found if letter.get("user") == user],
    }


def _report(context: Context, name: str) -> tuple[Any, int | None]:
    """Return a report about people, and the instant when it was made; an empty one if there is none."""
    path = _path(context, context.known_cluster, name)
    if path is None or not path.is_file():
        return {}, None
    try:
        with path.open("rb") as file:
            return json.loads(file.read(_LARGEST)), int(path.stat().st_mtime)
    except OSError as error:
        raise SonarError(f"report {name!r} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SonarError(f"report {name!r} is not JSON: {error}") from None


def _path(context: Context, cluster: ClusterName, name: str) -> Path | None:
    reports = context.asker.clusters.reports
    return reports / cluster / "admin" / name if reports is not None else None


PAGE = Page("/c/{cluster}/violations", "violations.html", build, section="violations")
LETTERS = Page("/c/{cluster}/violations/{user}", "letters.html", build_letters, section="violations")
