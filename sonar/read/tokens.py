"""Tagged CSV, vectorised: all fields of a block of records at once, over the bytes.

`records.py` defines what is right. What this module does not recognise at sight (odd quotes, carriage returns, text
that is not ASCII, untagged records, numbers with a sign or an exponent, missing or repeated tags) it leaves to that
parser, record by record, and puts the outcome back in its place. So both always give the same rows.

How: the separators of a block are found by comparing bytes; the first eight bytes of each field, loaded as one
number, tell its tag; digits are checked and added up eight at a time within a 64-bit number; texts are looked up by
two such numbers in a table that is kept over blocks and files.
"""

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sonar.gpusets import mask_of
from sonar.read.records import read_part
from sonar.read.rows import DEFAULTS, Rows
from sonar.read.schema import COLUMNS, TEXT_COLUMNS, sample_schema
from sonar.times import DAY, parse_instant

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Tokenizer"]

_BLOCK = 1 << 20
_PAD = 32  # before and after a block, so that loads of 8 to 32 bytes around any field stay within the buffer
_COMMA, _NEWLINE, _QUOTE, _RETURN = b',\n"\r'
_LARGEST_RECORD = 1 << 20
_MOST_WORDS = 1 << 18  # distinct texts remembered over files
_U32 = (1 << 32) - 1
_EXACT = 1 << 53

_NUMBERS = ("cores", "job", "rolledup", "gpufail", "epoch", "pid", "ppid")
_NUMBERS_U32 = ("cores", "job", "rolledup", "gpufail")
# Tags in the order of their numbers from 1 on: numbers first, so that they are one range; then texts.
_TAGS = (
    ("cores", "cores"),
    ("job", "job"),
    ("rolledup", "rolledup"),
    ("gpufail", "gpufail"),
    ("epoch", "epoch"),
    ("pid", "pid"),
    ("ppid", "ppid"),
    ("cpu%", "cpu_pct"),
    ("cpukib", "cpu_kib"),
    ("rssanonkib", "rss_kib"),
    ("gpu%", "gpu_pct"),
    ("gpumem%", "gpumem_pct"),
    ("gpukib", "gpu_kib"),
    ("cputime_sec", "cputime_s"),
    ("v", "version"),
    ("time", "time"),
    ("host", "host"),
    ("user", "user"),
    ("cmd", "cmd"),
    ("gpus", "gpus"),
)
_TEXTS_FROM = 15  # the number of the first text
_NO_MASK = (1 << 64) - 1
_NO_INSTANT = -(1 << 62)
_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])  # a 29th of February is rare enough
_MANDATORY = ("version", "time", "host", "user", "cmd")


def _u64(text: str) -> int:
    return int.from_bytes(text.encode()[:8].ljust(8, b"\0"), "little")


_PATTERN = np.zeros(len(_TAGS) + 1, np.uint64)
_MASK = np.zeros(len(_TAGS) + 1, np.uint64)
_LENGTH = np.zeros(len(_TAGS) + 1, np.int64)
_REST: dict[int, tuple[int, int]] = {}  # of tags longer than 8 bytes with `=`: pattern and mask of what follows
_BY_FIRST_AND_FOURTH = np.zeros(1 << 16, np.uint8)
for _number, (_tag, _column) in enumerate(_TAGS, 1):
    _text = f"{_tag}="
    _LENGTH[_number] = len(_text)
    _PATTERN[_number], _MASK[_number] = _u64(_text), (1 << 8 * min(len(_text), 8)) - 1
    if len(_text) > 8:
        _REST[_number] = _u64(_text[8:]), (1 << 8 * (len(_text) - 8)) - 1
    if len(_text) < 4:
        _BY_FIRST_AND_FOURTH[(np.arange(256) << 8) | ord(_text[0])] = _number
    else:
        _BY_FIRST_AND_FOURTH[(ord(_text[3]) << 8) | ord(_text[0])] = _number

# By length 0..8 of a text: the bytes that belong to it, counted from the first, or from the last of the word.
_FIRST_BYTES = np.array([(1 << 8 * length) - 1 for length in range(9)], np.uint64)
_LAST_BYTES = np.array([((1 << 64) - 1) ^ ((1 << 8 * (8 - length)) - 1) for length in range(9)], np.uint64)
_ZEROS = np.uint64(0x3030303030303030)


class Tokenizer:
    """Parses files of records; texts seen once are remembered from file to file."""

    def __init__(self) -> None:
        _keep_freed_memory()
        self._words = {name: _Words() for name in (*TEXT_COLUMNS, "gpus")}

    def table(self, data: bytes, dropped: Counter[str], *, begins_file: bool = True) -> "pa.Table":
        """Return every good record of a file's bytes, in order, as a table of the schema; count the bad ones."""
        import pyarrow as pa

        if begins_file:
            data = data.removeprefix(b"\xef\xbb\xbf")
        if max((len(words) for words in self._words.values()), default=0) > _MOST_WORDS:
            self.__init__()  # type: ignore[misc]
        tables = [self._block(data[start:end], dropped) for start, end in _blocks(data)]
        if len(tables) == 1:
            return tables[0]
        return pa.concat_tables([table for table in tables if len(table)] or [Rows().table()]).unify_dictionaries()

    def _block(self, data: bytes, dropped: Counter[str]) -> "pa.Table":
        block = _Block(data)
        columns = self._columns(block)
        return _table(columns, self._words, block, dropped)

    def _columns(self, block: "_Block") -> dict[str, np.ndarray]:
        """Return the values by column, a row for each line; marks in the block the lines that have to be read again."""
        columns: dict[str, np.ndarray] = {}
        numbers, whole, is_whole = _numbers(block, slice(block.bounds[1], block.bounds[_TEXTS_FROM]))
        origin = block.bounds[1]
        for number, (_tag, column) in enumerate(_TAGS, 1):
            part = slice(block.bounds[number], block.bounds[number + 1])
            lines = block.line[part]
            if part.start == part.stop:
                if column in _MANDATORY:
                    block.odd[:] = True
                continue
            twice = block.repeats[part.start : part.stop - 1]
            if repeated := bool(twice.any()):
                block.odd[lines[1:][twice]] = True
            if number < _TEXTS_FROM:
                of_column = slice(part.start - origin, part.stop - origin)
                if column in _NUMBERS:
                    values, bad = whole[of_column], ~is_whole[of_column]
                    if column in _NUMBERS_U32:
                        bad |= values > _U32
                else:
                    values = numbers[of_column]
                    bad = np.isnan(values)
            else:
                values, bad = self._texts(block, part, column)
            if bad.any():
                block.odd[lines[bad]] = True
            columns[column] = _placed(column, values, lines, len(block.odd), in_order=not repeated)
            if column in _MANDATORY and (repeated or len(lines) < len(block.odd)):
                there = np.zeros(len(block.odd), bool)
                there[lines] = True
                block.odd |= ~there
        return columns

    def _texts(self, block: "_Block", part: slice, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Return codes, instants or masks of the texts of a column, and which of them have to be looked at again."""
        start, end = block.value[part], block.end[part]
        if column == "time":
            heads, run = _runs(block, start, end)
            instants = _instants(block, start[heads], end[heads])[run]
            return instants, instants == _NO_INSTANT
        words = self._words[column]
        if column in ("version", "host"):  # they hardly ever change
            heads, run = _runs(block, start, end)
            of_heads = [words.code(block.text(start[at], end[at])) for at in heads.tolist()]
            return np.array(of_heads, np.int64)[run], end == start
        codes = words.codes(block, start, end)
        if column == "gpus":
            masks = words.masks()[codes]
            return masks, masks == _NO_MASK
        return codes, (end == start) & (column == "user")


class _Words:
    """The distinct texts of a column, numbered, with a table that finds the numbers of many at once."""

    _SLOTS = 1 << 13

    def __init__(self) -> None:
        self._code: dict[bytes, int] = {}
        self.texts: list[str] = []
        self._first = np.zeros((2, self._SLOTS), np.uint64)
        self._second = np.zeros((2, self._SLOTS), np.uint64)
        self._known = np.full((2, self._SLOTS), -1, np.int64)  # length * 2**32 + code
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

    def masks(self) -> np.ndarray:
        """Return the set of cards that each text says, by number; each is parsed once."""
        if len(self._masks) < len(self.texts):
            found = [mask_of(text) if text else None for text in self.texts[len(self._masks) :]]
            self._masks = np.append(
                self._masks, np.array([_NO_MASK if mask is None else mask for mask in found], np.uint64)
            )
        return self._masks

    def codes(self, block: "_Block", start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return the numbers of the texts at these places of a block."""
        length = end - start
        first = block.words[start] & _FIRST_BYTES[np.minimum(length, 8)]
        second = block.words[start + 8] & _FIRST_BYTES[np.clip(length - 8, 0, 8)]
        mixed = (first * np.uint64(0x9E3779B97F4A7C15)) ^ (second * np.uint64(0xC2B2AE3D27D4EB4F))
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        slots = (
            (mixed >> np.uint64(51)).astype(np.int64),
            ((mixed >> np.uint64(20)) & np.uint64(self._SLOTS - 1)).astype(np.int64),
        )
        codes: np.ndarray = np.full(len(start), -1, np.int64)
        left = np.arange(len(start))
        for way, slot in enumerate(slots):
            at = slot[left]
            known = self._known[way][at]
            hit = (self._first[way][at] == first[left]) & (self._second[way][at] == second[left])
            hit &= (known >> 32) == length[left]
            if way == 0 and hit.all():
                codes[:] = known & 0xFFFFFFFF
                return codes
            codes[left[hit]] = known[hit] & 0xFFFFFFFF
            left = left[~hit]
        self._learn(block, start, end, left, codes, (first, second, slots))
        return codes

    def _learn(
        self, block: "_Block", start: np.ndarray, end: np.ndarray, left: np.ndarray, codes: np.ndarray, keys: Any
    ) -> None:
        """Number the texts that the table does not have, and put them into it where there is room."""
        first, second, slots = keys
        for at in left:
            text = block.text(start[at], end[at])
            is_new = text not in self._code
            codes[at] = code = self.code(text)
            if not is_new or len(text) > 16:
                continue
            for way in (0, 1):
                slot = slots[way][at]
                if self._known[way][slot] < 0:
                    self._first[way][slot], self._second[way][slot] = first[at], second[at]
                    self._known[way][slot] = (len(text) << 32) | code
                    break


class _Block:
    """Some lines of a file, and where their fields are: sorted by tag, then by line.

    `line`, `value`, `end` are the line of a field and where its value begins and ends; the fields of tag number n are
    those from `bounds[n]` to `bounds[n + 1]`. `odd` marks lines that the plain parser has to read.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        padded = bytearray(_PAD + len(data) + 1 + _PAD)
        padded[_PAD : _PAD + len(data)] = data
        size = _PAD + len(data)
        if not data.endswith(b"\n"):
            padded[size] = _NEWLINE
            size += 1
        self.buffer = padded
        self.bytes = np.frombuffer(padded, np.uint8)
        self.words = np.ndarray((len(padded) - 7,), "<u8", buffer=padded, strides=(1,))
        content = self.bytes[_PAD:size]
        separators = np.flatnonzero((content == _COMMA) | (content == _NEWLINE))
        separators += _PAD
        ends_line = np.flatnonzero(self.bytes[separators] == _NEWLINE)
        self.line_end = separators[ends_line]
        self.line_start = np.append(_PAD, self.line_end[:-1] + 1)
        self.odd = self.line_end - self.line_start > _LARGEST_RECORD
        self._mark_unusual(content, data)
        if has_quotes := b'"' in data:
            separators = self._outside_quotes(content, separators)
            ends_line = np.flatnonzero(self.bytes[separators] == _NEWLINE)
        self._find_fields(separators, ends_line, has_quotes=has_quotes)

    def text(self, start: int, end: int) -> bytes:
        """Return the bytes between two places."""
        return bytes(self.buffer[start:end])

    def part(self, first: int, last: int) -> bytes:
        """Return the bytes of lines first..last of the file."""
        return self.data[self.line_start[first] - _PAD : self.line_end[last] + 1 - _PAD]

    def _mark_unusual(self, content: np.ndarray, data: bytes) -> None:
        """Mark lines with carriage returns or with bytes that are not ASCII."""
        if b"\r" in data:
            self.odd[np.searchsorted(self.line_end, np.flatnonzero(content == _RETURN) + _PAD)] = True
        if not data.isascii():
            self.odd[np.searchsorted(self.line_end, np.flatnonzero(content >= 128) + _PAD)] = True

    def _outside_quotes(self, content: np.ndarray, separators: np.ndarray) -> np.ndarray:
        """Return the separators that are not within quotes; mark lines in which quotes are not around whole fields."""
        quotes = np.flatnonzero(content == _QUOTE) + _PAD
        line = np.searchsorted(self.line_end, quotes)
        number = np.bincount(line, minlength=len(self.line_end))
        before = np.cumsum(number) - number
        opens = (np.arange(len(quotes)) - before[line]) % 2 == 0
        ahead, behind = self.bytes[quotes - 1], self.bytes[quotes + 1]
        at_start = (ahead == _COMMA) | (ahead == _NEWLINE) | (quotes == _PAD)
        at_end = (behind == _COMMA) | (behind == _NEWLINE)
        odd = number % 2 == 1
        odd[line[np.where(opens, ~at_start, ~at_end)]] = True
        odd |= self.odd & (number > 0)  # a carriage return ends a line, too
        if odd.any():
            # A quote that stays open takes in what follows, up to a line that must be the start of a record.
            starts = self._record_starts()
            next_start = np.append(np.flatnonzero(starts), len(starts))
            for at in np.flatnonzero(odd):
                self.odd[at : next_start[np.searchsorted(next_start, at + 1)]] = True
        quotes = quotes[~odd[line]]
        outside: np.ndarray = separators[np.searchsorted(quotes, separators) % 2 == 0]
        return outside

    def _record_starts(self) -> np.ndarray:
        """Return which lines begin with `v=`: these begin a record, whatever stands before them."""
        first, second, third = (self.bytes[self.line_start + offset] for offset in range(3))
        plain = (first == ord("v")) & (second == ord("="))
        starts: np.ndarray = plain | ((first == _QUOTE) & (second == ord("v")) & (third == ord("=")))
        return starts

    def _find_fields(self, end: np.ndarray, ends_line: np.ndarray, *, has_quotes: bool) -> None:
        """Find the fields that end at these separators, of which some end a line, and sort them by tag."""
        start = np.empty_like(end)
        start[0] = _PAD
        np.add(end[:-1], 1, out=start[1:])
        line = np.repeat(np.arange(len(ends_line)), np.diff(ends_line, prepend=-1))
        lead = self.bytes[self.line_start]
        if has_quotes:
            quoted = self.bytes[start] == _QUOTE
            start = start + quoted
            end = end - quoted
            lead = np.where(lead == _QUOTE, self.bytes[self.line_start + 1], lead)
        self.odd |= (lead >= 48) & (lead <= 57)
        self.empty = self.line_end == self.line_start

        head = self.words[start]
        key = (head & np.uint64(0xFF)) | ((head >> np.uint64(16)) & np.uint64(0xFF00))
        tag = _BY_FIRST_AND_FOURTH.take(key.view(np.int64), mode="clip")
        head &= _MASK.take(tag, mode="clip")
        tag[head != _PATTERN.take(tag, mode="clip")] = 0
        for number, (pattern, mask) in _REST.items():
            where = np.flatnonzero(tag == number)
            rest = self.words[start[where] + 8] & np.uint64(mask)
            tag[where[rest != np.uint64(pattern)]] = 0
        order = np.argsort(tag, kind="stable")
        bounds = np.searchsorted(tag[order], np.arange(len(_TAGS) + 2))
        order = order[bounds[1] :]
        bounds -= bounds[1]
        self.bounds = [0, *bounds[1:].tolist()]
        self.line = line[order]
        self.end = end[order]
        self.value = start[order] + np.repeat(_LENGTH[1:], np.diff(bounds[1:]))
        self.repeats = self.line[1:] == self.line[:-1]


@cache
def _keep_freed_memory() -> None:
    """Have the C library keep what is freed: else each array of a block is mapped, zeroed and unmapped anew.

    That is a quarter of the time. Other C libraries than glibc have no such knob, and need none.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: arrays below that come from the heap
        mallopt(-1, 64 << 20)  # M_TRIM_THRESHOLD: so much free heap is kept


def _blocks(data: bytes) -> list[tuple[int, int]]:
    """Return where to cut a file into blocks: before lines that begin a record whatever stands before them."""
    cuts, at = [0], _BLOCK
    while at < len(data):
        line = data.find(b"\nv=", at, at + _BLOCK)
        if line < 0:
            at += _BLOCK
            continue
        cuts.append(line + 1)
        at = line + 1 + _BLOCK
    return list(zip(cuts, [*cuts[1:], len(data)], strict=True)) if data else []


def _numbers(block: _Block, part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values of numbers, not a number where a form is unusual; the whole ones; which of them are whole."""
    start, end = block.value[part], block.end[part]
    whole, good = _digits(block, start, end)
    values = whole.astype(np.float64)
    other = np.flatnonzero(~good)
    if len(other):
        found, is_decimal = _decimals(block, start[other], end[other])
        values[other] = np.where(is_decimal, found, np.nan)
    return values, whole, good


def _digits(block: _Block, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def _decimals(block: _Block, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def _runs(block: _Block, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where runs of equal texts begin, and each text's run; those longer than 32 bytes are alone."""
    length = end - start
    longest, all_equal = int(length.max()), bool(length.min() == length.max())
    same = np.ones(len(start) - 1, bool)
    for offset in range(0, min(longest, 32), 8):
        word = block.words[np.minimum(start + offset, len(block.words) - 1)]
        if not all_equal or longest < offset + 8:
            word &= _FIRST_BYTES[np.clip(length - offset, 0, 8)]
        same &= word[1:] == word[:-1]
    if not all_equal:
        same &= length[1:] == length[:-1]
    if longest > 32:
        same &= length[1:] <= 32
    new = np.append(True, ~same)
    return np.flatnonzero(new), np.cumsum(new) - 1


def _instants(block: _Block, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the instants of RFC 3339 times; of what is none, _NO_INSTANT."""
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
        instants[at] = _NO_INSTANT if instant is None else instant
    return instants


def _placed(column: str, values: np.ndarray, lines: np.ndarray, size: int, *, in_order: bool) -> np.ndarray:
    """Return a value for each line: the column's default where a line does not have it."""
    if column == "gpufail":
        values = values != 0
    if len(values) == size and in_order:
        return values
    default = DEFAULTS[column]
    placed = np.full(size, -1 if default in ("", None) else default, values.dtype)
    placed[lines] = values
    return placed


def _table(
    columns: dict[str, np.ndarray], words: dict[str, _Words], block: _Block, dropped: Counter[str]
) -> "pa.Table":
    """Return the rows of a block as a table, those that were read again at their places."""
    import pyarrow as pa

    good = ~block.odd & ~block.empty
    size = int(np.count_nonzero(good))
    everything = size == len(good)
    schema = sample_schema()
    arrays: list[Any] = []
    for name in COLUMNS:
        type_ = schema.field(name).type
        values = columns.get(name)
        if values is None or size == 0:
            arrays.append(_constant(name, size, type_))
            continue
        values = values if everything else values[good]
        if name in TEXT_COLUMNS:
            arrays.append(_coded(values, words[name].texts))
        elif name == "epoch":
            arrays.append(pa.array(values.astype(np.int64), mask=values < 0))
        else:
            arrays.append(pa.array(values.astype(type_.to_pandas_dtype(), copy=False)))
    table = pa.table(arrays, schema=schema)
    odd = block.odd & ~block.empty
    return _with_odd_lines(table, np.flatnonzero(good), odd, block, dropped) if odd.any() else table


def _constant(name: str, size: int, type_: Any) -> Any:
    """Return the default of a column so many times."""
    largest = 1 << max(size - 1, 1).bit_length()
    return _constants(name, largest, type_).slice(0, size)


@cache
def _constants(name: str, size: int, type_: Any) -> Any:
    import pyarrow as pa

    default = DEFAULTS[name]
    if name in TEXT_COLUMNS:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(size, np.int32), pa.int32()), pa.array([default]))
    return pa.nulls(size, type_) if default is None else pa.repeat(pa.scalar(default, type_), size)


def _coded(codes: np.ndarray, texts: list[str]) -> Any:
    """Return a dictionary array of only the texts that occur."""
    import pyarrow as pa

    used = np.zeros(len(texts), bool)
    used[codes] = True
    place = (np.cumsum(used) - 1).astype(np.int32)
    occurring = [texts[code] for code in np.flatnonzero(used)]
    return pa.DictionaryArray.from_arrays(pa.array(place[codes], pa.int32()), pa.array(occurring, pa.string()))


def _with_odd_lines(
    table: "pa.Table", lines: np.ndarray, odd: np.ndarray, block: _Block, dropped: Counter[str]
) -> "pa.Table":
    """Return the table with what the plain parser makes of the odd lines, in the order of the lines."""
    import pyarrow as pa

    # Runs of odd lines, empty ones between them included, are read in one piece: a quote may span lines.
    apart = ~(odd | block.empty)
    edges = np.flatnonzero(np.diff(np.concatenate(([True], apart, [True])).astype(np.int8)))
    rows, places = Rows(), []
    for first, after in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        before = len(rows)
        read_part(block.part(first, after - 1), rows, dropped)
        places += [first] * (len(rows) - before)
    if not places:
        return table
    order = np.argsort(np.append(lines, places), kind="stable")
    both: Any = pa.concat_tables([table, rows.table()]).unify_dictionaries().combine_chunks()
    taken: pa.Table = both.take(pa.array(order))
    return taken
