"""Where the fields of tagged CSV are: the separators and quotes of a block of lines, all at once.

The separators are found by comparing bytes. Lines whose form is unusual are marked as odd: `tokens.py` has the plain
parser read them.
"""

import numpy as np

__all__ = ["Block", "Values", "blocks"]

_BLOCK = 1 << 21
_PAD = 32  # before and after a block, so that loads of 8 to 32 bytes around any field stay within the buffer
_BEFORE, _BEHIND = b"\n".rjust(_PAD, b"\0"), bytes(_PAD)
_COMMA, _NEWLINE, _QUOTE, _RETURN, _NUL = b',\n"\r\0'
_LARGEST_RECORD = 1 << 20


class Block:
    """Some lines of a file, and where their fields are.

    `start` and `end` are where each field begins and ends, without its quotes; `lead` is its first byte. The fields of
    line i are those from `first[i]` on, `fields[i]` of them. `odd` marks lines that the plain parser has to read, and
    whose fields are not to be relied on; `empty` those without a byte.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        lines = data if data.endswith(b"\n") else data + b"\n"
        self.buffer = b"".join((_BEFORE, lines, _BEHIND))
        self.bytes = np.frombuffer(self.buffer, np.uint8)
        self.words = np.ndarray((len(self.buffer) - 7,), "<u8", buffer=self.buffer, strides=(1,))
        is_separator = self.bytes == _COMMA
        is_separator |= self.bytes == _NEWLINE
        has_quotes = b'"' in data
        quotes = np.flatnonzero(self.bytes == _QUOTE) if has_quotes else np.zeros(0, np.int64)
        are_around_fields = not has_quotes or (b"\r" not in data and self._hide_quoted(is_separator, quotes))
        separators = np.flatnonzero(is_separator)[1:]  # the first is that before the block
        ends_line = np.flatnonzero(self.bytes.take(separators) == _NEWLINE)
        self.line_end = separators.take(ends_line)
        self.line_start = np.append(_PAD, self.line_end[:-1] + 1)
        self.empty = self.line_end == self.line_start
        self.odd = self.line_end - self.line_start > _LARGEST_RECORD
        self._mark_unusual(self.bytes[_PAD : _PAD + len(lines)], data)
        if not are_around_fields:
            separators = self._outside_quotes(separators, quotes)
            ends_line = np.flatnonzero(self.bytes.take(separators) == _NEWLINE)
        self._find_fields(separators, ends_line, has_quotes=has_quotes)

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
        if content.max() >= 128:
            self.odd[np.searchsorted(self.line_end, np.flatnonzero(content >= 128) + _PAD)] = True

    def _hide_quoted(self, is_separator: np.ndarray, quotes: np.ndarray) -> bool:
        """Unmark the separators within quoted fields; return False, and leave all, if quotes stand elsewhere, too."""
        if len(quotes) % 2:
            return False
        opening, closing = quotes[::2], quotes[1::2]
        for beside in (self.bytes.take(opening - 1), self.bytes.take(closing + 1)):
            if not np.all((beside == _COMMA) | (beside == _NEWLINE)):
                return False
        length = closing - opening
        before = np.cumsum(length) - length
        within = np.repeat(opening - before, length) + np.arange(int(length.sum()))
        if np.any(self.bytes.take(within) == _NEWLINE):
            return False
        is_separator[within] = False
        return True

    def _outside_quotes(self, separators: np.ndarray, quotes: np.ndarray) -> np.ndarray:
        """Return the separators that are not within quotes; marks lines in which these are not around whole fields."""
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
        return outside

    def _record_starts(self) -> np.ndarray:
        """Return which lines begin with `v=`: these begin a record, whatever stands before them."""
        first, second, third = (self.bytes[self.line_start + offset] for offset in range(3))
        plain = (first == ord("v")) & (second == ord("="))
        starts: np.ndarray = plain | ((first == _QUOTE) & (second == ord("v")) & (third == ord("=")))
        return starts

    def _find_fields(self, separators: np.ndarray, ends_line: np.ndarray, *, has_quotes: bool) -> None:
        """Find the fields that end at these separators, of which some end a line."""
        self.start = np.empty_like(separators)
        self.start[0] = _PAD
        np.add(separators[:-1], 1, out=self.start[1:])
        self.end = separators
        self.lead = self.bytes.take(self.start)
        if has_quotes:
            quoted = np.flatnonzero(self.lead == _QUOTE)
            self.start[quoted] += 1
            self.end = separators.copy()
            self.end[quoted] -= 1
            self.lead[quoted] = self.bytes.take(self.start[quoted])
        self.first = np.empty_like(ends_line)
        self.first[0] = 0
        np.add(ends_line[:-1], 1, out=self.first[1:])
        self.fields = ends_line - self.first + 1
        lead = self.lead.take(self.first)
        self.odd |= (lead >= 48) & (lead <= 57)


class Values:
    """The values of some fields: what stands in a block from `start` to `end`.

    `loaded` are the bytes of the fields from a place before the values on, so many bytes before.
    """

    def __init__(self, block: Block, start: np.ndarray, end: np.ndarray, loaded: np.ndarray, before: int) -> None:
        self.block = block
        self.start = start
        self.end = end
        self.length = end - start
        self._loaded = loaded
        self._before = before

    def at(self, rows: np.ndarray) -> "Values":
        """Return some of them."""
        return Values(self.block, self.start[rows], self.end[rows], self._loaded[rows], self._before)

    def words(self, place: int = 0) -> np.ndarray:
        """Return eight bytes of each value from a place in it on as a number; they have to be among those loaded."""
        at, within = divmod(self._before + place, 8)
        if within == 0:
            return self._loaded[:, at].copy()
        words: np.ndarray = self._loaded[:, at] >> np.uint64(8 * within)
        words |= self._loaded[:, at + 1] << np.uint64(64 - 8 * within)
        return words

    def text(self, row: int) -> bytes:
        """Return one of them."""
        return self.block.text(self.start[row], self.end[row])


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
