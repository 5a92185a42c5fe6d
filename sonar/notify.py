"""What a service tells systemd about itself (sd_notify(3)); silent where nobody listens."""

import os
import time

import sdnotify

__all__ = ["ready", "reloading", "status", "stopping", "watchdog", "watchdog_period"]

# Without an address to send to, the notifier would leave an unclosed socket behind.
_socket = sdnotify.SystemdNotifier() if "NOTIFY_SOCKET" in os.environ else None


def ready(text: str) -> None:
    """Say that the service is up (or up again, after a reload), with one line of status."""
    _send(f"READY=1\nSTATUS={text}")


def status(text: str) -> None:
    """Set the line that `systemctl status` shows."""
    _send(f"STATUS={text}")


def reloading() -> None:
    """Say that a reload has begun; `ready` ends it."""
    _send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def stopping(text: str) -> None:
    """Say that the service drains and then ends."""
    _send(f"STOPPING=1\nSTATUS={text}")


def watchdog() -> None:
    """Feed the watchdog. Call it only after the service has proved to itself that it works."""
    _send("WATCHDOG=1")


def watchdog_period() -> float | None:
    """Return how many seconds may pass between two calls of `watchdog` (half the limit); None without a watchdog."""
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    return int(limit_us) / 2e6 if limit_us.isdigit() and int(limit_us) > 0 else None


def _send(state: str) -> None:
    if _socket:
        _socket.notify(state)
