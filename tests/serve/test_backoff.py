"""Who is made to wait after wrong passwords, and who is not."""

import pytest

from sonar.serve import backoff
from sonar.serve.backoff import FORGET_S, FREE_FAILURES, FREE_FAILURES_OF_SOURCE, LONGEST_PAUSE_S, Backoff


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> Backoff:
    return Backoff(clock)


def fail(guard: Backoff, times: int, source: str = "192.0.2.1", user: str = "fox") -> None:
    for _ in range(times):
        guard.failed(source, user)


def test_pause_begins_after_the_free_failures_and_doubles_up_to_a_bound(guard: Backoff) -> None:
    fail(guard, FREE_FAILURES - 1)
    assert guard.pause_s("192.0.2.1", "fox") == 0
    pauses = []
    for _ in range(12):
        fail(guard, 1)
        pauses.append(guard.pause_s("192.0.2.1", "fox"))
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert max(pauses) == LONGEST_PAUSE_S


def test_pause_passes_and_a_success_clears_what_was(guard: Backoff, clock: Clock) -> None:
    fail(guard, FREE_FAILURES)
    clock.now += 1
    assert guard.pause_s("192.0.2.1", "fox") == 0
    guard.succeeded("192.0.2.1", "fox")
    fail(guard, FREE_FAILURES - 1)
    assert guard.pause_s("192.0.2.1", "fox") == 0


def test_failures_are_forgotten(guard: Backoff, clock: Clock) -> None:
    fail(guard, FREE_FAILURES - 1)
    clock.now += FORGET_S + 1
    fail(guard, 1)
    assert guard.pause_s("192.0.2.1", "fox") == 0


def test_others_at_the_same_source_are_not_held_up(guard: Backoff) -> None:
    fail(guard, 50)
    assert guard.pause_s("192.0.2.1", "fox") > 0
    assert guard.pause_s("192.0.2.1", "saga") == 0
    assert guard.pause_s("192.0.2.2", "fox") == 0


def test_one_password_tried_on_many_users_holds_up_the_source_but_for_those_known_there(guard: Backoff) -> None:
    guard.succeeded("192.0.2.1", "saga")
    for n in range(FREE_FAILURES_OF_SOURCE):
        fail(guard, 1, user=f"user{n}")
    assert guard.pause_s("192.0.2.1", "somebody") > 0
    assert guard.pause_s("192.0.2.1", "saga") == 0


def test_network_of_an_ipv6_address_is_one_source(guard: Backoff) -> None:
    for n in range(FREE_FAILURES):
        fail(guard, 1, source=f"2001:db8:1:2::{n:x}")
    assert guard.pause_s("2001:db8:1:2:ffff::1", "fox") > 0
    assert guard.pause_s("2001:db8:1:3::1", "fox") == 0


def test_memory_is_bounded(guard: Backoff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "MOST_KEPT", 10)
    for n in range(100):
        fail(guard, 1, source=f"192.0.2.{n}")
        guard.succeeded(f"198.51.100.{n}", "fox")
    assert len(guard._records) == 10
    assert len(guard._were_right) == 10
