"""The interface `/api/v2`: facts and series of clusters and nodes as JSON (placeholder filled below)."""

from typing import Any

__all__ = ["described_paths"]


def described_paths() -> dict[str, Any]:
    """Return the descriptions of the paths."""
    return {}
