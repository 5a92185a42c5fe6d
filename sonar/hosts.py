"""Host patterns: `c1-[5-7,9]*.fox`, as options and configuration files have them; and the way back from names.

    pattern     = element { "." element }
    element     = alternative { "," alternative }
    alternative = { character | range } [ "*" ]
    range       = "[" item { "," item } "]",  item = number [ "-" number ]

A host matches if it has at least as many elements as the pattern, and each of the pattern's elements is equal to the
host's in its place, or, with a `*`, begins it: `ml1` matches `ml1.x.no`. A number with a leading zero in a range gives
numbers of that width: `n[01-03]`. In a list of patterns commas outside brackets separate whole patterns.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from sonar.errors import SonarError

__all__ = ["LARGEST_EXPANSION", "BadPatternError", "HostPatterns", "compress", "expand"]

LARGEST_EXPANSION = 100_000

_HEAD = re.compile(r"(.*[^0-9])([0-9]+)([^0-9]*)", re.ASCII | re.DOTALL)


class BadPatternError(SonarError):
    """A host pattern that cannot be read."""


@dataclass(frozen=True)
class HostPatterns:
    """A set of patterns; a host matches if it matches any of them."""

    texts: tuple[str, ...]
    _patterns: tuple[tuple[tuple[frozenset[str], tuple[str, ...]], ...], ...]

    @classmethod
    def parse(cls, values: Iterable[str]) -> "HostPatterns":
        """Return the patterns in these texts, each a comma list of patterns. Raise BadPatternError."""
        texts = tuple(text for value in values for text in split_list(value))
        if not texts:
            raise BadPatternError("Empty pattern in input")
        patterns = []
        for text in texts:
            elements = [_expand_element(element) for element in _split(text, ".")]
            patterns.append(
                tuple(
                    (frozenset(n for n in names if n[-1:] != "*"), tuple(n[:-1] for n in names if n[-1:] == "*"))
                    for names in elements
                )
            )
        return cls(texts, tuple(patterns))

    def match(self, host: str) -> bool:
        """Return whether the host's name matches."""
        elements = host.split(".")
        return any(
            len(elements) >= len(pattern)
            and all(
                name in exact or name.startswith(prefixes)
                for name, (exact, prefixes) in zip(elements, pattern, strict=False)
            )
            for pattern in self._patterns
        )


def split_list(text: str) -> list[str]:
    """Split a comma list of patterns at the commas outside brackets."""
    return [pattern.strip() for pattern in _split(text, ",")]


def expand(pattern: str) -> list[str]:
    """Return the names that one pattern without `*` stands for, first element outermost. Raise BadPatternError."""
    elements = [_expand_element(element) for element in _split(pattern, ".")]
    if any(name.endswith("*") for names in elements for name in names):
        raise BadPatternError(f"Suffix wildcard not allowed in expandable hostname in '{pattern}'")
    total = 1
    for names in elements:
        total *= len(names)
    if total > LARGEST_EXPANSION:
        raise BadPatternError(f"'{pattern}' stands for more than {LARGEST_EXPANSION} names")
    return [".".join(names) for names in product(*elements)]


def compress(names: Iterable[str]) -> str:
    """Return a text for exactly this set of names, like `a[1-3,5].fox,b1`; `expand` of its parts gives them back.

    Names whose first elements differ only in one number are combined, if that number does not begin the name and has
    the same width in all, or no leading zeros.
    """
    groups: dict[tuple[tuple[str, ...], str, str, int], list[str]] = defaultdict(list)
    parts: list[tuple[tuple[str, ...], str, int, str]] = []
    for name in set(names):
        head, *tail = name.split(".")
        match = _HEAD.fullmatch(head)
        if match and not set(name) & set("[],*"):
            prefix, number, suffix = match.groups()
            width = len(number) if number[0] == "0" else 0
            groups[tuple(tail), prefix, suffix, width].append(number)
        else:
            parts.append((tuple(tail), head, -1, name))
    for domain, prefix, suffix, width in list(groups):
        # Numbers without leading zeros join those of a padded width that they fill.
        unpadded = groups.get((domain, prefix, suffix, 0), []) if width else []
        if filling := [number for number in unpadded if len(number) == width]:
            groups[domain, prefix, suffix, width] += filling
            groups[domain, prefix, suffix, 0] = [number for number in unpadded if len(number) != width]
    for (domain, prefix, suffix, _width), numbers in groups.items():
        if numbers:
            inside = numbers[0] if len(numbers) == 1 else f"[{_ranges(numbers)}]"
            text = ".".join((f"{prefix}{inside}{suffix}", *domain))
            parts.append((domain, prefix, min(map(int, numbers)), text))
    return ",".join(text for *_order, text in sorted(parts))


def _ranges(numbers: Sequence[str]) -> str:
    """Return numbers of one width, or without leading zeros, as `1-3,5`."""
    ordered = sorted(set(numbers), key=int)
    breaks = [0, *(at for at, (a, b) in enumerate(pairwise(ordered), 1) if int(b) != int(a) + 1), len(ordered)]
    runs = [ordered[start:end] for start, end in pairwise(breaks)]
    return ",".join(run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator outside brackets."""
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        if char == "[":
            depth += 1
        elif char == "]":
            depth = max(depth - 1, 0)
        elif char == separator and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _expand_element(element: str) -> list[str]:
    """Return the names of one element; a name that ends in `*` stands for all that it begins."""
    names: list[str] = []
    current, at = [""], 0
    while True:
        char = element[at : at + 1]
        if char in {"", ","}:
            if current == [""]:
                raise BadPatternError(f"Empty pattern in input '{element}'")
            names += current
            current = [""]
            if not char:
                return names
            at += 1
        elif char == "*":
            current = [name + "*" for name in current]
            at += 1
            if element[at : at + 1] not in {"", ","}:
                raise BadPatternError(f"Expected , after * in '{element}'")
        elif char == "[":
            numbers, at = _range(element, at + 1)
            if len(current) * len(numbers) > LARGEST_EXPANSION:
                raise BadPatternError(f"'{element}' stands for more than {LARGEST_EXPANSION} names")
            current = [name + number for name in current for number in numbers]
        else:
            current = [name + char for name in current]
            at += 1


def _range(element: str, at: int) -> tuple[list[str], int]:
    """Return the numbers of a range, as texts, and the place after its bracket."""
    numbers: list[str] = []
    while True:
        first, at = _number(element, at)
        last = first
        if element[at : at + 1] == "-":
            last, at = _number(element, at + 1)
        if int(first) > int(last):
            raise BadPatternError(f"Backward range {first}-{last} in '{element}'")
        if int(last) - int(first) >= LARGEST_EXPANSION:
            raise BadPatternError(f"'{element}' stands for more than {LARGEST_EXPANSION} names")
        width = len(first) if first[0] == "0" else 0
        numbers += [str(number).zfill(width) for number in range(int(first), int(last) + 1)]
        separator = element[at : at + 1]
        at += 1
        if separator == "]":
            return numbers, at
        if not separator:
            raise BadPatternError(f"Unexpected end of input '{element}'")
        if separator != ",":
            raise BadPatternError(f"Expected , in '{element}'")


def _number(element: str, at: int) -> tuple[str, int]:
    """Return the digits at a place and the place after them."""
    end = at
    while element[end : end + 1] in set("0123456789"):
        end += 1
    if end == at:
        raise BadPatternError(
            f"Expected number in '{element}'" if element[at:] else f"Unexpected end of input '{element}'"
        )
    if int(element[at:end]) >= 2**32:
        raise BadPatternError(f"number too large to fit in target type: '{element[at:end]}'")
    return element[at:end], end
