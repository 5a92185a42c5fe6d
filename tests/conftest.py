"""For all tests: no secret may be seen while they run, and no property depends on how busy the machine is."""

import pytest
from hypothesis import HealthCheck, settings

from tests.secret_watch import SecretWatch

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SecretWatch(), "secret-watch")
