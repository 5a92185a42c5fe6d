"""What the digits of many fields say at once: whole numbers, decimals and instants.

Digits are checked and added up eight at a time within a 64-bit number. What has another form (a sign, an exponent,
many decimals) is told apart, for the plain parser to read.
"""

import numpy as np

from sonar.read.fields import Block, Values
from sonar.times import DAY, parse_instant

__all__ = ["NO_INSTANT", "instants_of", "numbers_of", "whole_numbers_of"]

NO_INSTANT = -(1 << 62)
_EXACT = 1 << 53
_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])  # a 29th of February is rare enough
_ZEROS = np.uint64(0x3030303030303030)
_ABOVE_NINE, _HIGH_BITS = np.uint64(0x7676767676767676), np.uint64(0x8080808080808080)
_LAST_BYTE = np.uint64(0xFF << 56)
_POINT = ord(".")
_DAY_AND_T = np.uint64(0xFFFFFF)
_CLOCK = np.uint64(int.from_bytes(b"00:00:00", "little"))
_COLONS = np.uint64(int.from_bytes(b"\0\0\xff\0\0\xff\0\0", "little"))


def whole_numbers_of(texts: Values) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what texts of digits say, and which texts have another form, None if none has."""
    length = texts.length
    if int(length.max()) <= 8 and int(length.min()) > 0:
        digits = _digit_words(texts.words(), length)
        if not _other_than_digits(digits):
            return _of_eight_digits(digits), None
    values, good = _digits(texts.block, texts.start, texts.end)
    return values, None if good.all() else ~good


def numbers_of(texts: Values) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what texts of digits with or without decimals say, and which texts have another form, None if none has.

    Where all are whole, and below 2**53, they are integers. One division of two exact numbers is rounded as a decimal
    is when it is read.
    """
    has_tenths = texts.block.bytes.take(texts.end - 2) == _POINT
    if not has_tenths.any():
        whole, other = whole_numbers_of(texts)
        if other is None and whole.max() < _EXACT:
            return whole, None
        return _with_decimals(texts, whole.astype(np.float64), other)
    if has_tenths.all():
        values, other = _tenths(texts)
        return _with_decimals(texts, values, other)
    values, bad = np.empty(len(texts.start)), np.zeros(len(texts.start), bool)
    for at in (np.flatnonzero(has_tenths), np.flatnonzero(~has_tenths)):
        values[at], other = numbers_of(texts.at(at))
        if other is not None:
            bad[at] = other
    return values, bad if bad.any() else None


def instants_of(texts: Values) -> np.ndarray:
    """Return the instants of RFC 3339 times; of what is none, NO_INSTANT."""
    instants = _instants_of_a_day(texts)
    return _any_instants(texts.block, texts.start, texts.end) if instants is None else instants


def _instants_of_a_day(texts: Values) -> np.ndarray | None:
    """Return instants that differ in their time of day only; None if they do not, or are of an unusual form."""
    length = int(texts.length[0])
    if length not in (20, 25) or np.any(texts.length != length):
        return None
    date, day, clock = texts.words(), texts.words(8) & _DAY_AND_T, texts.words(11)
    zone = texts.words(17) >> np.uint64(16) if length == 25 else texts.words(12) >> np.uint64(56)
    if np.any(date != date[0]) or np.any(day != day[0]) or np.any(zone != zone[0]):
        return None
    text = texts.text(0).decode("ascii")
    midnight = parse_instant(f"{text[:11]}00:00:00{text[19:]}")
    digits = clock ^ _CLOCK
    if midnight is None or _other_than_digits(digits) or np.bitwise_or.reduce(digits & _COLONS):
        return None
    hours, minutes, seconds = (
        (digits >> np.uint64(at) & np.uint64(0xFF)) * np.uint64(10) + (digits >> np.uint64(at + 8) & np.uint64(0xFF))
        for at in (0, 24, 48)
    )
    if hours.max() > 23 or minutes.max() > 59 or seconds.max() > 59:
        return None
    instants: np.ndarray = (hours * np.uint64(3600) + minutes * np.uint64(60) + seconds).view(np.int64) + midnight
    return instants


def _any_instants(block: Block, start: np.ndarray, end: np.ndarray) -> np.ndarray:
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


def _digit_words(word: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return words with the first of their bytes only, as digits in the upper bytes; the words are used up."""
    word ^= _ZEROS
    shift = length << 3
    np.subtract(64, shift, out=shift)
    word <<= shift.view(np.uint64)  # by 64: nothing is left
    return word


def _other_than_digits(digits: np.ndarray) -> bool:
    """Whether any byte of any word is above 9."""
    above = digits + _ABOVE_NINE
    above |= digits
    return bool(np.bitwise_or.reduce(above) & _HIGH_BITS)


def _of_eight_digits(digits: np.ndarray) -> np.ndarray:
    """Return the numbers whose digits are the bytes of each word, the last digit uppermost; the words are used up."""
    digits *= np.uint64(2561)
    digits >>= np.uint64(8)
    digits &= np.uint64(0x00FF00FF00FF00FF)
    digits *= np.uint64(6553601)
    digits >>= np.uint64(16)
    digits &= np.uint64(0x0000FFFF0000FFFF)
    digits *= np.uint64(42949672960001)
    digits >>= np.uint64(32)
    numbers: np.ndarray = digits.view(np.int64)
    return numbers


def _tenths(texts: Values) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what texts with a point before their last digit say, and which have another form."""
    length = texts.length
    if int(length.max()) <= 8 and int(length.min()) > 2:
        word = _digit_words(texts.words(), length)
        last = word & _LAST_BYTE
        word <<= np.uint64(8)  # the point is now the last byte: the last digit takes its place
        word &= ~_LAST_BYTE
        word |= last
        if not _other_than_digits(word):
            return _of_eight_digits(word) / 10.0, None
    return _decimals(texts.block, texts.start, texts.end, 1)


def _with_decimals(texts: Values, values: np.ndarray, other: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the values with those that have two or three decimals put in."""
    for places in (2, 3):
        if other is None:
            break
        at = np.flatnonzero(other)
        values[at], still = _decimals(texts.block, texts.start[at], texts.end[at], places)
        other[at] = False if still is None else still
        other = other if other.any() else None
    return values, other


def _decimals(block: Block, start: np.ndarray, end: np.ndarray, places: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what texts with so many decimals say, and which texts have another form."""
    point = end - places - 1
    whole, good = _digits(block, start, point)
    fraction, fraction_good = _digits(block, point + 1, end)
    digits = whole * 10**places + fraction
    good &= fraction_good & (block.bytes.take(point) == _POINT) & (point - start <= 12) & (digits < _EXACT)
    return digits / 10.0**places, None if good.all() else ~good


def _digits(block: Block, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the whole numbers of up to 16 digits, and which texts are such."""
    length = end - start
    upper = np.clip(length - 8, 0, 8)
    low, low_good = _up_to_eight(block, start + upper, np.clip(length - upper, 0, 8))
    high, high_good = _up_to_eight(block, start, upper)
    return high * 100_000_000 + low, low_good & high_good & (length > 0) & (length <= 16)


def _up_to_eight(block: Block, start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    digits = _digit_words(block.words[start], length)
    good = ((digits + _ABOVE_NINE) | digits) & _HIGH_BITS == 0
    return _of_eight_digits(digits), good
