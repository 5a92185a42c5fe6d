"""Who may see whose rows: the one place where an answer is cut to what the asker may know.

Someone with the role *user* sees rows of the own accounts, and what is about machines or sums over everybody. The
question is narrowed before it runs, so that no sum, count or error message is made of others' records, and the rows
that come back are looked at again. `sonar.web.questions.Asker` calls both around every verb, whoever the front is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sonar.errors import SonarError
from sonar.verbs.declare import Privacy, Reads, Result, Verb

if TYPE_CHECKING:
    from sonar.serve.passwords import Identity

__all__ = ["ForbiddenError", "narrowed", "own_records", "restricted"]

# Filters that say whose records, or which of somebody's, a sum is made of.
_PERSONAL = ("user", "exclude-user", "command", "exclude-command", "job", "exclude-job")


class ForbiddenError(SonarError):
    """The asker may not know that."""


def narrowed(verb: Verb, given: Mapping[str, Sequence[str]], who: "Identity") -> dict[str, list[str]]:
    """Return the question as it may be asked; raise ForbiddenError if it may not be asked at all."""
    from sonar.verbs.parameters import options_of

    question = {name: list(values) for name, values in given.items()}
    own = who.accounts
    if own is None:
        return question
    can_select = any(option.name == "user" for option in options_of(verb))
    if verb.privacy is Privacy.CLOSED or (verb.privacy is Privacy.FILTERED and not can_select):
        raise ForbiddenError(f"{verb.name} shows everybody's records: your role does not allow that")
    is_personal = verb.privacy is not Privacy.PUBLIC or any(
        set(question.get(name, ())) - {"-"} for name in _PERSONAL if name in question
    )
    if not can_select or not is_personal:
        return question
    asked = {name for text in question.get("user", ()) for name in text.split(",")}
    wanted = own if not asked or "-" in asked else asked & own
    question["user"] = sorted(wanted or own)
    if not wanted:  # somebody else's: nothing, as if there were none
        question["exclude-user"] = [*question.get("exclude-user", ()), *sorted(own)]
    return question


def restricted(verb: Verb, result: Result, who: "Identity", clusters: Callable[[], Sequence[str]]) -> Result:
    """Return the answer without the rows that are not the asker's own, or not about clusters that this one may see."""
    if verb.reads is Reads.SITE:
        import pyarrow as pa

        names: list[Any] = result.rows.column("name").to_pylist()
        visible = set(clusters())
        return replace(result, rows=result.rows.filter(pa.array([name in visible for name in names], pa.bool_())))
    own = who.accounts
    if own is None or verb.privacy in (Privacy.PUBLIC, Privacy.FILTERED):
        return result
    if verb.privacy is Privacy.CLOSED or verb.owner not in result.rows.column_names:
        raise ForbiddenError(f"{verb.name} shows everybody's records: your role does not allow that")
    import pyarrow as pa

    owners = result.rows.column(verb.owner).to_pylist()
    keep = [bool(names) and set(str(names).split(",")) <= own for names in owners]
    if all(keep):
        return result
    blocks = result.blocks
    if blocks is not None:
        kept, at = [], 0
        for title, first, length in blocks:
            number = sum(keep[first : first + length])
            if number:
                kept.append((title, at, number))
            at += number
        blocks = tuple(kept)
    return replace(result, rows=result.rows.filter(pa.array(keep, pa.bool_())), blocks=blocks)


def own_records(
    records: Sequence[Mapping[str, Any]], who: "Identity", *, owner: str = "user"
) -> list[Mapping[str, Any]]:
    """Return those of a report's records that the asker may see: whose `owner` is one of the own accounts."""
    own = who.accounts
    return [record for record in records if own is None or record.get(owner) in own]
