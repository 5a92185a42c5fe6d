"""The distinct texts of a column, numbered over blocks and files, with a table that finds the numbers of many at once.

Texts of up to sixteen bytes are looked up as two numbers; longer ones one by one.
"""

import numpy as np

from sonar.gpusets import mask_of
from sonar.read.fields import Values

__all__ = ["NO_MASK", "Words"]

NO_MASK = (1 << 64) - 1
_SLOTS = 1 << 13
_MIXED = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_FOLD = np.uint64(32)
_SHIFTS = np.uint64(51), np.uint64(38)


class Words:
    """Texts seen so far: `texts[code]` is the one behind a code. There are no zero bytes in them."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._code: dict[bytes, int] = {}
        # Each text has two slots, of which it may take either; a free one has a code below 0, and what no text has.
        self._first = np.zeros((2, _SLOTS), np.uint64)
        self._second = np.ones((2, _SLOTS), np.uint64)
        self._in_slot = np.full((2, _SLOTS), -1, np.int64)
        self._masks = np.zeros(0, np.uint64)

    def __len__(self) -> int:
        return len(self.texts)

    def code(self, text: bytes) -> int:
        """Return the number of a text."""
        code = self._code.get(text)
        if code is None:
            code = self._code[text] = len(self.texts)
            self.texts.append(text.decode("ascii", "replace"))  # what is not ASCII is read again
        return code

    def ranked(self, codes: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Return codes in the byte order of texts, and the texts behind them: only those that occur."""
        used = np.flatnonzero(np.bincount(codes, minlength=1)).tolist() if len(codes) else []
        if len(used) == 1:
            return np.broadcast_to(np.int64(0), len(codes)), [self.texts[used[0]]]
        used.sort(key=self.texts.__getitem__)  # code points are in the order of their bytes
        rank = np.zeros(len(self.texts), np.int64)
        rank[used] = np.arange(len(used))
        return rank.take(codes), [self.texts[code] for code in used]

    def masks(self) -> np.ndarray:
        """Return the set of cards that each text says, by number, NO_MASK for none; each is parsed once."""
        if len(self._masks) < len(self.texts):
            found = [mask_of(text) if text else None for text in self.texts[len(self._masks) :]]
            self._masks = np.append(
                self._masks, np.array([NO_MASK if mask is None else mask for mask in found], np.uint64)
            )
        return self._masks

    def codes(self, values: Values) -> np.ndarray:
        """Return the numbers of texts."""
        length = values.length
        longest = int(length.max())
        first = _upper_bytes(values.words(), length if longest <= 8 else np.minimum(length, 8))
        mixed = first >> _FOLD  # a product's upper bits, which are the slot, are made of the lower ones
        mixed ^= first
        mixed *= _MIXED[0]
        second = None
        if longest > 8:
            second = _upper_bytes(values.words(8), np.clip(length - 8, 0, 8))
            more = second >> _FOLD
            more ^= second
            more *= _MIXED[1]
            mixed ^= more
        slot = (mixed >> _SHIFTS[0]).view(np.int64)
        codes: np.ndarray = self._in_slot[0].take(slot)
        missed = self._first[0].take(slot) != first
        missed |= self._second[0].take(slot) != (0 if second is None else second)
        if longest > 16:
            missed |= length > 16
        if missed.any():
            self._look_further(values, np.flatnonzero(missed), codes, (first, second, mixed))
        return codes

    def _look_further(
        self,
        values: Values,
        left: np.ndarray,
        codes: np.ndarray,
        keys: tuple[np.ndarray, np.ndarray | None, np.ndarray],
    ) -> None:
        """Fill in the codes of texts that their first slots do not have; number those that are new."""
        first = keys[0][left]
        second = np.zeros(len(left), np.uint64) if keys[1] is None else keys[1][left]
        slots = [((keys[2][left] >> shift) & np.uint64(_SLOTS - 1)).view(np.int64) for shift in _SHIFTS]
        short = values.length[left] <= 16
        hit = short & (self._first[1][slots[1]] == first) & (self._second[1][slots[1]] == second)
        codes[left[hit]] = self._in_slot[1][slots[1]][hit]
        others = np.flatnonzero(~hit)
        _, one, of_same = np.unique(keys[2][left[others]], return_index=True, return_inverse=True)
        one = others[one]
        for at in one.tolist():
            row = left[at]
            text = values.text(row)
            is_new = text not in self._code
            codes[row] = code = self.code(text)
            if not is_new or not short[at]:
                continue
            for way in (0, 1):
                slot = slots[way][at]
                if self._in_slot[way][slot] < 0:
                    self._first[way][slot], self._second[way][slot] = first[at], second[at]
                    self._in_slot[way][slot] = code
                    break
        like = one[of_same]
        codes[left[others]] = codes[left[like]]
        same = short[others] & short[like] & (first[others] == first[like]) & (second[others] == second[like])
        for at in others[~same].tolist():
            codes[left[at]] = self.code(values.text(left[at]))


def _upper_bytes(word: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return so many of the first bytes of words, up to eight, moved to the upper end; the words are used up."""
    shift = length << 3
    np.subtract(64, shift, out=shift)
    word <<= shift.view(np.uint64)  # by 64: nothing is left
    return word
