"""check tells of a certificate's end 30, 7 and 1 days ahead, and of the end itself: each once."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from sonar.admin.check import find
from sonar.config.settings import Settings
from sonar.serve import certificates
from sonar.serve.expiry import certificates_in
from sonar.times import DAY


@pytest.mark.parametrize(
    ("days_left", "within"),
    [(31, ""), (29.9, "within 30 days"), (7.1, "within 30 days"), (6.9, "within 7 days"), (0.9, "within 1 days"),
     (-0.1, "ended")],
)  # fmt: skip
def test_each_threshold_is_a_trouble_of_its_own(tmp_path: Path, days_left: float, within: str) -> None:
    certificates.make_authority(tmp_path, "Test")
    chain, _ = certificates.make_server_certificate(tmp_path, "server", ["localhost"])
    ends = certificates_in(chain)[0].ends.astimezone(UTC)
    now = datetime.fromtimestamp(ends.timestamp() - days_left * DAY, UTC)

    found = find(Settings(), int(now.timestamp()), kinds=["certificates"], certificates=[chain], listed=[])

    assert [trouble.what.rpartition(") ")[2].removeprefix("ends ") for trouble in found.troubles] == (
        [within] if within else []
    )
