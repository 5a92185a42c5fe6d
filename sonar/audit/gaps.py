"""What is missing: for each host and hour the samples that were to be expected, that came, and why others did not.

Hosts sample at the multiples of an interval. Each such instant is a slot; a slot is filled when a sample taken in it
has arrived, at whatever time. What fills them and what was refused is told by the arrival ledger
(`sonar.store.ledger`). A run of empty slots is explained by the first of these that fits:

    server down, server refusing    the server's own ledger says so
    refused with STATUS             a post of the host was refused at that time, or one of the cluster without a name
    host down                       it was booted in the meantime, or Slurm took it for down
    sampler silent                  it was not, or Slurm did not, or something else came from the host in the meantime
    no sign of life                 nothing is known

Pure: no file, no clock.
"""

import cmath
import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from sonar.store.ledger import Arrival, Interval
from sonar.times import HOUR

__all__ = ["DEFAULT_INTERVAL_S", "BootAfter", "HostHour", "WasDown", "Window", "gaps", "is_sample"]

DEFAULT_INTERVAL_S = 300

BootAfter = Callable[[str, int], int | None]
"""Gives the instant at which a host was booted, as its sample of that instant tells; None if it does not."""

WasDown = Callable[[str, int, int], bool | None]
"""Tells whether Slurm took a host for down at some time between two instants; None if it did not tell."""

_SAMPLES = frozenset({"sonar-freecsv", "sonar-reading", "sonar-heartbeat"})


@dataclass(frozen=True, slots=True)
class Window:
    """What is asked: slots from `start` up to `end`, as things stand at `now`; all instants."""

    start: int
    end: int
    now: int
    interval_s: int | None = None  # of all hosts; None: each host's own, as its samples tell
    usual_interval_s: int = DEFAULT_INTERVAL_S  # where no host's samples tell
    late_after_s: int = 600


@dataclass(frozen=True, slots=True)
class HostHour:
    """An hour of a host: how many slots, and what became of them. `rejected` counts posts, `dropped` records."""

    host: str  # empty: posts of the cluster that were refused without their host being known
    hour: int  # instant of its beginning
    interval_s: int
    expected: int = 0
    received: int = 0
    late: int = 0
    rejected: int = 0
    dropped: int = 0
    why: Mapping[str, int] = field(
        default_factory=dict
    )  # reason -> slots that it explains; 0: it is no reason of a gap

    @property
    def missing(self) -> int:
        """Slots without a sample."""
        return self.expected - self.received


def is_sample(endpoint: str) -> bool:
    """Return whether what comes to an endpoint are samples."""
    return endpoint in _SAMPLES or endpoint.endswith("/sample")


def gaps(
    window: Window,
    arrivals: Iterable[Arrival],
    server: Sequence[Interval],
    *,
    described: Iterable[str] = (),
    boot_after: BootAfter = lambda _host, _instant: None,
    was_down: WasDown = lambda _host, _begin, _end: None,
) -> Iterator[HostHour]:
    """Yield an hour after the other of each host, ascending by host.

    `arrivals` of one cluster: those from some time before the window, which tell which hosts there are, to the present.
    `described` are hosts that are to be there in any case.
    """
    hosts: dict[str, _Host] = defaultdict(_Host)
    for arrival in arrivals:
        hosts[arrival.host].add(arrival)
    cluster_wide = hosts.pop("", _Host())
    seen = {host.split(".")[0] for host in hosts}
    for host in described:
        if host not in hosts and host.split(".")[0] not in seen:
            hosts[host].described = True
    usual_s = _usual([host.interval_s() for host in hosts.values()]) or window.usual_interval_s
    for name, of_host in sorted(hosts.items()):
        interval_s = window.interval_s or of_host.interval_s() or usual_s
        slots = _Slots(window, name, of_host, interval_s, boot_after, was_down)
        yield from slots.hours(server, cluster_wide.refusals)
    yield from _cluster_hours(window, cluster_wide, usual_s)


@dataclass(slots=True)
class _Host:
    """What the ledger has about a host."""

    described: bool = False
    samples: list[Arrival] = field(default_factory=list)
    refusals: list[Arrival] = field(default_factory=list)
    others: list[int] = field(default_factory=list)  # when something else came

    def add(self, arrival: Arrival) -> None:
        if arrival.status != 200:
            self.refusals.append(arrival)
        elif is_sample(arrival.endpoint):
            self.samples.append(arrival)
        else:
            self.others.append(arrival.at)

    def interval_s(self) -> int | None:
        """Return the seconds between samples, as most of them have it; None for too few."""
        times = sorted({sample.newest for sample in self.samples if sample.records})
        steps = Counter(_rounded(b - a) for a, b in pairwise(times))
        return min(steps, key=lambda step: (-steps[step], step)) if steps.total() >= 3 else None


class _Slots:
    """The slots of a host in a window."""

    def __init__(
        self, window: Window, name: str, host: _Host, interval_s: int, boot_after: BootAfter, was_down: WasDown
    ) -> None:
        self._window = window
        self._boot_after = boot_after
        self._was_down = was_down
        self._name = name
        self._host = host
        self._interval_s = interval_s
        self._lateness: dict[int, int] = {}  # of each slot that is filled, the least
        self._times: dict[int, int] = {}  # of each slot that is filled, the time of its sample
        self._samples = list(_sample_times(host.samples, interval_s))
        self._phase = _phase([time for time, _ in self._samples], interval_s)
        for time, late in self._samples:
            slot = self._slot(time)
            if late < self._lateness.get(slot, late + 1):
                self._lateness[slot], self._times[slot] = late, time

    def hours(self, server: Sequence[Interval], cluster_refusals: Sequence[Arrival]) -> Iterator[HostHour]:
        """Yield the hours in which a slot is expected or something happened."""
        first, last = self._range()
        empty = [slot for slot in range(first, last) if slot not in self._lateness]
        reasons = self._reasons(empty, server, cluster_refusals)
        expected: Counter[int] = Counter()
        received: Counter[int] = Counter()
        late: Counter[int] = Counter()
        why: dict[int, Counter[str]] = defaultdict(Counter)
        for slot in range(first, last):
            hour = self._time(slot) // HOUR * HOUR
            expected[hour] += 1
            if slot in self._lateness:
                received[hour] += 1
                late[hour] += self._lateness[slot] > self._window.late_after_s
            else:
                why[hour][reasons[slot]] += 1
        rejected, dropped = _refused_by_hour(self._window, self._host.refusals)
        for sample in self._host.samples:
            if sample.dropped and self._window.start <= sample.at < self._window.end:
                hour = sample.at // HOUR * HOUR
                dropped[hour] += sample.dropped
                why[hour][f"records dropped: {sample.why}"] += 0
        for refusal in self._host.refusals:
            if self._window.start <= refusal.at < self._window.end:
                why[refusal.at // HOUR * HOUR][_text(refusal)] += 0
        for hour in sorted(set(expected) | set(rejected) | set(dropped)):
            yield HostHour(
                self._name, hour, self._interval_s, expected[hour], received[hour], late[hour],
                rejected[hour], dropped[hour], dict(why[hour]),
            )  # fmt: skip

    def _slot(self, time: int) -> int:
        return math.floor((time - self._phase) / self._interval_s + 0.5)

    def _time(self, slot: int) -> int:
        return slot * self._interval_s + round(self._phase)

    def _range(self) -> tuple[int, int]:
        """Return the first slot that is expected, and that behind the last."""
        window, start = self._window, self._window.start
        known = min((sample.oldest for sample in self._host.samples), default=None)
        if known is not None and known > start and not self._host.described:
            start = known
        if known is None and not (self._host.described or self._host.others or self._host.refusals):
            return 0, 0
        # A sample may be on its way: who sends within a window waits for nearly an interval.
        end = min(window.end, window.now - 2 * self._interval_s)
        first = self._slot(start)
        last = self._slot(end)
        return first + (self._time(first) < start), max(last + (self._time(last) < end), first)

    def _reasons(
        self, empty: Sequence[int], server: Sequence[Interval], cluster_refusals: Sequence[Arrival]
    ) -> dict[int, str]:
        reasons: dict[int, str] = {}
        rest = []
        refusals = _Times(self._host.refusals)
        of_cluster = _Times(cluster_refusals)
        for slot in empty:
            begin = self._time(slot)
            end = begin + max(self._interval_s, self._window.late_after_s)
            if interval := next(
                (one for one in server if one.start < begin + self._interval_s and one.end > begin), None
            ):
                reasons[slot] = "server down" if interval.state == "down" else f"server refusing: {interval.why}"
            elif refusal := refusals.within(begin, end):
                reasons[slot] = _text(refusal)
            elif refusal := of_cluster.within(begin, end):
                reasons[slot] = f"perhaps {_text(refusal)}"
            else:
                rest.append(slot)
        filled = sorted(self._lateness)
        for run in _runs(rest, filled):
            reason = self._reason_of_run(run, filled)
            reasons |= dict.fromkeys(run, reason)
        return reasons

    def _reason_of_run(self, run: Sequence[int], filled: Sequence[int]) -> str:
        """Return why there is nothing of a host from one sample to the next, as the next one may tell."""
        begin = self._time(run[0]) - self._interval_s
        following = bisect_right(filled, run[-1])
        end = self._window.now
        if following < len(filled):
            end = self._times[filled[following]]
            booted = self._boot_after(self._name, end)
            if booted is not None:
                # Boot times differ by a second or two from one look to the next.
                return "host down" if booted > begin + 2 else "sampler silent"
        down = self._was_down(self._name, self._time(run[0]), self._time(run[-1]))
        if down is not None:
            return "host down" if down else "sampler silent"
        others = sorted(self._host.others)
        at = bisect_left(others, self._time(run[0]))
        return "sampler silent" if at < len(others) and others[at] < end else "no sign of life"


class _Times:
    """Refusals, to be found by time."""

    def __init__(self, refusals: Sequence[Arrival]) -> None:
        self._refusals = sorted(refusals, key=lambda one: one.until or one.at)
        self._ends = [one.until or one.at for one in self._refusals]

    def within(self, begin: int, end: int) -> Arrival | None:
        """Return one that was between two instants."""
        for one in self._refusals[bisect_left(self._ends, begin) :]:
            if one.at < end:
                return one
            if one.at >= end + HOUR:  # no line of the ledger covers more
                break
        return None


def _sample_times(samples: Iterable[Arrival], interval_s: int) -> Iterator[tuple[int, int]]:
    """Yield the time of each sample in posts, and how late it was. One post may bring those of a longer time."""
    for sample in samples:
        if sample.records:
            steps = min(round(sample.span / interval_s), sample.records - 1)
            for step in range(steps + 1):
                back = step * sample.span // steps if steps else 0
                yield sample.newest - back, sample.late + back


def _phase(times: Sequence[int], interval_s: int) -> float:
    """Return what is added to the multiples of the interval: the mean direction of the times on its circle."""
    total = sum(cmath.exp(2j * math.pi * (time % interval_s) / interval_s) for time in times)
    if not total or abs(total) < 1e-9:
        return 0.0
    return cmath.phase(total) / (2 * math.pi) * interval_s


def _rounded(step: int) -> int:
    """Return the interval that people set where a step is nearly one: runs begin some seconds sooner or later."""
    for usual in (10, 15, 20, 30, 60, 120, 180, 240, 300, 600, 900, 1200, 1800, 3600):
        if abs(step - usual) <= max(usual // 40, 1):
            return usual
    return step


def _usual(intervals: Iterable[int | None]) -> int | None:
    counted = Counter(interval for interval in intervals if interval)
    return min(counted, key=lambda interval: (-counted[interval], interval)) if counted else None


def _runs(slots: Sequence[int], filled: Sequence[int]) -> Iterator[list[int]]:
    """Yield the empty slots in runs between which there is no filled one."""
    run: list[int] = []
    for slot in slots:
        if run and bisect_left(filled, run[-1]) != bisect_left(filled, slot):
            yield run
            run = []
        run.append(slot)
    if run:
        yield run


def _refused_by_hour(window: Window, refusals: Iterable[Arrival]) -> tuple[Counter[int], Counter[int]]:
    """Return how many posts were refused in each hour, and how many records dropped with them."""
    posts: Counter[int] = Counter()
    records: Counter[int] = Counter()
    for one in refusals:
        if window.start <= one.at < window.end:
            posts[one.at // HOUR * HOUR] += one.posts
            records[one.at // HOUR * HOUR] += one.dropped
    return posts, records


def _cluster_hours(window: Window, cluster_wide: _Host, interval_s: int) -> Iterator[HostHour]:
    """Yield the hours in which posts of the cluster were refused whose host is not known."""
    posts, records = _refused_by_hour(window, cluster_wide.refusals)
    why: dict[int, dict[str, int]] = defaultdict(dict)
    for one in cluster_wide.refusals:
        why[one.at // HOUR * HOUR][_text(one)] = 0
    for hour in sorted(posts):
        yield HostHour("", hour, interval_s, rejected=posts[hour], dropped=records[hour], why=why[hour])


def _text(refusal: Arrival) -> str:
    return f"refused with {refusal.status}: {refusal.why}" if refusal.why else f"refused with {refusal.status}"
