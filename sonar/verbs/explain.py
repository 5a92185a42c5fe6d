"""The verb explain: from which samples, by which formula and by which threshold each figure and mark of a job comes."""

from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, TextIO

from sonar import gpusets
from sonar.times import iso_text
from sonar.verbs.declare import Field, Kind, Result
from sonar.verbs.job import VERB as OF_ONE_JOB
from sonar.verbs.job import Story, story_of
from sonar.verbs.notes import NOTES

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.analysis.merge import Steps
    from sonar.render.formats import Format
    from sonar.verbs.query import Query

__all__ = ["VERB"]

# Figure of `jobs`, column of the steps, what its values are divided by, and what it is called.
_MEANS = (
    ("cpu", "util", 1.0, "CPU utilization (% of a core)"),
    ("mem", "cpu_kib", float(1 << 20), "virtual memory (GB)"),
    ("res", "rss_kib", float(1 << 20), "resident memory (GB)"),
    ("gpu", "gpu_pct", 1.0, "GPU utilization (% of a card)"),
    ("gpumem", "gpu_kib", float(1 << 20), "GPU memory (GB)"),
)
_MOST_STEPS = 20


def run(query: "Query") -> Result:
    """Return a row for each figure, mark and note of the job."""
    import pyarrow as pa

    story = story_of(query)
    steps = _steps(query, story)
    rows = [*_times(story), *_quantities(story, steps), *_marks(query, story), *_notes(story)]
    names = ("figure", "value", "formula", "samples")
    columns = {name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(names)}
    columns["user"] = pa.array([story.whole["user"]] * len(rows), pa.string())
    return Result(pa.table(columns), facts={"story": story, "steps": _table(steps)})


def _steps(query: "Query", story: Story) -> "Steps":
    """Return the steps of the job: the samples of its processes, merged."""
    import numpy as np

    from sonar.analysis.merge import merged
    from sonar.analysis.samples import concatenated, dense, samples_of
    from sonar.analysis.streams import clean_streams, selected

    parts = []
    for host, table in query.scan.by_host():
        if host in story.whole["host"]:
            streams = selected(clean_streams(samples_of(table), query.nodes), query.filter, query.window)
            within = (streams["time"] >= story.whole["start"]) & (streams["time"] <= story.whole["end"])
            parts.append(streams.take(within))
    rows = concatenated(parts)
    stream = dense(rows["host"], rows["stream"])
    rows = rows.with_columns(stream=stream).take(np.lexsort((rows["time"], stream)))
    return merged(rows, np.zeros(len(rows), np.int64))


def _table(steps: "Steps") -> "pa.Table":
    import numpy as np
    import pyarrow as pa

    columns = {"time": steps.time, "processes": steps["rolledup"] + 1}
    return pa.table(columns | {name: np.round(steps[column] / divisor, 2) for name, column, divisor, _ in _MEANS})


def _times(story: Story) -> list[tuple[str, str, str, str]]:
    whole = story.whole
    first, last = iso_text(whole["start"]), iso_text(whole["end"])
    return [
        ("start", first, "the first sample", first),
        ("end", last, "the last sample", last),
        ("duration", f"{whole['duration']} s", "end - start, printed to the minute", ""),
        (
            "samples",
            str(whole["samples"]),
            "instants at which its processes were sampled, those within 10 s as one",
            "",
        ),
        (
            "coverage",
            f"{whole['runs_seen']} of {whole['runs_expected']}",
            "runs of the sampler on its hosts in that time; expected: duration / stated or usual interval + 1",
            "heartbeats too",
        ),
    ]


def _quantities(story: Story, steps: "Steps") -> list[tuple[str, str, str, str]]:
    import numpy as np

    rows = []
    number = len(steps)
    for name, column, divisor, what in _MEANS:
        values = steps[column] / divisor
        total, at = float(np.sum(values)), int(np.argmax(values))
        printed = (str(ceil(story.whole[f"{name}_avg"])), str(ceil(story.whole[f"{name}_peak"])))
        mean = f"{what}: sum over its samples / their number, rounded up: {total:.4f} / {number} = {total / number:.4f}"
        peak = f"{what}: the largest of its samples, rounded up: {float(values[at]):.4f}"
        rows.append((f"{name}-avg", printed[0], mean, f"all {number}"))
        rows.append((f"{name}-peak", printed[1], peak, iso_text(int(steps.time[at]))))
    cpu = ceil(story.whole["cpu_avg"])
    minutes = story.whole["duration_sec"]
    rows.append(
        (
            "cputime",
            f"{story.whole['cputime']} s",
            f"cpu-avg / 100 * duration to the minute: {cpu} / 100 * {minutes}",
            "",
        )
    )

    cards = int(np.count_nonzero(steps["gpus"]))
    rows.append(
        ("gpus", gpusets.text_of(story.whole["gpus"]), "all cards in any of its samples", f"{cards} of {number}")
    )
    failed = np.flatnonzero(steps["gpufail"])
    where = iso_text(int(steps.time[failed[0]])) if len(failed) else ""
    rows.append(("gpufail", str(story.whole["gpufail"]), "1 if any sample tells of a card that has failed", where))
    return rows


def _marks(query: "Query", story: Story) -> list[tuple[str, str, str, str]]:
    from sonar.analysis.bounds import bounds_of, joined
    from sonar.analysis.samples import samples_of

    found = [
        bounds
        for host, table in query.scan.by_host(("time",))
        if host in story.whole["host"] and (bounds := bounds_of(samples_of(table), query.window))
    ]
    earliest, latest = joined(found)
    whole = story.whole
    at_start = "=" if whole["primordial"] else "after"
    at_end = "=" if whole["running"] else "before"
    told = {True: "yes", False: "no"}
    return [
        ("mark <", told[whole["primordial"]], f"start {at_start} the first sample of its hosts", iso_text(earliest)),
        ("mark >", told[whole["running"]], f"end {at_end} the last sample of its hosts", iso_text(latest)),
        ("zombie", told[whole["zombie"]], "a command has <defunct> in it, or a user begins with _zombie_", ""),
    ]


def _notes(story: Story) -> list[tuple[str, str, str, str]]:
    rows = []
    for note in NOTES:
        judged = note.always or not story.figures.brief
        outcome = "not judged" if not judged else "holds" if note.holds(story.figures) else "no"
        rows.append((f"note {note.name}", outcome, note.rule, ""))
    return rows


def write(result: Result, fmt: "Format", out: TextIO) -> None:
    """Write the figures, then the job's samples; with `--fmt` the figures only."""
    from sonar.render.formats import Style, write_rows

    write_rows(result.rows, fmt, out)
    if fmt.style is not Style.FIXED or not fmt.is_default:
        return
    steps: pa.Table = result.facts["steps"]
    shown = steps.slice(0, _MOST_STEPS)
    left = len(steps) - len(shown)
    out.write(
        f"\nIts samples, those of its processes at one time added up{f', the first {_MOST_STEPS}' if left else ''}:\n\n"
    )
    write_rows(shown, replace(fmt, fields=_STEP_FIELDS), out)
    if left:
        story: Story = result.facts["story"]
        out.write(f"and {left} more: sonalyze parse --merge-by-job -j {story.whole['job']}\n")


_STEP_FIELDS = (
    Field("time", Kind.ISO, "time"),
    Field("processes", Kind.INT, "processes"),
    *(Field(name, Kind.FLOAT, what) for name, _column, _divisor, what in _MEANS),
)

VERB = replace(
    OF_ONE_JOB,
    name="explain",
    summary="Tell where each figure of a job comes from: samples, formula, threshold",
    fields=(
        Field("figure", Kind.TEXT, "a figure or mark of the verb jobs, or a note of the verb job"),
        Field("value", Kind.TEXT, "its value, or whether the note holds"),
        Field("formula", Kind.TEXT, "how it comes about, with the numbers put in; of a note its rule"),
        Field("samples", Kind.TEXT, "from which samples"),
    ),
    aliases={"all": ("figure", "value", "formula", "samples")},
    default_fields="all",
    run=run,
    write=write,
)
