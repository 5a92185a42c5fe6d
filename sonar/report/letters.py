"""Letters to users about their own jobs: from a template, each about something once, on working days, not too many.

Letters go out if the cluster's description says where to, `Letters=` below `[Recipients]`: an address in which `%u`
stands for the user. The log of letters, STATE_DIR/letters.csv, is free CSV: who was written to, when, about what.
"""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from sonar.errors import SonarError
from sonar.report.freecsv import FreeCSVError, parse_line, record_line
from sonar.report.measures import measure_text
from sonar.report.outbox import Message
from sonar.report.publish import publish
from sonar.times import DAY, iso_text, minute_text, parse_instant

if TYPE_CHECKING:
    from sonar.report.site import Site
    from sonar.report.violations import Violation

__all__ = ["LetterRules", "letter_text", "letters_due", "log_letter", "read_letters"]

_CURRENT_S = 2 * DAY  # a job that was not seen for so long is no reason for a letter any more
_SHIPPED = Path(__file__).parent / "shipped" / "letter.txt"
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterRules:
    """How many letters go out and when, see [Report] of sonar.conf(5); days of the week count from Monday, 0."""

    most_a_day: int = 20
    pause_s: int = 7 * DAY
    days: tuple[int, ...] = (0, 1, 2, 3, 4)
    quiet_dates: tuple[str, ...] = ()

    def may_go(self, now: int) -> bool:
        """Whether letters go out on the day of an instant."""
        day = datetime.fromtimestamp(now, UTC)
        return day.weekday() in self.days and not {f"{day:%m-%d}", f"{day:%Y-%m-%d}"}.intersection(self.quiet_dates)


def letters_due(site: "Site", violations: Sequence["Violation"]) -> list[Message]:
    """Return the letters that may go out now, one a user and policy, the longest known violations first."""
    addresses, rules = site.cluster.recipients.get("letters", ()), site.letter_rules
    if not addresses or not rules.may_go(site.now):
        return []
    written = read_letters(site.state / "letters.csv")
    today = sum(site.now // DAY == at // DAY for _, at in written.items() if at)
    about: dict[tuple[str, str], list[Violation]] = {}
    for violation in sorted(violations, key=lambda one: (one.state.first_violation, one.job.host, one.job.id)):
        job, policy = violation.job, violation.policy
        is_current = job.last_seen > site.now - _CURRENT_S and not job.is_expired
        if policy.letters and is_current and _USER.fullmatch(job.user) and _subject(violation) not in written:
            about.setdefault((job.user, policy.name), []).append(violation)
    due: list[Message] = []
    for (user, policy_name), own in about.items():
        last = max((at for (who, what, *_), at in written.items() if (who, what) == (user, policy_name)), default=0)
        if len(due) + today < rules.most_a_day and last <= site.now - rules.pause_s:
            due.append(_letter(site, user, own, addresses))
    return due


def letter_text(site: "Site", user: str, own: Sequence["Violation"]) -> str:
    """Return the letter to a user about jobs of the user's own that break one policy."""
    policy = own[0].policy
    jobs = "\n".join(
        f"  job {one.job.id} on {one.job.host}: {one.job.cmd}, since {minute_text(one.state.started_on_or_before)} UTC"
        + "".join(f"\n    {measure_text(name, value)}" for name, value in one.job.values if not math.isnan(value))
        for one in own
    )
    facts = {
        "user": user,
        "cluster": site.cluster.title,
        "title": policy.title,
        "trigger": _filled("What was seen: ", policy.trigger),
        "problem": _filled("Why we write: ", policy.problem),
        "remedy": _filled("What you can do: ", policy.remedy),
        "jobs": jobs,
        "url": site.base_url,
        "sender": site.mail_from,
    }
    return Template(_template(site, policy.name)).safe_substitute(facts)


def read_letters(path: Path) -> dict[tuple[str, str, str, int], int]:
    """Return when a letter went out, by user, policy, host and job; a letter about several jobs counts for each."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SonarError(f"cannot read '{path}': {error.strerror}") from None
    found = {}
    for line in lines:
        try:
            fields = parse_line(line)
            key = (fields["user"], fields["policy"], fields["host"], int(fields["id"]))
            found[key] = parse_instant(fields["now"]) or 0
        except (FreeCSVError, KeyError, ValueError):
            continue
    return found


def log_letter(path: Path, identity: str, notes: Mapping[str, Any]) -> None:
    """Add a delivered letter to the log; adding it twice is the same as once."""
    known = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [
        record_line(
            (
                ("now", notes["now"]), ("user", notes["user"]), ("policy", notes["policy"]), ("host", host),
                ("id", job), ("letter", identity),
            )
        )
        for host, job in notes["jobs"]
    ]  # fmt: skip
    publish(path, known + "".join(line for line in lines if line not in known), mode=0o640)


def _letter(site: "Site", user: str, own: Sequence["Violation"], addresses: Sequence[str]) -> Message:
    policy = own[0].policy
    notes = {
        "now": iso_text(site.now),
        "user": user,
        "policy": policy.name,
        "jobs": [[one.job.host, one.job.id] for one in own],
    }
    return Message(
        kind="letter",
        sender=site.mail_from,
        recipients=tuple(address.replace("%u", user) for address in addresses),
        subject=f"{site.cluster.title}: your jobs: {policy.title}",
        body=letter_text(site, user, own),
        notes=notes,
        date=site.now,
    )


def _filled(head: str, text: str) -> str:
    """Return a paragraph of lines that mail readers do not break, but for its head, which the template has."""
    return textwrap.fill(head + text, 76).removeprefix(head) if text else ""


def _subject(violation: "Violation") -> tuple[str, str, str, int]:
    job = violation.job
    return (job.user, violation.policy.name, job.host, job.id)


def _template(site: "Site", policy: str) -> str:
    """Return the text of a site's own template for the policy or for all, else of the shipped one."""
    own = [site.letter_dir / f"{policy}.txt", site.letter_dir / "letter.txt"] if site.letter_dir else []
    for path in (*own, _SHIPPED):
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise SonarError(f"cannot read '{path}': {error}") from None
    raise SonarError(f"no template of letters: '{_SHIPPED}'")
