"""The server of the ingest tests, for its ledger."""

from tests.ingest.conftest import password_file, start

__all__ = ["password_file", "start"]
