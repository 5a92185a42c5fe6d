"""The verb job: one job on one screen: who, when, where, what it used of what it had, and what to do better."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

from sonar.errors import SonarError
from sonar.times import MINUTE, minute_text
from sonar.verbs.declare import Field, Kind, Privacy, Result, Verb
from sonar.verbs.notes import IDLE, Figures, notes_on

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from sonar.config.nodes import NodeTable
    from sonar.render.formats import Format
    from sonar.verbs.query import Query

__all__ = ["VERB", "Story", "story_of"]

_WIDTH = 80
_BAR = 34
_MOST_HOSTS = 8
_OF_JOBS = frozenset(
    {"seen", "ReqCPUS", "ReqGPUS", "ReqMem", "ReqNodes", "State", "TimelimitRaw", "Partition", "Account", "JobName"}
)


class Story:
    """What there is to tell of one job: its row of `jobs`, a row a host, and the figures that notes are made from."""

    def __init__(self, row: "pa.Table", by_host: "pa.Table", nodes: "NodeTable | None") -> None:
        self.row = row
        self.whole: Mapping[str, Any] = row.to_pylist()[0]
        self.by_host = by_host
        self.nodes = nodes
        self.figures = self._figures()

    def _figures(self) -> Figures:
        whole, hosts = self.whole, self.by_host.to_pylist()
        number = max(len(whole["host"]), 1)
        asked = whole["sacct_req_cpus"] is not None
        nodes = [self.nodes[host] for host in whole["host"] if self.nodes and host in self.nodes]
        asked_nodes = whole["sacct_req_nodes"] or number
        mean = sum(row["cpu_avg"] for row in hosts) / max(len(hosts), 1)
        mem_kib, cards = whole["sacct_req_mem_kib"], _cards(whole["sacct_gpus"])
        cpus = whole["sacct_req_cpus"]
        return Figures(
            hosts=number,
            idle_hosts=sum(row["cpu_avg"] <= IDLE * mean for row in hosts) if mean else 0,
            duration_s=whole["duration"],
            limit_s=int(whole["sacct_timelimit_s"] or 0),
            completed=whole["completed"] if whole["sacct_state"] is None else whole["sacct_state"] != "RUNNING",
            state=whole["sacct_state"] or "",
            seen=whole["runs_seen"],
            expected=whole["runs_expected"],
            cores=float(cpus or sum(node.cpu_cores for node in nodes)),
            cpu_avg=whole["cpu_avg"] / 100,
            cpu_peak=whole["cpu_peak"] / 100,
            mem_gb=mem_kib * asked_nodes / (1 << 20) if mem_kib else float(sum(node.mem_gb for node in nodes)),
            mem_peak=float(whole["res_peak"] or whole["mem_peak"]),
            cards=float(
                cards if asked else _size(whole["gpus"]) or sum(n.gpu_cards for n in nodes if whole["any_gpu"])
            ),
            cards_used=_size(whole["gpus"]),
            gpu_avg=whole["gpu_avg"] / 100,
            gpu_peak=whole["gpu_peak"] / 100,
            gpu_failed=bool(whole["gpufail"]),
            zombie=whole["zombie"],
            asked=asked,
        )


def story_of(query: "Query") -> Story:
    """Return the story of the one job that is asked about, of several with its number the last. Raise SonarError."""
    from sonar.verbs import verb
    from sonar.verbs.parameters import check_options

    if query.filter.jobs is None or len(query.filter.jobs) != 1:
        raise SonarError("Exactly one job number is required: sonalyze job NUMBER")
    jobs = verb("jobs")
    options = check_options(jobs, {"min-samples": ["1"]})
    asked = replace(query, options=options, fields=_OF_JOBS, only_fields=False, where=None, sort=())
    rows = jobs.run(asked).rows
    if len(rows) == 0:
        raise SonarError(f"No samples of job {next(iter(query.filter.jobs))} in this time: see --from and --user")
    row = rows.slice(len(rows) - 1)
    whole = row.to_pylist()[0]
    parts = jobs.run(replace(asked, options=options | {"merge-none": True})).rows
    keep = [
        set(row["host"]) <= set(whole["host"]) and row["start"] >= whole["start"] and row["end"] <= whole["end"]
        for row in parts.to_pylist()
    ]
    import pyarrow as pa

    return Story(row, parts.filter(pa.array(keep, pa.bool_())), query.nodes)


def run(query: "Query") -> Result:
    """Return a row for each host of the job; facts has the story."""
    import pyarrow as pa

    story = story_of(query)
    rows = story.by_host
    hosts: list[list[str]] = rows.select(["host"]).to_pydict()["host"]
    names = pa.array([",".join(names) for names in hosts], pa.string())
    rows = rows.set_column(rows.column_names.index("host"), "host", names)
    return Result(rows, facts={"story": story})


def write(result: Result, fmt: "Format", out: TextIO) -> None:
    """Write the report; with `--fmt` the rows of the hosts."""
    from sonar.render.formats import Style, write_rows

    if fmt.style is not Style.FIXED or not fmt.is_default:
        write_rows(result.rows, fmt, out)
        return
    story: Story = result.facts["story"]
    out.write("\n".join([*_head(story), "", *_bars(story.figures), "", *_hosts(story), *_notes(story.figures), ""]))


def _head(story: Story) -> list[str]:
    from sonar.hosts import compress

    whole = story.whole
    name = whole["sacct_name"] or whole["cmd"]
    state = whole["sacct_state"] or ("ended" if whole["completed"] else "running")
    lines = [f"Job {whole['job']}  {whole['user']}  {_short(name, 40)}".ljust(_WIDTH - len(state)) + state]
    limit = f" of a limit of {_span(story.figures.limit_s)}" if story.figures.limit_s else ""
    when = f"{minute_text(whole['start'])} to {minute_text(whole['end'])} UTC, {_span(whole['duration'])}{limit}"
    lines += [f"  ran      {when}", f"  on       {_short(compress(whole['host']), _WIDTH - 11)}"]
    if story.figures.asked:
        nodes = whole["sacct_req_nodes"] or 1
        asked = [f"{nodes} node{'s' * (nodes != 1)}", f"{whole['sacct_req_cpus']} CPUs"]
        if whole["sacct_req_mem_kib"]:
            asked.append(f"{whole['sacct_req_mem_kib'] / (1 << 20):.0f} GB a node")
        if whole["sacct_gpus"]:
            asked.append(f"GPUs {whole['sacct_gpus']}")
        asked += [f"partition {whole['sacct_partition']}"] if whole["sacct_partition"] else []
        lines.append(f"  asked    {_short(', '.join(asked), _WIDTH - 11)}")
    seen, expected = story.figures.seen, story.figures.expected
    share = f" ({seen * 100 // expected} %)" if expected else ""
    if whole["primordial"] and not story.figures.asked:
        share += "; it may have begun before: see --from"
    lines.append(f"  samples  {seen} of {expected} expected{share}")
    return lines


def _bars(figures: Figures) -> list[str]:
    """Return a bar for each resource: the average, of memory the peak, of what there was."""
    lines = [_bar("CPU", figures.cpu_avg, figures.cores, _amount(figures.cpu_avg), "cores", figures.cpu_peak)]
    lines.append(_bar("memory", figures.mem_peak, figures.mem_gb, _amount(figures.mem_peak), "GB", None))
    if figures.cards or figures.gpu_peak:
        lines.append(_bar("GPU", figures.gpu_avg, figures.cards, _amount(figures.gpu_avg), "cards", figures.gpu_peak))
    return lines


def _bar(name: str, used: float, available: float, text: str, unit: str, peak: float | None) -> str:
    at_most = "at its peak" if peak is None else f"on average, peak {_amount(peak)}"
    if not available:
        return f"  {name:<8} {text} {unit} {at_most}"
    share = min(used / available, 1.0)
    percent = f" {used / available:.0%}"
    bar = ("█" * round(share * _BAR)).ljust(_BAR, "·")
    return f"  {name:<8} {bar}{percent:>6}  {text} of {available:.0f} {unit}" + (
        f", peak {_amount(peak)}" if peak is not None else ""
    )


def _amount(value: float) -> str:
    return f"{value:.2f}" if 0 < value < 1 else f"{value:.1f}"


def _hosts(story: Story) -> list[str]:
    """Return a line a host where there are several."""
    rows = story.by_host.to_pylist()
    if len(rows) < 2:
        return []
    lines = [f"  {'host':<20} {'CPU':>7} {'peak':>7}   {'memory':>9}   {'GPU':>6} {'peak':>6}   {'samples':>7}"]
    for row in rows[:_MOST_HOSTS]:
        memory = row["res_peak"] or row["mem_peak"]
        name = _short(",".join(row["host"]).partition(".")[0], 20)
        lines.append(
            f"  {name:<20} {row['cpu_avg'] / 100:>7.1f} {row['cpu_peak'] / 100:>7.1f}   {memory:>6.1f} GB   "
            f"{row['gpu_avg'] / 100:>6.1f} {row['gpu_peak'] / 100:>6.1f}   {row['runs_seen']:>7}"
        )
    if len(rows) > _MOST_HOSTS:
        lines.append(f"  and {len(rows) - _MOST_HOSTS} more: --fmt=default lists all")
    return [*lines, ""]


def _notes(figures: Figures) -> list[str]:
    import textwrap

    lines = []
    for note in notes_on(figures):
        lines += textwrap.wrap(note.text(figures), _WIDTH, initial_indent="* ", subsequent_indent="  ")
        request = note.request(figures)
        if request and figures.asked:
            lines.append(f"      {request}")
    return lines or ["* Nothing to remark: it used what it had."]


def _cards(told: str | None) -> int:
    """Return the number of cards in `MODEL=N,...`."""
    numbers = (part.rpartition("=")[2] for part in (told or "").split(",") if part)
    return sum(int(number) for number in numbers if number.isdigit())


def _size(mask: int) -> int:
    from sonar.gpusets import UNKNOWN

    return 0 if mask & UNKNOWN else mask.bit_count()


def _span(seconds: int) -> str:
    minutes = (seconds + MINUTE // 2) // MINUTE
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    return " ".join(f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (rest, "min")) if n) or "0 min"


def _short(text: str, width: int) -> str:
    text = "".join(char if char.isprintable() else " " for char in text)
    return text if len(text) <= width else text[: width - 1] + "…"


_NAMES = ("cpu", "res", "mem", "gpu", "gpumem")
_UNITS = {"cpu": "% of a core", "gpu": "% of a card"}

VERB = Verb(
    name="job",
    summary="Report on one job: what it used of what it had, and what to do better",
    options=(),
    fields=(
        Field("host", Kind.TEXT, "host"),
        Field("job", Kind.INT, "job number"),
        Field("user", Kind.TEXT, "user"),
        Field("cmd", Kind.TEXT, "distinct commands"),
        Field("start", Kind.MINUTE, "first sample on the host, UTC"),
        Field("end", Kind.MINUTE, "last sample on the host, UTC"),
        Field("duration", Kind.DURATION, "from first to last sample"),
        *(
            Field(f"{name}-{which}", Kind.CEIL, f"{text} of {name}, rounded up", unit=_UNITS.get(name, "GB"))
            for name in _NAMES
            for which, text in (("avg", "average"), ("peak", "peak"))
        ),
        Field("gpus", Kind.GPUS, "GPUs that were used at any time"),
        Field("seen", Kind.INT, "samples of the host in that time", "runs_seen"),
        Field("expected", Kind.INT, "samples that there should have been", "runs_expected"),
    ),
    aliases={},
    default_fields="host,start,end,cpu-avg,cpu-peak,res-avg,res-peak,gpu-avg,gpu-peak,gpus,seen,expected",
    run=run,
    privacy=Privacy.OWNED,
    window_days=7,
    excludes_heartbeats=True,
    excludes_system_commands=True,
    takes_config=True,
    wants_capacities=True,
    write=write,
)
