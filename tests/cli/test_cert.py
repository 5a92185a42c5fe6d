"""cert: what it makes, renews, revokes and shows; what it tells before an end, and how often."""

import json
import shutil
import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

NOW = datetime.now(UTC).replace(microsecond=0)
PROGRAM = Path(__file__).resolve().parents[2] / "libexec" / "cert"


def cert(directory: Path, *argv: str | Path, now: datetime | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {"SONAR_NOW": now.isoformat()} if now else {}
    return subprocess.run(
        [sys.executable, PROGRAM, *argv, "--directory", directory],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "tls"
    for argv in (["ca", "Test CA"], ["server", "localhost", "192.0.2.7"], ["client", "Fox.example.org", "saga"]):
        done = cert(directory, *argv, now=NOW)
        assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def tls(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "tls"))


def shown(tls: Path) -> dict[str, dict[str, object]]:
    lines = cert(tls, "show", "--json").stdout.splitlines()
    return {Path(str(one["file"])).name: one for one in map(json.loads, lines)}


def trusts(authority: Path, chain: Path, *, as_client: bool = False) -> bool:
    """Return whether TLS by the authority's file takes what the chain holds: a handshake in memory."""
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if as_client else ssl.PROTOCOL_TLS_SERVER)
    other.check_hostname = False
    if as_client:
        other.verify_mode = ssl.CERT_NONE
    other.load_cert_chain(chain, chain.with_suffix(".key"))
    checking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if as_client else ssl.PROTOCOL_TLS_CLIENT)
    checking.load_verify_locations(authority)
    checking.verify_mode = ssl.CERT_REQUIRED
    if as_client:
        checking.load_cert_chain(chain.with_name("server.crt"), chain.with_name("server.key"))
        checking.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    to_other, to_checking = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        other.wrap_bio(to_other, to_checking, server_side=not as_client),
        checking.wrap_bio(
            to_checking, to_other, server_side=as_client, server_hostname=None if as_client else "localhost"
        ),
    ]
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
            except ssl.SSLError:
                continue
    return ends[1].getpeercert() is not None


def test_files_and_modes(tls: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tls.iterdir()}
    assert modes == {
        "ca.crt": 0o644, "ca.key": 0o600, "ca.crl": 0o644, "clients.pem": 0o644, "server.crt": 0o644,
        "server.key": 0o600, "fox.example.org.crt": 0o644, "fox.example.org.key": 0o600,
    }  # fmt: skip
    assert stat.S_IMODE(tls.stat().st_mode) == 0o700


def test_what_it_makes_is_good_for_its_use_only(tls: Path) -> None:
    assert trusts(tls / "ca.crt", tls / "server.crt")
    assert not trusts(tls / "ca.crt", tls / "fox.example.org.crt")
    assert trusts(tls / "clients.pem", tls / "fox.example.org.crt", as_client=True)
    assert not trusts(tls / "clients.pem", tls / "server.crt", as_client=True)


def test_show(tls: Path) -> None:
    lines = cert(tls, "show").stdout.splitlines()
    assert [line.split()[1:4:2] for line in lines[1:]] == [["authority", "CA"]] + [
        [kind, f"{NOW + timedelta(days=397):%Y-%m-%d}"] for kind in ("client", "server")
    ]
    facts = shown(tls)
    assert facts["fox.example.org.crt"]["names"] == ["fox.example.org", "saga"]
    assert facts["server.crt"]["names"] == ["localhost", "192.0.2.7"]
    assert (facts["ca.crt"]["kind"], facts["ca.crt"]["subject"]) == ("authority", "Test CA")


def test_authority_is_never_replaced(tls: Path) -> None:
    before = (tls / "ca.key").read_bytes()
    done = cert(tls, "ca")
    assert done.returncode == 1
    assert "would make every issued certificate useless" in done.stderr
    assert (tls / "ca.key").read_bytes() == before


def test_renewal_keeps_names_and_use_and_takes_a_new_key(tls: Path) -> None:
    before, key = shown(tls), (tls / "server.key").read_bytes()
    done = cert(tls, "renew", "server", "fox.example.org")
    assert done.returncode == 0, done.stderr
    after = shown(tls)
    for name in ("server.crt", "fox.example.org.crt"):
        assert after[name]["names"] == before[name]["names"]
        assert after[name]["kind"] == before[name]["kind"]
        assert after[name]["serial"] != before[name]["serial"]
    assert (tls / "server.key").read_bytes() != key
    assert trusts(tls / "ca.crt", tls / "server.crt")


def test_renewal_without_names_takes_what_ends_soon(tls: Path) -> None:
    assert cert(tls, "renew").stdout == ""
    later = NOW + timedelta(days=380)
    assert cert(tls, "renew", now=later).stdout.count(".crt\n") == 2


def test_renewed_authority_vouches_for_what_the_old_one_signed(tls: Path, tmp_path: Path) -> None:
    old = tmp_path / "old-ca.crt"
    old.write_bytes((tls / "ca.crt").read_bytes())
    assert cert(tls, "renew", "ca").returncode == 0
    assert x509.load_pem_x509_certificate(old.read_bytes()) != x509.load_pem_x509_certificate(
        (tls / "ca.crt").read_bytes()
    )
    assert trusts(tls / "ca.crt", tls / "server.crt")
    assert cert(tls, "renew", "server").returncode == 0
    assert trusts(old, tls / "server.crt")


def test_revoked_certificate_is_refused_and_a_renewed_one_is_not(tls: Path) -> None:
    assert cert(tls, "revoke", "fox.example.org").stdout == f"{tls / 'clients.pem'}\n"
    assert not trusts(tls / "clients.pem", tls / "fox.example.org.crt", as_client=True)
    assert cert(tls, "renew", "ca").returncode == 0
    assert not trusts(tls / "clients.pem", tls / "fox.example.org.crt", as_client=True)
    assert cert(tls, "renew", "fox.example.org").returncode == 0
    assert trusts(tls / "clients.pem", tls / "fox.example.org.crt", as_client=True)


def test_each_threshold_is_told_once_and_an_end_each_time(tls: Path) -> None:
    ends = datetime.fromisoformat(str(shown(tls)["server.crt"]["ends"]))
    state = tls / "told.json"
    told = []
    for days_ahead in (31, 29.5, 29, 8, 6.5, 6, 2, 0.5, 0.4, -1, -2):
        done = cert(tls, "check", tls / "server.crt", "--state", state, now=ends - timedelta(days=days_ahead))
        told.append((days_ahead, done.returncode, done.stderr.rpartition("localhost ")[2].partition(", on")[0]))
    assert [one for one in told if one[1]] == [
        (29.5, 1, "ends in 29 days"),
        (6.5, 1, "ends in 6 days"),
        (0.5, 1, "ends in less than a day"),
        (-1, 1, f"ended on {ends:%Y-%m-%d %H:%M} UTC\n"),
        (-2, 1, f"ended on {ends:%Y-%m-%d %H:%M} UTC\n"),
    ]


def test_renewed_certificate_begins_anew(tls: Path) -> None:
    state = tls / "told.json"
    later = NOW + timedelta(days=380)
    assert cert(tls, "check", "--state", state, now=later).returncode == 1
    assert cert(tls, "check", "--state", state, now=later).returncode == 0
    assert cert(tls, "renew", "server", "fox.example.org").returncode == 0
    assert cert(tls, "check", "--state", state, now=later).returncode == 1


def test_check_tells_of_a_key_that_does_not_fit_and_of_what_cannot_be_read(tls: Path) -> None:
    (tls / "server.key").write_bytes((tls / "fox.example.org.key").read_bytes())
    (tls / "torn.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    done = cert(tls, "check", "--state", tls / "told.json")
    assert done.returncode == 1
    assert f"'{tls / 'server.key'}' is not the key of '{tls / 'server.crt'}'" in done.stderr
    assert f"'{tls / 'torn.crt'}' has no certificate" in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("argv", "status", "text"),
    [
        (["server"], 2, "Missing argument"),
        (["client", "../fox"], 1, "bad cluster name '../fox'"),
        (["server", "x", "--name", "../x"], 1, "cannot be called"),
        (["server", "x", "--name", "ca"], 1, "cannot be called"),
        (["renew", "nothing"], 1, "cannot read"),
        (["revoke", "nothing"], 1, "cannot read"),
        (["show", "/dev/null"], 1, "has no certificate"),
    ],
)
def test_mistakes_are_told_in_a_line(tls: Path, argv: list[str], status: int, text: str) -> None:
    done = cert(tls, *argv)
    assert (done.returncode, len(done.stderr.splitlines())) == (status, 1)
    assert text in done.stderr


def test_without_an_authority(tmp_path: Path) -> None:
    for argv in (["server", "x"], ["show"], ["renew"], ["check", "--state", tmp_path / "state"]):
        done = cert(tmp_path, *argv)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), argv
