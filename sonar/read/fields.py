"""Where the fields of tagged CSV are: the separators, tags and quotes of a block of lines, all at once.

The separators are found by comparing bytes; the first eight bytes of each field, loaded as one number, tell its tag.
Lines whose form is unusual are marked as odd: `tokens.py` has the plain parser read them.
"""

import numpy as np

__all__ = ["FIRST_BYTES", "TAGS", "TEXTS_FROM", "Block", "blocks"]

_BLOCK = 1 << 20
_PAD = 32  # before and after a block, so that loads of 8 to 32 bytes around any field stay within the buffer
_COMMA, _NEWLINE, _QUOTE, _RETURN = b',\n"\r'
_LARGEST_RECORD = 1 << 20

# Tags in the order of their numbers from 1 on: numbers first, so that they are one range; then texts.
TAGS = (
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
TEXTS_FROM = 15  # the number of the first text
# By length 0..8 of a text: the bytes of a word that belong to it, counted from the first.
FIRST_BYTES = np.array([(1 << 8 * length) - 1 for length in range(9)], np.uint64)


def _u64(text: str) -> int:
    return int.from_bytes(text.encode()[:8].ljust(8, b"\0"), "little")


_PATTERN = np.zeros(len(TAGS) + 1, np.uint64)
_MASK = np.zeros(len(TAGS) + 1, np.uint64)
_LENGTH = np.zeros(len(TAGS) + 1, np.int64)
_REST: dict[int, tuple[int, int]] = {}  # of tags longer than 8 bytes with `=`: pattern and mask of what follows
_BY_FIRST_AND_FOURTH = np.zeros(1 << 16, np.uint8)
for _number, (_tag, _column) in enumerate(TAGS, 1):
    _text = f"{_tag}="
    _LENGTH[_number] = len(_text)
    _PATTERN[_number], _MASK[_number] = _u64(_text), (1 << 8 * min(len(_text), 8)) - 1
    if len(_text) > 8:
        _REST[_number] = _u64(_text[8:]), (1 << 8 * (len(_text) - 8)) - 1
    if len(_text) < 4:
        _BY_FIRST_AND_FOURTH[(np.arange(256) << 8) | ord(_text[0])] = _number
    else:
        _BY_FIRST_AND_FOURTH[(ord(_text[3]) << 8) | ord(_text[0])] = _number


class Block:
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
        bounds = np.searchsorted(tag[order], np.arange(len(TAGS) + 2))
        order = order[bounds[1] :]
        bounds -= bounds[1]
        self.bounds = [0, *bounds[1:].tolist()]
        self.line = line[order]
        self.end = end[order]
        self.value = start[order] + np.repeat(_LENGTH[1:], np.diff(bounds[1:]))
        self.repeats = self.line[1:] == self.line[:-1]


def blocks(data: bytes) -> list[tuple[int, int]]:
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
