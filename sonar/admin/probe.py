"""Asking our own servers on this machine, over the sockets in the file system that their units open for that."""

import http.client
import socket
from pathlib import Path

from sonar.errors import SonarError

__all__ = ["fetch"]

_TIMEOUT_S = 10.0


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def fetch(path: Path, target: str) -> tuple[int, str]:
    """Return status and body of `GET target`; raise SonarError if there is no answer."""
    connection = _UnixConnection(path)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        return answer.status, answer.read(1 << 20).decode(errors="replace")
    except TimeoutError:
        raise SonarError(f"no answer within {_TIMEOUT_S:.0f} s") from None
    except (OSError, http.client.HTTPException) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        raise SonarError(f"no answer: {text}") from None
    finally:
        connection.close()
