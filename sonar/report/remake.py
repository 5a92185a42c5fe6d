"""The command remake: make a report file again from what lies beside it, and say whether it is the same."""

from pathlib import Path

from sonar.errors import SonarError, UsageError
from sonar.report.declare import STATE_DIR, Call, Report
from sonar.report.products import Task, provenance_of, read_days
from sonar.times import parse_instant
from sonar.verbs.declare import Option, OptionType

__all__ = ["REPORT"]

_OF_STATE = frozenset({"violations", "digest", "at-a-glance"})


def _run(call: Call) -> None:
    from sonar.report.job import site_of
    from sonar.report.making import make_products

    path = call.path("file")
    if path is None:
        raise UsageError("--file must be given")
    known = provenance_of(path)
    start, end, made = (parse_instant(known[name]) for name in ("from", "to", "made"))
    if start is None or end is None or made is None:
        raise SonarError(f"the provenance of '{path}' has no times")
    directory = path.parent.parent
    site = site_of(
        directory.name, made, data_dir=call.path("data-dir"), cluster_dir=call.path("cluster-dir"),
        report_dir=directory.parent, state_dir=call.path("state-dir"),
    )  # fmt: skip
    task = Task(known["report"], start, end, made, known["options"])
    again = [one for one in make_products(site, task) if (one.name, one.audience) == (path.name, path.parent.name)]
    if not again:
        raise SonarError(f"'{path}' is not made any more")
    is_same = again[0].text.encode() == path.read_bytes()
    read = read_days(site.data, start, end)["digest"] == known["read"]["digest"]
    lines = [f"{path.name}: {'the same' if is_same else 'NOT the same'}"]
    lines.append(f"  the data of its window are {'as they were' if read else 'more than they were'}")
    if not known["is_current"]:
        lines.append("  the file is not the one that its provenance tells of")
    if task.report in _OF_STATE and not is_same:
        lines.append("  it tells of states, which have moved on")
    call.out.write("\n".join(lines) + "\n")
    if call.flag("output"):
        Path(call.text("output")).write_text(again[0].text, encoding="utf-8")
    if not is_same:
        call.out.flush()
        raise SonarError("the file differs from what is made now")


REPORT = Report(
    "remake",
    "Make a report file again and say whether it is the same",
    (
        Option("file", "the report file; also as a bare word", OptionType.PATH, metavar="FILE"),
        Option("output", "write what is made now to this file", OptionType.PATH, metavar="FILE"),
        Option("data-dir", "where the clusters' log trees are", OptionType.PATH, metavar="DIR"),
        Option("cluster-dir", "where the clusters' descriptions are", OptionType.PATH, metavar="DIR"),
        STATE_DIR,
    ),
    _run,
    takes_files=False,
    positional="file",
)
