"""Notices: administrators are told of new violations by mail, once, and only if there are any; users may get letters.

A job is marked as reported when the mail that tells of it has been handed over, see `sonar.report.outbox`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sonar.report.joblog import log_files
from sonar.report.jobstate import locked, read_state, write_state
from sonar.report.letters import letter_text, letters_due, log_letter, read_letters
from sonar.report.outbox import Message, Outbox
from sonar.report.policies import Policy
from sonar.report.publish import publish
from sonar.report.violations import Violation, purge_limit, text_of, violations
from sonar.times import DAY, iso_text

if TYPE_CHECKING:
    from sonar.report.site import Site

__all__ = ["Told", "current_violations", "letters_document", "tell", "tell_once", "violations_document"]

_WINDOW_S = 28 * DAY


@dataclass(frozen=True, slots=True)
class Told:
    """What a run told: all violations of the window, and the messages."""

    violations: tuple[Violation, ...]
    messages: tuple[Message, ...]


def tell(site: "Site", *, dry_run: bool = False) -> Told:
    """Tell administrators what is new, and users if they get letters. A dry run tells nobody and notes nothing."""
    if dry_run:
        found = _update(site, write=False)
        return Told(tuple(found), tuple(_messages(site, found)))
    outbox = Outbox(site.outbox, site.name)
    with outbox.locked():
        _hand_over(site, outbox)  # what an earlier run has begun
        found = _update(site, write=True)
        messages = _messages(site, found)
        for message in messages:
            outbox.put(message)
        _hand_over(site, outbox)
        return Told(tuple(_update(site, write=False)), tuple(messages))


def tell_once(site: "Site", key: str, message: Message) -> bool:
    """Tell something unless something was told under this key before; return whether it is told now."""
    outbox = Outbox(site.outbox, site.name)
    with outbox.locked():
        _hand_over(site, outbox)
        if key in mailed(site):
            return False
        outbox.put(replace(message, notes={**message.notes, "once": key}))
        _hand_over(site, outbox)
    return True


def mailed(site: "Site") -> set[str]:
    """Return the keys of what was told once."""
    path = site.state / "mailed"
    return set(path.read_text(encoding="utf-8").split()) if path.exists() else set()


def note_mailed(site: "Site", key: str) -> None:
    """Note that something was told under a key; twice is the same as once."""
    site.state.mkdir(parents=True, exist_ok=True)
    publish(site.state / "mailed", "".join(f"{one}\n" for one in sorted(mailed(site) | {key})))


def current_violations(site: "Site") -> list[Violation]:
    """Return the violations of the window as log and states have them; nothing is written."""
    return _update(site, write=False)


def letters_document(site: "Site", found: Sequence[Violation]) -> list[dict[str, Any]]:
    """Return a ready letter to each user about each policy, and when each job of it was written about, for pages."""
    written = read_letters(site.state / "letters.csv")
    about: dict[tuple[str, str], list[Violation]] = {}
    for one in found:
        about.setdefault((one.job.user, one.policy.name), []).append(one)
    rows = []
    for (user, policy), own in sorted(about.items()):
        sent = [written.get((user, policy, one.job.host, one.job.id)) for one in own]
        last = max((at for at in sent if at), default=None)
        rows.append(
            {
                "user": user,
                "policy": policy,
                "title": own[0].policy.title,
                "jobs": [{"hostname": one.job.host, "id": one.job.id} for one in own],
                "text": letter_text(site, user, own),
                "sent": None if last is None else iso_text(last),
            }
        )
    return rows


def _update(site: "Site", *, write: bool) -> list[Violation]:
    """Return the violations of all policies after entering what the log tells into the states."""
    end = (site.now // DAY + 1) * DAY
    start = site.now // DAY * DAY - _WINDOW_S
    found: list[Violation] = []
    for policy in site.policies():
        path = site.state / f"{policy.name}-state.csv"
        site.state.mkdir(parents=True, exist_ok=True)
        with locked(path):
            state = read_state(path)
            found += violations(policy, log_files(site.state, policy.name, start, end), state, site.now)
            state.purge(purge_limit(start, end))
            if write:
                write_state(path, state)
    return found


def _messages(site: "Site", found: Sequence[Violation]) -> list[Message]:
    """Return what is to be told now."""
    new = [one for one in found if not one.state.is_reported]
    recipients = tuple(site.who_gets("notices"))
    notices = [_notice(site, new, recipients)] if new and recipients else []
    return notices + letters_due(site, found)


def _notice(site: "Site", new: Sequence[Violation], recipients: tuple[str, ...]) -> Message:
    by_policy: dict[str, list[Violation]] = {}
    for one in new:
        by_policy.setdefault(one.policy.name, []).append(one)
    parts = []
    for own in by_policy.values():
        policy = own[0].policy
        told = "".join(text_of(policy, one) for one in own)
        parts.append(f"{policy.title}: {len(own)} new\n{_reason(policy)}\n{told}")
    where = f"\n{site.base_url}/c/{site.name}/violations\n" if site.base_url else ""
    number = len(new)
    return Message(
        kind="notice",
        sender=site.mail_from,
        recipients=recipients,
        subject=f"{site.cluster.title}: {number} new violation{'s' if number > 1 else ''}",
        body="\n".join(parts) + where,
        notes={"marks": [list(_mark(one)) for one in new]},
        date=site.now,
    )


def _reason(policy: Policy) -> str:
    return "".join(f"  {text}\n" for text in (policy.trigger, policy.problem, policy.remedy) if text)


def _mark(one: Violation) -> tuple[str, str, int, int]:
    """Return what a job is known by from run to run."""
    return (one.policy.name, one.state.host, one.state.id, one.state.first_violation)


def _hand_over(site: "Site", outbox: Outbox) -> None:
    """Hand messages over and mark what they tell as reported; marking twice is the same as once."""
    for identity, notes in outbox.hand_over():
        if "once" in notes:
            note_mailed(site, notes["once"])
        if "user" in notes:
            log_letter(site.state / "letters.csv", identity, notes)
        by_policy: dict[str, set[tuple[str, int, int]]] = {}
        for policy, host, job, first in notes.get("marks", ()):
            by_policy.setdefault(policy, set()).add((host, job, first))
        for policy, marks in by_policy.items():
            path = site.state / f"{policy}-state.csv"
            with locked(path):
                state = read_state(path)
                state.jobs = [
                    replace(job, is_reported=True) if (job.host, job.id, job.first_violation) in marks else job
                    for job in state.jobs
                ]
                write_state(path, state)
        outbox.noted(identity)


def violations_document(site: "Site", found: Sequence[Violation]) -> dict[str, Any]:
    """Return the file of all violations, with the texts of their policies."""
    texts: Mapping[str, Policy] = {policy.name: policy for policy in site.policies()}
    return {
        "report": "violations",
        "title": f"Violations on {site.cluster.title}",
        "cluster": site.name,
        "generated": iso_text(site.now),
        "from": iso_text(site.now - _WINDOW_S),
        "to": iso_text(site.now),
        "policies": [
            {
                "name": policy.name,
                "title": policy.title,
                "trigger": policy.trigger,
                "problem": policy.problem,
                "remedy": policy.remedy,
                "fields": list(policy.fields),
            }
            for policy in texts.values()
        ],
        "rows": [json.loads(json.dumps(one.row, allow_nan=False)) for one in found],
    }
