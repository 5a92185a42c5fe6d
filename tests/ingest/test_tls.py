"""Uploads over TLS: which versions, whose certificates, and what a renewal costs."""

import http.client
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from contextlib import closing
from pathlib import Path

import pytest

from sonar.serve import certificates

from tests.ingest.conftest import CLUSTER, PASSWORD, PROGRAM, Infiltrate, Starter, basic
from tests.waiting import until

LINE = b"v=0.7.0,time=2024-02-05T10:15:01+01:00,host=ml9,user=ada,cmd=python\n"
FILE = "mlx.example.org/2024/02/05/ml9.csv"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls")
    certificates.make_authority(directory, "Test")
    certificates.make_server_certificate(directory, "server", ["localhost", "127.0.0.1"])
    certificates.make_client_certificate(directory, "mlx", [CLUSTER])
    certificates.make_client_certificate(directory, "two", ["fox.example.org", "saga.example.org"])
    certificates.make_client_certificate(directory, "gone", [CLUSTER])
    certificates.revoke_certificate(directory, "gone")
    other = directory / "other"
    certificates.make_authority(other, "Test")
    certificates.make_client_certificate(other, "mlx", [CLUSTER])
    return directory


def options(tls: Path) -> list[str]:
    return [
        "--listen-tls", "127.0.0.1:0", "--tls-cert", str(tls / "server.crt"), "--tls-key", str(tls / "server.key"),
    ]  # fmt: skip


def context(tls: Path, client: str = "") -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=tls / "ca.crt")
    if client:
        made.load_cert_chain(tls / f"{client}.crt", tls / f"{client}.key")
    return made


def post(
    server: Infiltrate, with_context: ssl.SSLContext, *, cluster: str = CLUSTER, login: tuple[str, str] | None = None
) -> int:
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=60, context=with_context)
    with closing(connection):
        fields = {"Content-Type": "text/csv"} | ({"Authorization": basic(*login)} if login else {})
        connection.request("POST", f"/sonar-freecsv?cluster={cluster}", LINE, fields)
        return connection.getresponse().status


@pytest.fixture
def server(start: Starter, tls: Path, tmp_path: Path) -> Infiltrate:
    aliases = tmp_path / "aliases.json"
    aliases.write_text('[{"alias": "mlx", "value": "mlx.example.org"}]')
    return start(*options(tls), "--tls-client-ca", str(tls / "clients.pem"), "--aliases", str(aliases))


def test_versions_before_1_2_are_not_spoken(server: Infiltrate, tls: Path) -> None:
    for version, spoken in (
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            client = context(tls)
            client.minimum_version = client.maximum_version = version
            client.set_ciphers("ALL:@SECLEVEL=0")  # else the client itself would refuse
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=60)) as raw:
            if spoken:
                with client.wrap_socket(raw, server_hostname="localhost") as connection:
                    assert connection.version() == version.name.replace("v1_", "v1.")
            else:
                with pytest.raises(ssl.SSLError):
                    client.wrap_socket(raw, server_hostname="localhost")


def test_certificate_is_an_identity(server: Infiltrate, tls: Path) -> None:
    assert post(server, context(tls, "mlx")) == 200
    assert post(server, context(tls, "mlx"), cluster="mlx") == 200
    assert post(server, context(tls, "mlx"), cluster="fox.example.org") == 403
    assert post(server, context(tls, "two"), cluster="fox.example.org") == 200
    assert post(server, context(tls, "two"), cluster="saga.example.org") == 200
    assert post(server, context(tls, "two")) == 403
    assert post(server, context(tls)) == 401
    assert post(server, context(tls), login=(CLUSTER, PASSWORD)) == 200
    assert server.stop() == 0
    assert server.stored()[FILE] == LINE * 3


def test_credentials_that_are_given_decide(server: Infiltrate, tls: Path) -> None:
    assert post(server, context(tls, "mlx"), login=(CLUSTER, "wrong")) == 401
    assert post(server, context(tls, "two"), login=(CLUSTER, PASSWORD)) == 200


def test_certificates_that_are_not_good_enough(server: Infiltrate, tls: Path) -> None:
    foreign = context(tls)
    foreign.load_cert_chain(tls / "other" / "mlx.crt", tls / "other" / "mlx.key")
    for with_context in (context(tls, "gone"), context(tls, "server"), foreign):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            post(server, with_context)
    assert server.stop() == 0
    assert server.stored() == {}


def test_certificates_may_be_the_only_way_in(tls: Path, tmp_path: Path) -> None:
    server = Infiltrate(tmp_path, *options(tls), "--tls-client-ca", str(tls / "clients.pem"))
    try:
        assert post(server, context(tls, "mlx")) == 200
        assert post(server, context(tls), login=(CLUSTER, PASSWORD)) == 401
    finally:
        assert server.stop() == 0


def test_authorities_for_clients_that_cannot_be_used(tls: Path, tmp_path: Path, password_file: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for path in (empty, tmp_path / "none.pem"):
        done = subprocess.run(
            [sys.executable, PROGRAM, "--data", tmp_path, "--password-file", password_file, *options(tls),
             "--tls-client-ca", path],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert f"cannot use the authorities for clients in '{path}'" in done.stderr
        assert len(done.stderr.splitlines()) <= 2


def serial(port: int, tls: Path) -> str:
    raw = socket.create_connection(("127.0.0.1", port), timeout=60)
    with closing(raw), context(tls).wrap_socket(raw, server_hostname="localhost") as connection:
        shown = connection.getpeercert()
    assert shown is not None
    return str(shown["serialNumber"])


def test_renewal_by_restart_loses_no_connection(tls: Path, tmp_path: Path, password_file: Path) -> None:
    """The way of systemd: descriptor 3 listens while one process ends and the next begins; numbered records tell."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = listening.getsockname()[1]
    data = tmp_path / "data"
    data.mkdir()
    script = (
        "import os, sys\n"
        f"os.dup2({listening.fileno()}, 3)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='ingest-tls')\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
    )
    command = [sys.executable, "-c", script, str(PROGRAM), "--data", str(data), "--password-file", str(password_file),
               "--tls-cert", str(tls / "server.crt"), "--tls-key", str(tls / "server.key")]  # fmt: skip

    def launch() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, pass_fds=[listening.fileno()])

    done = threading.Event()
    sent: list[int] = []
    failed: list[object] = []

    def upload(first: int) -> None:
        mine = context(tls)
        fields = {"Content-Type": "text/csv", "Authorization": basic(CLUSTER, PASSWORD)}
        for number in range(first, 10**6, 4):
            if done.wait(0.005):
                return
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=mine)
            try:
                with closing(connection):
                    line = LINE.replace(b"cmd=python", b"cmd=python,job=%d" % number)
                    connection.request("POST", f"/sonar-freecsv?cluster={CLUSTER}", line, fields)
                    status = connection.getresponse().status
            except (OSError, http.client.HTTPException) as error:
                failed.append(error)
            else:
                (sent if status == 200 else failed).append(number)

    with closing(listening):
        server = launch()
        clients = [threading.Thread(target=upload, args=(n,)) for n in range(4)]
        for client in clients:
            client.start()
        try:
            shown = [serial(port, tls)]
            for restart in range(2):
                while len(sent) + len(failed) < 20 * (restart + 1):
                    time.sleep(0.01)
                certificates.renew_certificate(tls, "server")
                server.terminate()
                assert server.wait(60) == 0
                server = launch()
                shown.append(serial(port, tls))
        finally:
            done.set()
            for client in clients:
                client.join()
            server.terminate()
            assert server.wait(60) == 0
    assert failed == []
    assert len(set(shown)) == 3
    stored = [int(line.rpartition(b"=")[2]) for line in (data / FILE).read_bytes().splitlines()]
    assert sorted(stored) == sorted(sent)


def test_authority_that_is_taken_away_counts_no_more_after_a_reload(start: Starter, tls: Path, tmp_path: Path) -> None:
    """Neither for new connections nor for one that is kept; whoever the other authority knows goes on."""
    trusted, other = tmp_path / "trusted.pem", context(tls)
    other.load_cert_chain(tls / "other" / "mlx.crt", tls / "other" / "mlx.key")
    trusted.write_bytes((tls / "clients.pem").read_bytes())
    server = start(*options(tls), "--tls-client-ca", str(trusted))
    kept = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=60, context=context(tls, "mlx"))
    path, fields = f"/sonar-freecsv?cluster={CLUSTER}", {"Content-Type": "text/csv"}

    def post_again() -> None:
        kept.request("POST", path, LINE, fields)
        kept.getresponse()

    with closing(kept):
        kept.request("POST", path, LINE, fields)
        assert kept.getresponse().read() == b""
        with pytest.raises((ssl.SSLError, ConnectionError)):
            post(server, other)

        trusted.write_bytes((tls / "other" / "ca.crt").read_bytes())
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("RELOADING=1")
        server.wait_for("READY=1")
        assert post(server, other) == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            post(server, context(tls, "mlx"))
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            post_again()

    trusted.write_bytes(b"")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("reload failed")
    assert post(server, other) == 200
    assert server.stop() == 0
    assert server.stored()[FILE] == LINE * 3


def test_reloads_lose_no_connection(start: Starter, tls: Path) -> None:
    server = start(*options(tls))
    done = threading.Event()
    answers: list[object] = []

    def upload() -> None:
        mine = context(tls)
        while not done.is_set():
            try:
                answers.append(post(server, mine, login=(CLUSTER, PASSWORD)))
            except (OSError, http.client.HTTPException) as error:
                answers.append(error)

    clients = [threading.Thread(target=upload) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for number in range(20):
            while len(answers) < 5 * number:
                time.sleep(0.005)
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("READY=1")
    finally:
        done.set()
        for client in clients:
            client.join()

    assert set(answers) == {200}
    assert server.stop() == 0
    assert server.stored()[FILE] == LINE * len(answers)


def is_accepted(connection: socket.socket) -> bool:
    """Whether the server's end of a connection belongs to a process, and no longer to the kernel alone."""
    ends = [f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}:{port:04X}"
            for host, port in (connection.getpeername(), connection.getsockname())]  # fmt: skip
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines())
    return any(row[1:3] == ends and row[9] != "0" for row in rows)


def test_handshake_that_has_begun_when_the_server_drains_is_served(start: Starter, tls: Path) -> None:
    server = start(*options(tls))
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    until(lambda: is_accepted(raw), "the client has said nothing yet")
    server.process.terminate()
    server.wait_for("STOPPING=1")
    with closing(raw), context(tls).wrap_socket(raw, server_hostname="localhost") as connection:
        head = f"Authorization: {basic(CLUSTER, PASSWORD)}\r\nContent-Length: {len(LINE)}\r\n\r\n"
        request = f"POST /sonar-freecsv?cluster={CLUSTER} HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\n{head}"
        connection.sendall(request.encode() + LINE)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert server.process.wait(60) == 0
    assert server.stored()[FILE] == LINE
