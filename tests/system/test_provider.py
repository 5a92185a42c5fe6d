"""The example of a provider under a real systemd: the drop-in as it is shipped, and somebody who logs in."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import Machine

pytestmark = pytest.mark.system

UNIT = "sonar-sonalyzed.service"
EXAMPLES = "usr/share/sonar-server/examples/examples"
DROP_IN = f"/etc/systemd/system/{UNIT}.d/oidc.conf"
PORT = 9000
JAR = "/run/cookies"
PROVIDER = Path(__file__).resolve().parents[1] / "web" / "small_provider.py"


@pytest.fixture
def place(machine: Machine) -> Iterator[Machine]:
    """A query server that knows a provider, which says of everybody that it is one of the administrators."""
    example = (machine.root / EXAMPLES / "sonalyzed-oidc.conf").read_text()
    issuer = next(line for line in example.splitlines() if line.startswith("Issuer="))
    machine.write("/etc/sonar/oidc.conf", example.replace(issuer, f"Issuer=http://127.0.0.1:{PORT}"))
    machine.write("/etc/sonar/oidc-secret", "of the client\n", 0o600)
    machine.write(DROP_IN, (machine.root / EXAMPLES / "sonalyzed-oidc-unit.conf").read_text())
    machine.write("/run/provider.py", PROVIDER.read_text())
    claims = json.dumps({"preferred_username": "grete", "groups": ["hpc-admins"]})
    interpreter = "/usr/lib/sonar-server/venv/bin/python"
    machine("systemd-run", "--unit=provider", interpreter, "-I", "/run/provider.py", str(PORT), claims)
    machine("systemctl", "daemon-reload")
    machine("systemctl", "stop", UNIT)
    machine("systemctl", "restart", "sonar-sonalyzed.socket", UNIT)
    yield machine
    machine("systemctl", "stop", UNIT, "sonar-sonalyzed.socket", "provider.service")
    (machine.root / DROP_IN.lstrip("/")).unlink()
    machine("systemctl", "daemon-reload")


def curl(machine: Machine, path: str, *options: str, check: bool = True) -> str:
    jar = ("--cookie", JAR, "--cookie-jar", JAR)
    url = f"https://localhost:8087{path}"
    return machine("curl", "--silent", "--cacert", "/run/sonar-ca.crt", *jar, *options, url, check=check)


def test_somebody_logs_in_at_the_provider(place: Machine) -> None:
    assert place("systemd-analyze", "verify", UNIT) == ""
    status = ("--output", "/dev/null", "--write-out", "%{http_code}")
    assert curl(place, "/status", *status) == "401"
    assert "Log in with Example University" in curl(place, "/login")

    def provider_answers() -> bool:
        address = f"http://127.0.0.1:{PORT}/.well-known/openid-configuration"
        return '"issuer"' in place("curl", "--silent", address, check=False)

    place.wait("the provider answers", provider_answers)
    assert curl(place, "/login/oidc?next=/status", "--location") == "Logged in."
    page = curl(place, "/status", "--fail")
    assert "grete" in page
    assert "Log out" in page
    journal = place("journalctl", "--no-pager", "-u", UNIT)
    assert "Traceback" not in journal
    assert "of the client" not in journal

    # Without the network of the drop-in nobody can be asked, and whoever wanted to log in is told.
    place.write(f"/etc/systemd/system/{UNIT}.d/zz.conf", "[Service]\nPrivateNetwork=yes\n")
    place("systemctl", "daemon-reload")
    place("systemctl", "restart", UNIT)
    assert "cannot be asked" in curl(place, "/login/oidc?next=/status")
    (place.root / f"etc/systemd/system/{UNIT}.d/zz.conf").unlink()
