"""Idle GPUs: spells in which a job held cards and did not use them, found by a window that slides over its steps."""

from dataclasses import dataclass

import numpy as np

from sonar.analysis.merge import Steps
from sonar.gpusets import UNKNOWN

__all__ = ["IdleSpell", "idle_spells"]


@dataclass(frozen=True, slots=True)
class IdleSpell:
    """The longest idle spell of a group: instants; means over it in percent of one card; the cards held."""

    group: int
    start: int
    end: int
    gpu: float
    gpumem: float
    cards: int

    @property
    def length(self) -> int:
        """Return how long it was, in seconds."""
        return self.end - self.start


def idle_spells(
    steps: Steps, length_s: int, step_s: int, most_gpu: float, most_gpumem: float
) -> dict[int, IdleSpell]:  # fmt: skip
    """Return the longest idle spell of each group that has one.

    A window of `length_s` that ends at a step is idle if the group held cards at each of its steps, no step of it is
    missing, the mean utilization of a card is below `most_gpu` percent, and that of its memory at most `most_gpumem`.
    A spell is the time that idle windows which overlap cover together. Sets of cards that are not known are not judged.
    """
    size = len(steps)
    if size == 0 or length_s <= 0:
        return {}
    masks = steps["gpus"]
    cards = np.array([int(mask).bit_count() if mask != UNKNOWN else 0 for mask in masks.tolist()], np.int64)
    held = cards > 0
    gpu = np.where(held, steps["gpu_pct"] / np.maximum(cards, 1), 0.0)
    memory = np.where(held, steps["gpumem_pct"] / np.maximum(cards, 1), 0.0)

    group, time = steps.group, steps.time
    origin, span = int(time.min()), int(time.max() - time.min()) + length_s + 2
    place = group * span + (time - origin)
    rows = np.arange(size)
    # The window's first step: the last one at or before its beginning, so that the window is covered whole.
    first = np.searchsorted(place, place - length_s, "right") - 1
    first = np.maximum(first, 0)
    whole = (group[first] == group) & (time - time[first] >= length_s)
    whole &= time - time[first] <= length_s + 2 * step_s
    number = rows - first + 1
    whole &= (number - 1) * step_s >= 0.9 * (time - time[first])

    def window_sum(values: np.ndarray) -> np.ndarray:
        total = np.concatenate([[0.0], np.cumsum(values)])
        sums: np.ndarray = total[rows + 1] - total[first]
        return sums

    idle = whole & (window_sum(held.astype(float)) == number)
    idle &= window_sum(gpu) / number < most_gpu
    idle &= window_sum(memory) / number <= most_gpumem
    found: dict[int, IdleSpell] = {}
    begin = end = -1
    for row in np.flatnonzero(idle).tolist():
        if begin < 0 or group[row] != group[end] or first[row] > end:
            begin = int(first[row])
        end = row
        part = slice(begin, end + 1)
        known = found.get(int(group[row]))
        if known is None or time[end] - time[begin] > known.length:
            found[int(group[row])] = IdleSpell(
                int(group[row]),
                int(time[begin]),
                int(time[end]),
                float(gpu[part].mean()),
                float(memory[part].mean()),
                int(cards[part].max()),
            )
    return found
