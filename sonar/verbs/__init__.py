"""The verbs of sonalyze: one module each, imported when asked for."""

from importlib import import_module
from typing import TYPE_CHECKING

import sonar

if TYPE_CHECKING:
    from sonar.verbs.declare import Verb

__all__ = ["ALIASES", "NAMES", "VERSION", "verb"]

# In the order that help lists them. The module sonar.verbs.NAME holds the declaration as VERB.
NAMES = (
    "jobs", "job", "explain", "load", "uptime", "profile", "parse", "metadata",
    "cluster", "config", "node", "card", "gpu", "nodeprof", "diskprof", "top",
    "sacct", "snode", "spart", "report",
)  # fmt: skip

# What `version` prints, here and of a server; scripts look for features in it.
VERSION = f"sonalyze version({sonar.__version__}) features(untagged_sonar_data)"

# Names that newer versions of the original have given to some.
ALIASES = {"sample": "parse", "meta": "metadata"}


def verb(name: str) -> "Verb":
    """Return the declaration of a verb; `name` is one of NAMES or ALIASES."""
    declared: Verb = import_module(f"sonar.verbs.{ALIASES.get(name, name)}").VERB
    return declared
