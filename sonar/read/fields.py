"""Where the fields of tagged CSV are: the separators and quotes of a block of lines, all at once.

The separators are found by comparing bytes. Lines whose form is unusual are marked as odd: `tokens.py` has the plain
parser read them.
"""

import numpy as np

__all__ = ["Block", "blocks"]

_BLOCK = 1 << 21
_PAD = 32  # before and after a block, so that loads of 8 to 32 bytes around any field stay within the buffer
_COMMA, _NEWLINE, _QUOTE, _RETURN, _NUL = b',\n"\r\0'
_LARGEST_RECORD = 1 << 20


class Block:
    """Some lines of a file, and where their fields are.

    `start` and `end` are where each field begins and ends, without its quotes; `head` is its first eight bytes as one
    number. The fields of line i are those from `first[i]` on, `fields[i]` of them. `odd` marks lines that the plain
    parser has to read, and whose fields are not to be relied on; `empty` those without a byte.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        padded = bytearray(_PAD + len(data) + 1 + _PAD)
        padded[_PAD : _PAD + len(data)] = data
        padded[_PAD - 1] = _NEWLINE
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
        ends_line = np.flatnonzero(self.bytes.take(separators) == _NEWLINE)
        self.line_end = separators[ends_line]
        self.line_start = np.append(_PAD, self.line_end[:-1] + 1)
        self.empty = self.line_end == self.line_start
        self.odd = self.line_end - self.line_start > _LARGEST_RECORD
        self._mark_unusual(content, data)
        if b'"' not in data:
            self._find_fields(separators, ends_line, np.zeros(0, np.int64))
            return
        quotes = int(np.count_nonzero(content == _QUOTE))
        found = self._whole_fields_quoted(separators, quotes) if b"\r" not in data else None
        if found is None:
            found = self._outside_quotes(content, separators)
        separators, quoted = found
        self._find_fields(separators, np.flatnonzero(self.bytes.take(separators) == _NEWLINE), quoted)

    def wide(self, start: np.ndarray, size: int) -> np.ndarray:
        """Return the bytes from each place on, so many multiples of eight, as rows of numbers."""
        rows = np.ndarray((len(self.buffer) - size + 1,), f"V{size}", buffer=self.buffer, strides=(1,))[start]
        words: np.ndarray = rows.view("<u8").reshape(-1, size // 8)
        return words

    def text(self, start: int, end: int) -> bytes:
        """Return the bytes between two places."""
        return bytes(self.buffer[start:end])

    def part(self, first: int, last: int) -> bytes:
        """Return the bytes of lines first..last of the file."""
        return self.data[self.line_start[first] - _PAD : self.line_end[last] + 1 - _PAD]

    def _mark_unusual(self, content: np.ndarray, data: bytes) -> None:
        """Mark lines with carriage returns, with zeros or with bytes that are not ASCII."""
        for byte in (_RETURN, _NUL):
            if byte in data:
                self.odd[np.searchsorted(self.line_end, np.flatnonzero(content == byte) + _PAD)] = True
        if not data.isascii():
            self.odd[np.searchsorted(self.line_end, np.flatnonzero(content >= 128) + _PAD)] = True

    def _whole_fields_quoted(self, separators: np.ndarray, quotes: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the separators outside quotes and which fields are quoted; None if quotes stand elsewhere, too."""
        opened = np.flatnonzero(self.bytes.take(separators + 1) == _QUOTE) + 1  # the field that begins so
        if self.bytes[_PAD] == _QUOTE:
            opened = np.append(0, opened)
        closed = np.flatnonzero(self.bytes.take(separators - 1) == _QUOTE)  # the separator after it
        if len(opened) != len(closed) or 2 * len(opened) != quotes:
            return None
        number = closed - opened  # of separators within
        begins = np.where(opened > 0, separators[opened - 1] + 1, _PAD)
        if np.any(number < 0) or np.any(opened[1:] <= closed[:-1]):
            return None
        if np.any(begins == separators[closed] - 1):  # a lone quote is both
            return None
        before = np.cumsum(number) - number
        within = np.repeat(opened - before, number) + np.arange(int(number.sum()))
        if np.any(self.bytes.take(separators[within]) == _NEWLINE):
            return None
        outside = np.ones(len(separators), bool)
        outside[within] = False
        return separators[outside], opened - before

    def _outside_quotes(self, content: np.ndarray, separators: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the separators that are not within quotes and which fields are quoted.

        Marks lines in which quotes are not around whole fields.
        """
        quotes = np.flatnonzero(content == _QUOTE) + _PAD
        line = np.searchsorted(self.line_end, quotes)
        number = np.bincount(line, minlength=len(self.line_end))
        before = np.cumsum(number) - number
        opens = (np.arange(len(quotes)) - before[line]) % 2 == 0
        ahead, behind = self.bytes[quotes - 1], self.bytes[quotes + 1]
        at_start = (ahead == _COMMA) | (ahead == _NEWLINE)
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
        return outside, np.flatnonzero(self.bytes.take(np.append(_PAD, outside[:-1] + 1)) == _QUOTE)

    def _record_starts(self) -> np.ndarray:
        """Return which lines begin with `v=`: these begin a record, whatever stands before them."""
        first, second, third = (self.bytes[self.line_start + offset] for offset in range(3))
        plain = (first == ord("v")) & (second == ord("="))
        starts: np.ndarray = plain | ((first == _QUOTE) & (second == ord("v")) & (third == ord("=")))
        return starts

    def _find_fields(self, separators: np.ndarray, ends_line: np.ndarray, quoted: np.ndarray) -> None:
        """Find the fields that end at these separators, of which some end a line; some fields are quoted."""
        self.start = np.empty_like(separators)
        self.start[0] = _PAD
        np.add(separators[:-1], 1, out=self.start[1:])
        self.end = separators
        lead = self.bytes.take(self.line_start)
        if len(quoted):
            self.start[quoted] += 1
            self.end = separators.copy()
            self.end[quoted] -= 1
            lead = np.where(lead == _QUOTE, self.bytes.take(self.line_start + 1), lead)
        self.odd |= (lead >= 48) & (lead <= 57)
        self.head = self.words[self.start]
        self.first = np.empty_like(ends_line)
        self.first[0] = 0
        np.add(ends_line[:-1], 1, out=self.first[1:])
        self.fields = ends_line - self.first + 1


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
