"""Listening sockets: those that systemd opened for us, and those that we open ourselves.

A socket that systemd passes keeps its queue of waiting connections while the service restarts, so an upgrade refuses
nobody. Its name is the unit's FileDescriptorName=; a name that ends in `tls` is spoken to with TLS.
"""

import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sonar import durable
from sonar.errors import SonarError, UsageError

__all__ = ["LOCAL", "Listener", "address_of", "listeners_of", "parse_address", "write_port_file"]

LOCAL = "local"
"""The address of a peer at a socket in the file system."""

_FIRST_FD = 3  # sd_listen_fds(3)
_BACKLOG = 1024


@dataclass(frozen=True)
class Listener:
    """A socket that listens: what it is called, and whether TLS is spoken on it."""

    socket: socket.socket
    tls: bool
    name: str


def listeners_of(plain: Sequence[tuple[str, int]], tls: Sequence[tuple[str, int]]) -> list[Listener]:
    """Return the sockets passed by systemd and new ones bound to the (host, port) pairs.

    Raise SonarError if an address cannot be bound. Port 0 takes a free port, see `write_port_file`.
    """
    listeners = _activated()
    for addresses, is_tls in ((plain, False), (tls, True)):
        for host, port in addresses:
            listeners.append(Listener(_bind(host, port), is_tls, "tls" if is_tls else "plain"))
    return listeners


def parse_address(text: str) -> tuple[str, int]:
    """Return the host and port of `HOST:PORT`, `[HOST]:PORT` or `PORT`, which means loopback; raise UsageError."""
    host, _, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise UsageError(f"bad address {text!r}: want HOST:PORT")
    return host or "127.0.0.1", int(port)


def address_of(peer: object) -> str:
    """Return the text of a peer's address, IPv4 as such even where it arrived on a socket for both families."""
    host = str(peer[0]) if isinstance(peer, tuple) and peer else LOCAL
    return host.removeprefix("::ffff:") if "." in host else host


def write_port_file(path: Path, listeners: Sequence[Listener]) -> None:
    """Write one line `NAME HOST PORT` for each listener, all at once."""
    lines = []
    for listener in listeners:
        name = listener.socket.getsockname()
        host, port = name[:2] if isinstance(name, tuple) else (name, 0)
        lines.append(f"{listener.name} {host} {port}\n")
    try:
        durable.put(path, "".join(lines).encode())
    except OSError as error:
        raise SonarError(f"cannot write port file '{path}': {error.strerror}") from None


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SonarError(f"cannot listen on '{host}:{port}': {error.strerror}") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host != "::" else 0)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise SonarError(f"cannot listen on '{host}:{port}': {error.strerror}") from None
    listening.settimeout(0)
    return listening


def _activated() -> list[Listener]:
    listeners = []
    for descriptor, name in _passed_descriptors():
        passed = socket.socket(fileno=descriptor)
        passed.settimeout(0)
        # Responses are small and complete: waiting to fill a packet only costs time.
        with contextlib.suppress(OSError):
            passed.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listeners.append(Listener(passed, name.endswith("tls"), name))
    return listeners


def _passed_descriptors() -> list[tuple[int, str]]:
    try:
        from systemd import daemon
    except ImportError:
        return _passed_by_environment()
    return sorted(daemon.listen_fds_with_names(unset_environment=True).items())


def _passed_by_environment() -> list[tuple[int, str]]:
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    descriptors = range(_FIRST_FD, _FIRST_FD + int(count))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # noqa: FBT003
    names += ["unknown"] * (len(descriptors) - len(names))
    return [(descriptor, name or "unknown") for descriptor, name in zip(descriptors, names, strict=False)]
