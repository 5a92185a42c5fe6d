"""Layouts: which field of a line has which tag. Lines of one sampler with the same fields have the same layout.

A line's layout is looked up by a signature of the first and fourth bytes of its fields, in a table that is kept over
blocks and files; so tags are looked at once for each layout. A signature proves nothing: whoever relies on a field
compares its tag, which costs little (`Lines.value_starts`).
"""

from dataclasses import dataclass

import numpy as np

from sonar.read.fields import Block, Values
from sonar.read.schema import TEXT_COLUMNS

__all__ = ["COLUMNS_OF_TAGS", "Layouts", "Lines"]

# Tags and their columns: those that lines of one run of the sampler share, other texts, then numbers.
COLUMNS_OF_TAGS = {
    "v": "version",
    "time": "time",
    "host": "host",
    "epoch": "epoch",
    "cores": "cores",
    "user": "user",
    "cmd": "cmd",
    "gpus": "gpus",
    "job": "job",
    "pid": "pid",
    "ppid": "ppid",
    "cpu%": "cpu_pct",
    "cpukib": "cpu_kib",
    "rssanonkib": "rss_kib",
    "gpu%": "gpu_pct",
    "gpumem%": "gpumem_pct",
    "gpukib": "gpu_kib",
    "gpufail": "gpufail",
    "cputime_sec": "cputime_s",
    "rolledup": "rolledup",
}
SHARED = frozenset({"version", "time", "host", "epoch", "cores"})
_MANDATORY = ("version", "time", "host", "user", "cmd")

_MOST_LAYOUTS = 1 << 10
_MOST_FIELDS = 64
_MOST_COMPARED = 256
_SLOTS = 1 << 12
_MIXED_FIELD = np.uint32(0x9E3779B1)
_MIXED = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(52)


def _u64(text: bytes) -> int:
    return int.from_bytes(text[:8].ljust(8, b"\0"), "little")


@dataclass(frozen=True, slots=True)
class _Tag:
    """How a tag looks: its first eight bytes with the `=`, and those that follow where it is longer.

    `reach` is how many bytes of a field are looked at, the tag and most of what may stand behind it.
    """

    length: int
    pattern: np.uint64
    mask: np.uint64
    rest: np.uint64
    rest_mask: np.uint64
    reach: int

    @classmethod
    def of(cls, tag: str, column: str) -> "_Tag":
        text = f"{tag}=".encode()
        size, more = min(len(text), 8), max(len(text) - 8, 0)
        masks = (np.uint64((1 << 8 * number) - 1) for number in (size, more))
        of_value = 25 if column == "time" else 16 if column in (*TEXT_COLUMNS, "gpus") else 8
        reach = (len(text) + of_value + 7) & ~7
        return cls(len(text), np.uint64(_u64(text)), next(masks), np.uint64(_u64(text[8:])), next(masks), reach)

    def differs(self, loaded: np.ndarray) -> np.ndarray:
        """Return which fields do not have it, by so many of their bytes."""
        other: np.ndarray = (loaded[:, 0] & self.mask) != self.pattern
        if self.rest_mask:
            other |= (loaded[:, 1] & self.rest_mask) != self.rest
        return other


_TAGS = {column: _Tag.of(tag, column) for tag, column in COLUMNS_OF_TAGS.items()}
_TAGS_IN_ORDER = list(_TAGS.values())
_PLACE = {column: place for place, column in enumerate(_TAGS)}


def _two_bytes(block: Block, start: np.ndarray, lead: np.ndarray) -> np.ndarray:
    """Return the first and the fourth byte of fields as one number; the first bytes are given."""
    number = block.bytes[3:].take(start).astype(np.uint32)
    number <<= 8
    number |= lead
    return number


# By the first and the fourth byte of a field: the number of the one tag that has these, counted from 1.
_SIMILAR = np.zeros(1 << 16, np.uint8)
for _text, _column in COLUMNS_OF_TAGS.items():
    _fourth = np.arange(256) if len(_text) < 3 else ord(f"{_text}="[3])
    _SIMILAR[(_fourth << 8) | ord(_text[0])] = _PLACE[_column] + 1


class Layouts:
    """The layouts met so far."""

    def __init__(self) -> None:
        self._number: dict[int, int] = {}  # by signature
        self._signature = np.zeros(_SLOTS, np.uint64)
        self._in_slot = np.zeros(_SLOTS, np.int64)
        self.columns: list[tuple[str | None, ...]] = []  # by layout: the column of each field; none if it is odd
        self.places = np.zeros((len(_TAGS), 0), np.int64)  # by column and layout: which field has it, -1 for none
        self.fields = np.zeros(0, np.int64)  # by layout: how many
        self.odd = np.zeros(0, bool)

    def of_lines(self, block: Block) -> np.ndarray:
        """Return the number of each line's layout; a layout may not be that of the line, but has as many fields."""
        signature = self._signatures(block)
        if len(self.columns) > _MOST_LAYOUTS:
            self.__init__()  # type: ignore[misc]
        slot = (signature >> _SHIFT).view(np.int64)
        number = self._in_slot.take(slot)
        unknown = self._signature.take(slot) != signature
        if unknown.any():
            for at in np.flatnonzero(unknown).tolist():
                if unknown[at]:
                    same = unknown & (signature == signature[at])
                    number[same] = self._learned(block, at, int(signature[at]), int(slot[at]))
                    unknown &= ~same
        wrong = self.fields.take(number) != block.fields
        if wrong.any():
            block.odd |= wrong
        return number

    def forget(self, numbers: np.ndarray) -> None:
        """Learn these layouts anew when lines of their signatures come again."""
        forgotten = set(numbers.tolist())
        self._number = {signature: number for signature, number in self._number.items() if number not in forgotten}
        self._signature[np.isin(self._in_slot, numbers)] = 0

    def _signatures(self, block: Block) -> np.ndarray:
        """Return for each line a number made of its fields' first and fourth bytes, and their order."""
        mixed = _two_bytes(block, block.start, block.lead)
        mixed *= _MIXED_FIELD
        beside = mixed >> 11  # of a field and the one before it: so order counts
        mixed[1:] += beside[:-1]
        mixed = np.add.reduceat(mixed, block.first)
        mixed[1:] -= beside.take(block.first[1:] - 1)  # the one before the first is of another line
        signature = mixed.astype(np.uint64)
        signature *= _MIXED
        signature |= np.uint64(1)  # 0 marks a slot that is free
        return signature

    def _learned(self, block: Block, line: int, signature: int, slot: int) -> int:
        """Return the number of the layout of a line, a new one if its signature is new."""
        number = self._number.get(signature)
        if number is None:
            number = self._number[signature] = len(self.columns)
            self._add(self._read(block, line))
        self._signature[slot] = signature
        self._in_slot[slot] = number
        return number

    def _read(self, block: Block, line: int) -> tuple[str | None, ...]:
        first, size = int(block.first[line]), int(block.fields[line])
        of_fields = range(first, first + min(size, _MOST_FIELDS + 1))
        starts = (block.text(start, end) for start, end in ((block.start[at], block.end[at]) for at in of_fields))
        return tuple(
            COLUMNS_OF_TAGS.get(text.partition(b"=")[0].decode("ascii", "replace")) if b"=" in text else None
            for text in starts
        )

    def _add(self, columns: tuple[str | None, ...]) -> None:
        found = [column for column in columns if column is not None]
        is_odd = len(columns) > _MOST_FIELDS or len(set(found)) < len(found) or not set(_MANDATORY) <= set(found)
        places = np.full((len(_TAGS), 1), -1, np.int64)
        for place, column in enumerate(() if is_odd else columns):
            if column is not None:
                places[_PLACE[column]] = place
        self.columns.append(() if is_odd else columns)
        self.places = np.concatenate((self.places, places), axis=1)
        self.fields = np.append(self.fields, len(columns))
        self.odd = np.append(self.odd, is_odd)


class Lines:
    """The lines of a block whose layouts are known, all but the odd ones, and where their fields are by column.

    `number` are the lines of the block, or None if these are all lines; `bad` marks what turned out to be unusual.
    """

    def __init__(self, block: Block, layouts: Layouts) -> None:
        self.block = block
        layout = layouts.of_lines(block)
        block.odd |= layouts.odd.take(layout)
        regular = ~(block.odd | block.empty)
        self.number: np.ndarray | None = None
        self.first = block.first
        if not regular.all():
            self.number = np.flatnonzero(regular)
            layout, self.first = layout[self.number], self.first[self.number]
        self.bad = np.zeros(len(layout), bool)
        self._layouts = layouts
        self._layout = layout
        self._present = np.flatnonzero(np.bincount(layout, minlength=len(layouts.columns)))
        self.runs: tuple[np.ndarray, np.ndarray] | None = None
        self._in_runs: tuple[str, ...] = ()
        self._extremes: list[tuple[int, int]] = []
        if len(layout):
            of_present = self._layouts.places[:, self._present]
            self._extremes = list(zip(of_present.min(axis=1).tolist(), of_present.max(axis=1).tolist(), strict=True))
            self._find_runs()
            self._check_unknown()

    def __len__(self) -> int:
        return len(self._layout)

    def fields_of(self, column: str) -> tuple[np.ndarray, np.ndarray | None] | None:
        """Return the fields of a column, and of which lines they are, None for all; None if no line has any."""
        place = _PLACE[column]
        least, most = self._extremes[place]
        if most < 0:
            return None
        if least == most:
            return self.first + least, None
        fields = self._layouts.places[place].take(self._layout)
        if least >= 0:
            fields += self.first
            return fields, None
        rows = np.flatnonzero(fields >= 0)
        return fields.take(rows) + self.first.take(rows), rows

    def shared(self, column: str) -> bool:
        """Whether neighbouring lines of a run are known to have the same text in this column."""
        return column in self._in_runs

    def values_of(self, column: str, fields: np.ndarray, rows: np.ndarray | None) -> Values:
        """Return the values of these fields; marks the lines as bad in which the tag is another."""
        tag = _TAGS[column]
        start = self.block.start.take(fields)
        loaded = self.block.wide(start, tag.reach)
        self._fits_not(tag.differs(loaded), rows)
        start += tag.length
        return Values(self.block, start, self.block.end.take(fields), loaded, tag.length)

    def mark(self, bad: np.ndarray, rows: np.ndarray | None) -> None:
        """Mark lines for the plain parser: a flag for each row, or for each of some rows."""
        if rows is None:
            self.bad |= bad
        else:
            self.bad[rows[bad]] = True

    def mark_runs(self) -> None:
        """Mark all lines of the runs whose first line is bad."""
        if self.runs is not None and self.bad.any():
            heads, run = self.runs
            self.bad |= self.bad.take(heads).take(run)

    def finish(self) -> None:
        """Hand the bad lines to the plain parser."""
        if self.bad.any():
            self.block.odd[np.flatnonzero(self.bad) if self.number is None else self.number[self.bad]] = True

    def _find_runs(self) -> None:
        """Find runs of lines whose first fields, those that a run of the sampler has in common, are the same."""
        tuples = [self._layouts.columns[number] for number in self._present.tolist()]
        common = 0
        for columns in zip(*tuples, strict=False):
            if len(set(columns)) > 1 or columns[0] not in SHARED:
                break
            common += 1
        if common == 0 or min(map(len, tuples)) <= common:
            return
        block = self.block
        begin = block.start.take(self.first)
        length = block.start.take(self.first + common) - begin
        shortest = int(length.min())
        if shortest < 8:
            return
        size = min(shortest, _MOST_COMPARED) & ~7
        words = block.wide(begin, size)
        equal = words[1:] == words[:-1]
        last = block.words[begin + length - 8]
        same = (length[1:] == length[:-1]) & (length[1:] <= size + 8) & (last[1:] == last[:-1])
        for at in range(size // 8):
            same &= equal[:, at]
        new = np.append(True, ~same)
        self.runs = np.flatnonzero(new), np.cumsum(new) - 1
        self._in_runs = tuple(str(column) for column in tuples[0][:common])

    def _check_unknown(self) -> None:
        """Mark lines in which a field that should not have a known tag has one."""
        unknown: dict[int, list[int]] = {}
        for number in self._present.tolist():
            for place, column in enumerate(self._layouts.columns[number]):
                if column is None:
                    unknown.setdefault(place, []).append(number)
        for place, numbers in unknown.items():
            has = np.zeros(len(self._layouts.columns), bool)
            has[numbers] = True
            rows = np.flatnonzero(has.take(self._layout))
            fields = self.first.take(rows) + place
            start = self.block.start.take(fields)
            similar = _SIMILAR.take(_two_bytes(self.block, start, self.block.lead.take(fields)))
            for number in np.flatnonzero(np.bincount(similar)[1:]).tolist():
                tag = _TAGS_IN_ORDER[number]
                self._fits_not(~tag.differs(self.block.wide(start, tag.reach)), rows)

    def _fits_not(self, wrong: np.ndarray, rows: np.ndarray | None) -> None:
        """Mark the lines, by a flag for each of the rows, to which their layout does not fit."""
        if wrong.any():
            self.mark(wrong, rows)
            self._layouts.forget(np.unique((self._layout if rows is None else self._layout[rows])[wrong]))
