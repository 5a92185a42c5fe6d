"""An object store for tests: a server of the S3 interface as a process of its own, on loopback."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3

PROGRAM = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
# As anybody has them who uses such a store; the server takes any, unless it is told to look.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "of-the-tests", "AWS_EC2_METADATA_DISABLED": "true"}
_SIGNED = "AWS4-HMAC-SHA256 Credential=key/20240301/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


@dataclass(frozen=True)
class ObjectStore:
    """A running server."""

    port: int
    process: "subprocess.Popen[str]"

    def uri(self, place: str) -> str:
        """Return what a user types for BUCKET/PREFIX."""
        return f"s3://{place}?scheme=http&endpoint_override=127.0.0.1:{self.port}&region=us-east-1"

    def make_bucket(self, name: str) -> None:
        self._sent("PUT", name)

    def put(self, place: str, content: bytes) -> None:
        self._sent("PUT", place, content)

    def copy(self, directory: Path, place: str) -> None:
        """Put all files below a directory."""
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                self.put(f"{place}/{path.relative_to(directory)}", path.read_bytes())

    def _sent(self, method: str, place: str, content: bytes = b"") -> None:
        address = f"http://127.0.0.1:{self.port}/{place}"
        answer = urllib3.request(method, address, headers={"Authorization": _SIGNED}, body=content)
        assert answer.status == 200, answer.data


@contextmanager
def object_store(environment: Mapping[str, str] | None = None) -> Iterator[ObjectStore]:
    """Run a server; what it holds is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=os.environ | (environment or {}), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield ObjectStore(int(process.stdout.readline()), process)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
