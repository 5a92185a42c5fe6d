"""What the digits of many fields say at once: whole numbers, decimals and instants.

Digits are checked and added up eight at a time within a 64-bit number. What has another form (a sign, an exponent,
many decimals) is told apart, for the plain parser to read.
"""

import numpy as np

from sonar.read.fields import FIRST_BYTES, Block
from sonar.times import DAY, parse_instant

__all__ = ["NO_INSTANT", "instants_of", "numbers_of", "runs_of"]

NO_INSTANT = -(1 << 62)
_EXACT = 1 << 53
_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])  # a 29th of February is rare enough
# By length 0..8 of a text: the bytes of a word that belong to it, counted from the last.
_LAST_BYTES = np.array([((1 << 64) - 1) ^ ((1 << 8 * (8 - length)) - 1) for length in range(9)], np.uint64)
_ZEROS = np.uint64(0x3030303030303030)


def numbers_of(block: Block, part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values of numbers, not a number where a form is unusual; the whole ones; which of them are whole."""
    start, end = block.value[part], block.end[part]
    whole, good = _digits(block, start, end)
    values = whole.astype(np.float64)
    other = np.flatnonzero(~good)
    if len(other):
        found, is_decimal = _decimals(block, start[other], end[other])
        values[other] = np.where(is_decimal, found, np.nan)
    return values, whole, good


def instants_of(block: Block, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the instants of RFC 3339 times; of what is none, NO_INSTANT."""
    char = block.bytes[start[:, None] + np.arange(25)]
    digit = char.astype(np.int64) - 48
    zulu, offset = end - start == 20, end - start == 25
    good = (zulu & (char[:, 19] == ord("Z"))) | (offset & ((char[:, 19] == ord("+")) | (char[:, 19] == ord("-"))))
    for at, sign in ((4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")):
        good &= char[:, at] == ord(sign)
    good &= zulu | (char[:, 22] == ord(":"))
    digit[zulu, 19:] = 0
    places = [at for at in range(25) if at not in (4, 7, 10, 13, 16, 19, 22)]
    good &= np.all((digit[:, places] >= 0) & (digit[:, places] <= 9), axis=1)
    pairs = {at: digit[:, at] * 10 + digit[:, at + 1] for at in (0, 2, 5, 8, 11, 14, 17, 20, 23)}
    good &= (pairs[11] <= 23) & (pairs[14] <= 59) & (pairs[17] <= 60) & (pairs[20] <= 23) & (pairs[23] <= 59)
    year, month, day = pairs[0] * 100 + pairs[2], pairs[5], pairs[8]
    good &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= _DAYS[np.clip(month, 0, 12)])
    since_march = np.where(month > 2, month - 3, month + 9)
    years = year - (month <= 2)
    days = 365 * years + years // 4 - years // 100 + years // 400 + (153 * since_march + 2) // 5 + day - 719469
    behind = (pairs[20] * 3600 + pairs[23] * 60) * np.where(char[:, 19] == ord("-"), -1, 1)
    instants: np.ndarray = days * DAY + pairs[11] * 3600 + pairs[14] * 60 + np.minimum(pairs[17], 59) - behind
    for at in np.flatnonzero(~good).tolist():
        instant = parse_instant(block.text(start[at], end[at]).decode("ascii", "replace"))
        instants[at] = NO_INSTANT if instant is None else instant
    return instants


def runs_of(block: Block, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where runs of equal texts begin, and each text's run; those longer than 32 bytes are alone."""
    length = end - start
    longest, all_equal = int(length.max()), bool(length.min() == length.max())
    same = np.ones(len(start) - 1, bool)
    for offset in range(0, min(longest, 32), 8):
        word = block.words[np.minimum(start + offset, len(block.words) - 1)]
        if not all_equal or longest < offset + 8:
            word &= FIRST_BYTES[np.clip(length - offset, 0, 8)]
        same &= word[1:] == word[:-1]
    if not all_equal:
        same &= length[1:] == length[:-1]
    if longest > 32:
        same &= length[1:] <= 32
    new = np.append(True, ~same)
    return np.flatnonzero(new), np.cumsum(new) - 1


def _digits(block: Block, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the whole numbers of up to 16 digits, and which texts are such."""
    length = end - start
    value, good = _eight_digits(block.words[end - 8], np.clip(length, 0, 8))
    good &= (length > 0) & (length <= 16)
    long = np.flatnonzero(length > 8)
    if len(long):
        high, high_good = _eight_digits(block.words[end[long] - 16], np.clip(length[long] - 8, 0, 8))
        value[long] += high * 100_000_000
        good[long] &= high_good
    return value, good


def _eight_digits(word: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number that the last bytes of each word say, and whether they are all digits."""
    keep = _LAST_BYTES[length]
    digits = ((word & keep) | (_ZEROS & ~keep)) ^ _ZEROS
    good = (((digits + np.uint64(0x7676767676767676)) | digits) & np.uint64(0x8080808080808080)) == 0
    digits *= np.uint64(2561)
    digits >>= np.uint64(8)
    digits &= np.uint64(0x00FF00FF00FF00FF)
    digits *= np.uint64(6553601)
    digits >>= np.uint64(16)
    digits &= np.uint64(0x0000FFFF0000FFFF)
    digits *= np.uint64(42949672960001)
    digits >>= np.uint64(32)
    return digits.astype(np.int64), good


def _decimals(block: Block, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers with one to three decimals, and which texts are such.

    One division of two exact numbers is rounded as a decimal is when it is read.
    """
    values, good = np.zeros(len(start)), np.zeros(len(start), bool)
    for places in (1, 2, 3):
        at = np.flatnonzero(~good & (end - start > places + 1) & (block.bytes[end - places - 1] == ord(".")))
        if len(at) == 0:
            continue
        point = end[at] - places - 1
        whole, whole_good = _digits(block, start[at], point)
        fraction, fraction_good = _eight_digits(block.words[end[at] - 8], np.full(len(at), places))
        digits = whole * 10**places + fraction
        values[at] = digits / 10.0**places
        good[at] = whole_good & fraction_good & (point - start[at] <= 12) & (digits < _EXACT)
    return values, good
