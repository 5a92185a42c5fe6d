"""The schedule, with a clock that we turn."""

import os
import signal
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from sonar.node.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """A clock that moves only when someone waits, or when it is set."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.waits: list[float] = []
        self.asleep: Callable[[], None] = lambda: None
        self.end = False

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        self.asleep()
        return self.end


def schedule(clock: Clock, interval_s: int = 300, **options: object) -> Schedule:
    return Schedule(interval_s, wait=clock.wait, clock=clock, **options)  # type: ignore[arg-type]


def test_samples_are_at_multiples_of_the_interval_however_long_they_take() -> None:
    clock = Clock(1000.25)
    times = []
    timed = schedule(clock)
    for cost_s in (0, 12.5, 299, 0):
        assert timed.wait_for_next()
        times.append(clock.now)
        clock.now += cost_s

    assert times == [1200, 1500, 1800, 2100]


def test_sample_on_the_very_instant_is_not_taken_twice() -> None:
    clock = Clock(1200)
    timed = schedule(clock)

    assert timed.wait_for_next()
    assert clock.now == 1500


def test_what_was_missed_is_made_up_for_by_one_sample() -> None:
    clock = Clock(1000)
    timed = schedule(clock)
    assert timed.wait_for_next()
    clock.now += 7 * 300 + 20  # suspended, or a sample that took very long

    times = []
    for _ in range(3):
        assert timed.wait_for_next()
        times.append(clock.now)

    assert times == [3320, 3600, 3900]


def test_clock_that_is_set_back_does_not_stop_sampling() -> None:
    clock = Clock(1_000_000)
    timed = schedule(clock)
    clock.now = 5000

    assert timed.wait_for_next()
    assert clock.now == 5100


def test_clock_that_is_set_forward_is_noticed_soon() -> None:
    clock = Clock(1000)
    timed = schedule(clock, 86400)

    def set_forward() -> None:
        clock.now += 100_000
        clock.asleep = lambda: None

    clock.asleep = set_forward
    assert timed.wait_for_next()
    assert len(clock.waits) <= 2


def test_watchdog_is_fed_in_time() -> None:
    clock = Clock(1000)
    fed: list[float] = []
    timed = schedule(clock, heartbeat=lambda: fed.append(clock.now), heartbeat_s=7.5)

    for _ in range(3):
        assert timed.wait_for_next()

    assert max(later - earlier for earlier, later in pairwise(fed)) <= 7.5


def test_asked_to_end() -> None:
    clock = Clock(1000)
    clock.end = True

    assert not schedule(clock).wait_for_next()
    clock.end = False
    timed = schedule(clock)
    clock.now += 10_000
    clock.end = True
    assert not timed.wait_for_next()  # also when the next sample is overdue


@given(interval=st.integers(1, 100_000), now=st.floats(0, 1e11))
def test_next_instant_is_later_and_within_the_interval(interval: int, now: float) -> None:
    following = schedule(Clock(now), interval).next_after(now)

    assert following % interval == 0
    assert now < following <= now + interval


def test_signal_ends_the_wait_and_interrupts_nothing_else() -> None:
    script = (
        "import os, signal\n"
        "from sonar.node.schedule import wait_for_signal\n"
        "wait = wait_for_signal({signal.SIGTERM, signal.SIGINT})\n"
        "print(wait(0), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('goes on', wait(60), flush=True)\n"
        "print(wait(600))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=os.environ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "False\n"
        assert child.stdout.readline() == "goes on True\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() == "True\n"
    assert child.returncode == 0
