"""For all tests: no secret may be seen while they run."""

import pytest

from tests.secret_watch import SecretWatch


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SecretWatch(), "secret-watch")
