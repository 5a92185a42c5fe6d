"""Host patterns: one is an error, or the names it stands for match it and can be written as one again."""

import re

from sonar.errors import SonarError
from sonar.hosts import HostPatterns, compress, expand

__all__ = ["check"]

_NAME = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_MOST_NAMES = 200


def check(data: bytes) -> None:
    """Read a pattern."""
    text = data.decode(errors="replace")
    try:
        patterns = HostPatterns.parse([text])
        names = expand(text, wildcards=True)
    except SonarError as error:
        assert "\n" not in str(error)
        return
    plain = [name for name in names if _NAME.fullmatch(name)]
    if len(plain) <= _MOST_NAMES:
        assert all(map(patterns.match, plain))
        assert not plain or set(expand(compress(plain))) == set(plain)
