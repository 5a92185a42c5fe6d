"""Inputs that reach ever more code, kept to invariants: each module here with a `check` is a target of the fuzzer.

`check(data)` returns if all holds of what is made of these bytes, and raises whatever else: the errors that code may
raise at bad input it takes for an answer. Seeds lie in `corpus/TARGET`, and every input that broke something is added
there. `python -m tests.fuzz` looks for more, with atheris; `test_corpus.py` tries those that are known.
"""

import importlib
from collections.abc import Callable
from pathlib import Path

__all__ = ["check_of", "seeds_of", "targets"]

_CORPUS = Path(__file__).with_name("corpus")


def targets() -> list[str]:
    """Return the names of all targets."""
    return sorted(path.name for path in _CORPUS.iterdir())


def seeds_of(target: str) -> Path:
    """Return the directory of a target's seeds."""
    return _CORPUS / target


def check_of(target: str) -> Callable[[bytes], None]:
    """Import the check of a target."""
    check: Callable[[bytes], None] = importlib.import_module(f"{__name__}.{target}").check
    return check
