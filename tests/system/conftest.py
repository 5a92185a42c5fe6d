"""A throw-away machine with a real systemd, and Sonar installed in it by `make install`."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
LIBRARY = "usr/lib/sonar-server"
MACHINE = str(Path(__file__).with_name("machine.sh"))


class Machine:
    """A booted systemd as seen from a test: commands go in by nsenter, files through its root."""

    def __init__(self, name: str, *options: str) -> None:
        self.name = name
        self.owner = subprocess.Popen(
            [MACHINE, "hold", name, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.owner.stdout is not None
        word, _, pid = self.owner.stdout.readline().partition(" ")
        if word != "ready":
            self.owner.wait(10)
            pytest.fail("the machine did not come up")
        self.root = Path(f"/proc/{int(pid)}/root")

    def __call__(self, *argv: str, check: bool = True, timeout: float = 60) -> str:
        """Run a command inside and return its standard output; with `check`, it must succeed."""
        done = subprocess.run(
            [MACHINE, "exec", self.name, *argv],
            check=False,
            timeout=timeout,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert not check or done.returncode == 0, f"{argv}: status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Put a file into the machine."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def property(self, unit: str, name: str) -> str:
        """Return one property of a unit."""
        return self("systemctl", "show", unit, "-p", name, "--value")

    def wait(self, what: str, condition: Callable[[], bool], timeout: float = 60) -> None:
        """Wait until the condition holds; fail with the journal's end when it never does."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"never: {what}\n" + self("journalctl", "--no-pager", "-n", "40", "-u", "sonar-*"))
            time.sleep(0.1)

    def put_installation(self, installed: Path) -> None:
        """Put into the machine what `make install` has made, but for the library, which is bound; make its accounts."""
        for source in sorted(installed.rglob("*")):
            if (source.is_symlink() or source.is_file()) and not source.is_relative_to(installed / LIBRARY):
                target = self.root / source.relative_to(installed)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        self("systemd-sysusers")
        self("systemd-tmpfiles", "--create", "sonar-server.conf")
        self("journalctl", "--update-catalog")
        self("systemctl", "daemon-reload")

    def close(self) -> None:
        assert self.owner.stdin is not None
        self.owner.stdin.close()
        self.owner.wait(20)
        if self.owner.stdout is not None:
            self.owner.stdout.close()


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a DESTDIR into which `make install PREFIX=/usr EXTRAS=oidc` has installed, from a wheelhouse and without a
    network.

    $SONAR_TEST_INSTALL names one that is there already, to save the time while working on the tests.
    """
    if again := os.environ.get("SONAR_TEST_INSTALL"):
        return Path(again)
    destination = tmp_path_factory.mktemp("install")
    for command in (
        ["make", "-s", "wheelhouse", "NO_DEPS=1", "EXTRAS=oidc"],
        [
            *("unshare", "--net", "make", "-s", "install", "WHEELHOUSE=build/wheelhouse"),
            *(f"DESTDIR={destination}", "PREFIX=/usr", "NO_DEPS=1", "EXTRAS=oidc"),
        ],
    ):
        subprocess.run(command, cwd=TOP, check=True, timeout=900, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return destination


@pytest.fixture(scope="session")
def machine(installed: Path) -> Iterator[Machine]:
    """Boot a machine with Sonar, a certificate and passwords: what an administrator has after the first steps.

    Needs root, namespaces and systemd; a machine that lacks them cannot run these tests, and they fail there.
    """
    assert os.geteuid() == 0, "the tests under a real systemd need root"
    new = Machine(f"t{os.getpid()}", f"--bind={installed / LIBRARY}:/{LIBRARY}")
    try:
        new.put_installation(installed)
        new("/usr/libexec/sonar/cert", "ca")
        new("/usr/libexec/sonar/cert", "server", "localhost", "127.0.0.1")
        new.write("/etc/sonar/ingest-passwords", "node.example.org:up-secret\n", 0o600)
        new("sh", "-c", "echo ask-secret | /usr/libexec/sonar/passwd add ada --query --role admin --stdin")
        new.write("/etc/sonar/upload-auth", "node.example.org:up-secret\n", 0o600)
        new.write(
            "/etc/sonar/node.env",
            "SONAR_CLUSTER=node.example.org\nSONAR_URL=https://localhost:8086\n"
            "SONAR_DELIVERY_OPTIONS=--ca-cert /run/sonar-ca.crt\n",
        )
        # What nodes get by hand: the authority's certificate, readable by the sender.
        new.write("/run/sonar-ca.crt", (new.root / "etc/sonar/tls/ca.crt").read_text())
        # A sample every two seconds and no waiting before it is sent, so that the tests need not wait.
        sampler = "--cluster ${SONAR_CLUSTER} --interval 2 --spool /var/lib/sonar-node/spool"
        new.write(
            "/etc/systemd/system/sonar-sonard.service.d/test.conf",
            f"[Service]\nExecStart=\nExecStart=/usr/libexec/sonar/sonard {sampler}\n",
        )
        sender = "--cluster ${SONAR_CLUSTER} --url ${SONAR_URL} --window 0 --spool /var/lib/sonar-node/spool"
        new.write(
            "/etc/systemd/system/sonar-exfiltrate.service.d/test.conf",
            f"[Service]\nExecStart=\nExecStart=/usr/libexec/sonar/exfiltrate {sender} $SONAR_DELIVERY_OPTIONS\n",
        )
        new("systemctl", "daemon-reload")
        yield new
    finally:
        new.close()
