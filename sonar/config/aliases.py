"""The file of cluster aliases: `[{"alias": "fox", "value": "fox.example.org"}, ...]`."""

import json
from pathlib import Path

from sonar.errors import SonarError
from sonar.names import ClusterName, cluster_name

__all__ = ["read_aliases"]

_LARGEST_FILE = 16 << 20


def read_aliases(path: Path) -> dict[str, ClusterName]:
    """Return the cluster of each alias; raise SonarError, naming the file and the place in it, if it is bad.

    An alias that is there twice counts as it is given last; unknown keys are ignored.
    """
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_LARGEST_FILE))
    except OSError as error:
        raise SonarError(f"cannot read aliases '{path}': {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise SonarError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, list):
        raise SonarError(f"{path}: want a list of objects with 'alias' and 'value'")
    aliases: dict[str, ClusterName] = {}
    for number, entry in enumerate(content):
        alias, value = (entry.get("alias"), entry.get("value")) if isinstance(entry, dict) else (None, None)
        if not isinstance(alias, str) or not isinstance(value, str):
            raise SonarError(f"{path}: [{number}]: want an object with 'alias' and 'value'")
        try:
            aliases[cluster_name(alias)] = cluster_name(value)
        except SonarError as error:
            raise SonarError(f"{path}: [{number}]: {error}") from None
    return aliases
