"""What the manual says of policies, held to what there is."""

import re
from pathlib import Path

from sonar.config.policies import policy_names
from sonar.report.measures import MEASURES
from sonar.report.policies import KEYS, policy

from tests.report import month as planted

PAGE = (Path(__file__).resolve().parents[2] / "man" / "sonar-policy.5").read_text()


def test_the_page_lists_all_keys_measures_and_shipped_policies() -> None:
    assert not [key.key for key in KEYS if not re.search(rf"^\.It Cm .*\b{key.key}=", PAGE, re.MULTILINE)]
    for name, (text, _) in MEASURES.items():
        assert f".It Cm {name}\n{text[0].upper()}{text[1:]}" in PAGE
    for name in policy_names():
        assert f".It Cm {name}\n{policy(name).trigger}\n" in PAGE


def test_every_shipped_policy_is_planted() -> None:
    offences = {name for job in planted.month().jobs for name in job.breaks}

    assert offences | {name for name, _ in planted.offenders_by_user()} == set(policy_names())
