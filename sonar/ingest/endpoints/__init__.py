"""The upload endpoints: each module here has a tuple `ENDPOINTS`, and to add one is to add a module."""

import importlib
import pkgutil
import re
from functools import lru_cache

from sonar.ingest.post import Endpoint

__all__ = ["find_endpoint"]


@lru_cache(maxsize=1)
def _table() -> tuple[tuple[re.Pattern[str], Endpoint], ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return tuple((re.compile(endpoint.path), endpoint) for module in modules for endpoint in module.ENDPOINTS)


@lru_cache(maxsize=256)
def find_endpoint(path: str) -> tuple[Endpoint, str] | None:
    """Return the endpoint of a request path and the argument in it; None if there is no such place."""
    for pattern, endpoint in _table():
        if match := pattern.fullmatch(path):
            return endpoint, match.group(1) if pattern.groups else ""
    return None
