"""Notes on one job: what its figures say about what was asked for, in plain words, with the line to change.

The notes are data: each has a name, the condition on the figures, the rule in words with its threshold, the text, and
the request line. `sonalyze job` prints those that hold, `sonalyze explain` all rules with their outcome.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

__all__ = ["NOTES", "Figures", "Note", "notes_on"]

# Below these shares of what was asked for something was left over; above the last one it was nearly too little.
IDLE = 0.05
LOW = 0.5
LOW_GPU = 0.25
NARROW = 0.9
COVERED_PCT = 80
SPARE = 1.2  # of memory and time that are advised, over what was used


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of a job, of all its hosts together.

    What it had is what it asked for, else all that its hosts have, but of cards those that it used. CPU and GPU are in
    cores and cards, memory in GB, times in seconds; 0 where it is not known.
    """

    hosts: int
    idle_hosts: int  # that used next to nothing of the job's CPU time
    duration_s: int
    limit_s: int
    completed: bool
    state: str  # of the batch system, where that is known
    seen: int
    expected: int
    cores: float
    cpu_avg: float
    cpu_peak: float
    mem_gb: float
    mem_peak: float
    cards: float
    cards_used: int  # different ones; 0 if it is not known which
    gpu_avg: float
    gpu_peak: float
    gpu_failed: bool
    zombie: bool
    asked: bool  # the batch system tells what was asked for

    @property
    def brief(self) -> bool:
        """Whether there are too few samples to judge."""
        return self.seen < 3

    @property
    def cards_in_use(self) -> float:
        """Of the cards that it had, those that it used; all, if it is not known which."""
        return min(self.cards_used or self.cards, self.cards)


@dataclass(frozen=True, slots=True)
class Note:
    """One note: when it holds, by which rule, what it says, and the request to make instead."""

    name: str
    holds: Callable[[Figures], bool]
    rule: str
    text: Callable[[Figures], str]
    request: Callable[[Figures], str] = lambda _figures: ""
    always: bool = False  # also where there are too few samples to judge


def notes_on(figures: Figures) -> list[Note]:
    """Return the notes that hold, in the order of the table."""
    return [note for note in NOTES if (note.always or not figures.brief) and note.holds(figures)]


def _per_host(amount: float, figures: Figures) -> int:
    return max(ceil(amount / max(figures.hosts, 1)), 1)


def _its_gpus(cards: float) -> str:
    return "Its GPU" if round(cards) == 1 else f"Its {cards:.0f} GPUs"


def _time(seconds: float) -> str:
    minutes = max(ceil(seconds / 60), 1)
    return f"{minutes // 1440}-{minutes // 60 % 24:02}:{minutes % 60:02}:00"


NOTES = (
    Note(
        "brief",
        lambda f: f.brief,
        "fewer than 3 samples",
        lambda f: f"There are only {f.seen} samples of this job: too few to judge how it used what it had.",
        always=True,
    ),
    Note(
        "coverage",
        lambda f: f.expected > 0 and f.seen * 100 < COVERED_PCT * f.expected,
        f"samples seen < {COVERED_PCT} % of those expected",
        lambda f: f"Only {f.seen} of {f.expected} samples arrived: averages may miss what happened in between.",
    ),
    Note(
        "out-of-memory",
        lambda f: f.state.startswith("OUT_OF_ME"),
        "state OUT_OF_MEMORY",
        lambda f: f"It was ended because it needed more than its {f.mem_gb:.0f} GB of memory.",
        lambda f: f"#SBATCH --mem={ceil(_per_host(f.mem_gb, f) * 1.5)}G",
        always=True,
    ),
    Note(
        "timeout",
        lambda f: f.state == "TIMEOUT",
        "state TIMEOUT",
        lambda _f: "It was ended at its time limit: ask for more, or let it save its state and go on later.",
        lambda f: f"#SBATCH --time={_time(f.limit_s * 2)}",
        always=True,
    ),
    Note(
        "gpu-failed",
        lambda f: f.gpu_failed,
        "a card of the job failed",
        lambda _f: "A GPU of this job failed while it ran: please tell those who support the cluster.",
        always=True,
    ),
    Note(
        "gpu-idle",
        lambda f: f.cards > 0 and f.gpu_peak < IDLE * f.cards,
        f"peak of GPUs < {IDLE:.0%} of the cards",
        lambda f: f"{_its_gpus(f.cards)} did nothing. Is the program built for GPUs, and told to use them?",
        lambda _f: "leave out --gpus and --gres=gpu, and a partition with GPUs",
    ),
    Note(
        "gpu-number",
        lambda f: f.asked and f.cards > f.cards_used > 0 and f.gpu_peak >= IDLE * f.cards,
        "fewer different cards used than it asked for",
        lambda f: f"It used {f.cards_used} of the {f.cards:.0f} GPUs that it asked for.",
        lambda f: f"#SBATCH --gpus={f.cards_used}",
    ),
    Note(
        "gpu-low",
        lambda f: (
            f.cards > 0 and f.gpu_peak >= IDLE * f.cards and f.gpu_avg < LOW_GPU * min(f.cards, f.cards_used or f.cards)
        ),
        f"average of GPUs < {LOW_GPU:.0%} of the cards in use",
        lambda f: (
            f"Its GPUs were busy {f.gpu_avg / (f.cards_used or f.cards):.0%} of the time: they may wait for data. "
            "Larger batches, or more CPUs that load data, often help."
        ),
    ),
    Note(
        "hosts-idle",
        lambda f: f.hosts > 1 and f.idle_hosts > 0,
        f"a host's CPU average < {IDLE:.0%} of the mean of all",
        lambda f: f"{f.idle_hosts} of its {f.hosts} hosts did nothing. Was the program started on all of them?",
        lambda f: f"#SBATCH --nodes={f.hosts - f.idle_hosts}",
    ),
    Note(
        "serial",
        lambda f: f.asked and f.cores > f.hosts and f.cpu_peak <= 1.2 * f.hosts and f.cpu_avg < LOW * f.cores,
        "never more than 1.2 cores in use on a host, of several",
        lambda f: f"It used one core of the {f.cores:.0f} that it asked for: the program does not run in parallel.",
        lambda _f: "#SBATCH --ntasks=1 --cpus-per-task=1",
    ),
    Note(
        "cpu-low",
        lambda f: f.asked and f.cores > f.hosts and f.cpu_peak > 1.2 * f.hosts and f.cpu_avg < LOW * f.cores,
        f"average of CPUs < {LOW:.0%} of the cores",
        lambda f: (
            f"It used {f.cpu_avg:.1f} of the {f.cores:.0f} cores that it asked for, and {f.cpu_peak:.1f} at most."
        ),
        lambda f: f"#SBATCH --cpus-per-task={_per_host(f.cpu_peak, f)}",
    ),
    Note(
        "cpu-crowded",
        lambda f: f.asked and f.cores > 0 and f.cpu_avg > 1.1 * f.cores,
        "average of CPUs > 110 % of the cores that it asked for",
        lambda f: (
            f"It used {f.cpu_avg:.1f} cores but had asked for {f.cores:.0f}: more threads than cores slow it down."
        ),
        lambda f: f"#SBATCH --cpus-per-task={_per_host(f.cpu_avg, f)}",
    ),
    Note(
        "memory-narrow",
        lambda f: f.asked and f.mem_gb > 0 and NARROW * f.mem_gb < f.mem_peak,
        f"peak of memory > {NARROW:.0%} of what it asked for",
        lambda f: f"It came close to the {f.mem_gb:.0f} GB of memory that it asked for.",
        lambda f: f"#SBATCH --mem={_per_host(f.mem_peak * SPARE, f)}G",
    ),
    Note(
        "memory-low",
        lambda f: f.asked and f.mem_gb > 4 and f.mem_peak * 4 < f.mem_gb,
        "peak of memory < 25 % of what it asked for, and that is more than 4 GB",
        lambda f: f"It used {f.mem_peak:.1f} GB at most of the {f.mem_gb:.0f} GB of memory that it asked for.",
        lambda f: f"#SBATCH --mem={_per_host(f.mem_peak * SPARE, f)}G",
    ),
    Note(
        "time-low",
        lambda f: f.completed and f.limit_s > 3600 and f.duration_s * 4 < f.limit_s and f.state in ("", "COMPLETED"),
        "ran less than 25 % of its time limit, and that is more than an hour",
        lambda _f: "It ended long before its time limit: shorter jobs start sooner.",
        lambda f: f"#SBATCH --time={_time(f.duration_s * SPARE * 1.25)}",
    ),
    Note(
        "zombie",
        lambda f: f.zombie,
        "a process is defunct",
        lambda _f: "A process of it is defunct: it has ended, but nobody took notice.",
        always=True,
    ),
)
