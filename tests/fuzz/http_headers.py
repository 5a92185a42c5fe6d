"""Headers, query strings and gzip: what a client writes is what is read, and nothing else comes of anything.

The first line is an Authorization header, the second a query string, the rest a body.
"""

import base64
import gzip
from urllib.parse import urlencode

from sonar.ingest.inflate import inflate, is_deflated
from sonar.ingest.post import Refusal
from sonar.ingest.request import parameters_of
from sonar.serve.identities import basic_credentials

__all__ = ["check"]

LIMIT = 1000


def check(data: bytes) -> None:
    """Read the parts of a request."""
    header, _, rest = data.partition(b"\n")
    query, _, body = rest.partition(b"\n")
    if credentials := basic_credentials(header):
        again = b"Basic " + base64.b64encode(":".join(credentials).encode())
        assert basic_credentials(again) == credentials
    try:
        parameters = parameters_of(query)
        assert parameters_of(urlencode(parameters, doseq=True).encode()) == parameters
        is_deflated(header)
    except Refusal as refusal:
        assert refusal.status in {400, 415}
    assert _inflated(gzip.compress(body, 1)) == (body if len(body) <= LIMIT else 413)
    found = _inflated(body)
    assert found in {400, 413} or (isinstance(found, bytes) and len(found) <= LIMIT)


def _inflated(body: bytes) -> bytes | int:
    try:
        return inflate(body, LIMIT)
    except Refusal as refusal:
        return refusal.status
