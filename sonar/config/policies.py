"""Policies: which there are, and the rules that a cluster's description writes itself.

A policy is a file NAME.policy, sonar-policy(5), which `sonar.report.policies` reads: a site's own, or one that is
shipped. Here are only their names.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sonar.paths import CONFIG

__all__ = ["OLD_NAMES", "SHIPPED", "SITE_DIRECTORY", "SUFFIX", "OwnPolicy", "default_policies", "policy_names"]

SUFFIX: Final = ".policy"
SITE_DIRECTORY: Final = CONFIG / "policies"
SHIPPED: Final = Path(__file__).parents[1] / "report" / "shipped"
OLD_NAMES: Final = {"ml-cpuhog": "cpuhog", "ml-deadweight": "deadweight"}

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPolicy:
    """A rule in a cluster's description.

    `options` are those of `sonalyze jobs` which find the jobs that break it, within the last `window_s` seconds. The
    texts are for the notice: what is seen, why that is a problem, and what its owner can do.
    """

    name: str
    title: str
    options: tuple[str, ...]
    window_s: int = 86400
    trigger: str = ""
    problem: str = ""
    remedy: str = ""


def policy_names(directory: Path | None = None) -> list[str]:
    """Return the names of all policies that have a file, sorted; `directory` instead of the site's own."""
    places = [place for place in (directory or SITE_DIRECTORY, SHIPPED) if place.is_dir()]
    found = {path.stem for place in places for path in place.glob(f"*{SUFFIX}")}
    return sorted(name for name in found if _NAME.fullmatch(name))


def default_policies(features: frozenset[str]) -> tuple[str, ...]:
    """Return the names of the policies that apply to a cluster that names none: the two of the original."""
    return ("deadweight", "cpuhog") if "gpu" in features else ("deadweight",)
