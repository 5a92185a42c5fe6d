"""An HTTPS server whose answers are written down beforehand, for tests of what a client does with them."""

import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme

__all__ = ["RESET", "Certificates", "Reply", "Request", "ScriptedServer", "scripted_server"]


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    reset: bool = False  # no answer: the connection is torn down
    hold: threading.Event | None = None  # the answer is not sent before this is set


RESET = Reply(reset=True)


@dataclass(frozen=True)
class Request:
    """One request as it arrived, and the status it was answered with (0: none)."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    connection: int  # port of the client: tells connections apart


class Certificates:
    """A private authority in files, and what it signs."""

    def __init__(self, directory: Path) -> None:
        self._authority = trustme.CA()
        self.ca = directory / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)
        self.client = directory / "client.pem"
        self._authority.issue_cert("node@cluster.example").private_key_and_cert_chain_pem.write_to_path(self.client)

    def server_context(self, *names: str, client_certificates: bool = False) -> ssl.SSLContext:
        """Return what a server of these names needs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*names).configure_cert(context)
        if client_certificates:
            self._authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class ScriptedServer(ThreadingHTTPServer):
    """Gives the answers of `script` in order, then `always`; keeps the requests."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._context = context
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.server_port}"
        self.script: deque[Reply] = deque()
        self.always = Reply()
        self.requests: list[Request] = []
        self.arrived = threading.Semaphore(0)  # released for each request that has been read

    def accepted(self) -> list[bytes]:
        """Return the bodies that were answered 200."""
        return [request.body for request in self.requests if request.status == 200]

    def finish_request(self, request: "socket.socket | tuple[bytes, socket.socket]", client_address: object) -> None:
        assert isinstance(request, socket.socket)
        if self._context is not None:
            try:
                request = self._context.wrap_socket(request, server_side=True)
            except OSError:  # a client that does not trust us
                return
        with request:
            super().finish_request(request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay quiet about clients that go away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def do_POST(self) -> None:
        reply = self.server.script.popleft() if self.server.script else self.server.always
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length // 2 if reply.reset else length)
        status = 0 if reply.reset else reply.status
        self.server.requests.append(Request(self.path, dict(self.headers), body, status, self.client_address[1]))
        self.server.arrived.release()
        if reply.hold is not None:
            reply.hold.wait(60)
        if reply.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        self.send_response_only(reply.status)  # no headers but ours
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay quiet."""


@contextmanager
def scripted_server(context: ssl.SSLContext | None) -> Iterator[ScriptedServer]:
    """Run a server in a thread."""
    with ScriptedServer(context) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
