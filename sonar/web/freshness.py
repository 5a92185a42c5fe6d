"""How old something is, in words and in levels."""

from sonar.times import DAY, HOUR, MINUTE

__all__ = ["LIVE_S", "STALE_S", "age_text", "level_of"]

LIVE_S = 5 * MINUTE + 30  # a sample every five minutes, sent at once
STALE_S = 15 * MINUTE


def level_of(seen: int | None, now: int) -> str:
    """Return `live`, `stale` or `offline` for the instant of the last sample."""
    if seen is None or now - seen > STALE_S:
        return "offline"
    return "live" if now - seen <= LIVE_S else "stale"


def age_text(instant: int | None, now: int) -> str:
    """Return how long ago an instant was."""
    if instant is None:
        return "never"
    age = max(now - instant, 0)
    if age < MINUTE:
        return "just now"
    if age < HOUR:
        return f"{age // MINUTE} min ago"
    if age < 2 * DAY:
        return f"{age // HOUR} h {age % HOUR // MINUTE} min ago"
    return f"{age // DAY} days ago"
