"""Host patterns and sets of hosts: match names, expand `c1-[5-7,9].fox`, and write a set of names compactly.

A pattern is made of elements joined by dots. An element holds literal characters and ranges `[1-3,7]`, and may end in
`*`, which stands for any rest of that element. A host matches if it has at least as many elements as the pattern and
each element of the pattern matches the host's at the same place: `ml1` matches `ml1.x.org`. Commas outside brackets
separate whole patterns. Numbers with leading zeros keep their width: `n[08-10]` is n08, n09, n10.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from sonar.errors import SonarError

__all__ = ["LARGEST_EXPANSION", "HostPatterns", "compress", "expand", "names_in", "split_list"]

LARGEST_EXPANSION = 100_000
_LARGEST_NUMBER = 2**32 - 1
_LONGEST_NUMBER = len(str(_LARGEST_NUMBER))
_LONGEST_ELEMENT = 255  # no host has a longer name

_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_SPECIAL = re.compile(r"[*\[]|\Z")
# A first element with a number to combine: something, the last run of digits, and a rest without digits.
_NUMBERED = re.compile(r"(.+?)([0-9]+)([^0-9]*)", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True)
class HostPatterns:
    """Patterns of which a host must match at least one; without any pattern every host matches."""

    # For each pattern and element: the names it may be, and the texts it may begin with.
    patterns: tuple[tuple[tuple[frozenset[str], tuple[str, ...]], ...], ...] = ()

    @classmethod
    def parse(cls, values: Iterable[str]) -> "HostPatterns":
        """Return the patterns of some `--host` values, each holding one or more; raise SonarError for a bad one."""
        patterns, count = [], 0
        for pattern in (pattern for value in values for pattern in _split(value, ",")):
            matchers = []
            for names in _elements(pattern):
                count += len(names)
                if count > LARGEST_EXPANSION:
                    raise _too_many(pattern)
                matchers.append(_matcher(names))
            patterns.append(tuple(matchers))
        return cls(tuple(patterns))

    def match(self, host: str) -> bool:
        """Whether `host` matches any of the patterns."""
        parts = host.split(".")
        return not self.patterns or any(
            len(pattern) <= len(parts)
            and all(
                part in names or part.startswith(prefixes)
                for (names, prefixes), part in zip(pattern, parts, strict=False)
            )
            for pattern in self.patterns
        )


def expand(pattern: str, *, wildcards: bool = False) -> list[str]:
    """Return the names that a pattern, or several joined by commas, stands for, in the order written.

    With `wildcards` a final `*` of an element is kept as it is; without, it is an error. Raise SonarError for a bad
    pattern and for more than LARGEST_EXPANSION names.
    """
    names: list[str] = []
    for one in _split(pattern, ","):
        elements, count = [], 1
        for element in _elements(one):
            if not wildcards and any(name.endswith("*") for name in element):
                raise SonarError(f"Suffix wildcard not allowed in expandable hostname {pattern!r}")
            count *= len(element)
            if count > LARGEST_EXPANSION:
                raise _too_many(pattern)
            elements.append(element)
        names += (".".join(parts) for parts in product(*elements))
        if len(names) > LARGEST_EXPANSION:
            raise _too_many(pattern)
    return names


def split_list(text: str) -> list[str]:
    """Split a comma list of patterns at the commas outside brackets."""
    return _split(text, ",")


def compress(names: Iterable[str]) -> str:
    """Write a set of host names compactly: a1.x, a2.x, a4.x as `a[1-2,4].x`; `expand` gives the set back.

    Names combine that differ only in the last number of their first element; numbers with leading zeros only with
    numbers of the same width. Names are ordered by their domain, then by their first element.
    """
    groups: dict[tuple[tuple[str, ...], str, str], list[str]] = defaultdict(list)
    plain: list[tuple[tuple[str, ...], str, int, str, str]] = []
    for name in set(names):
        head, *rest = name.split(".")
        tail = tuple(rest)
        match = _NUMBERED.fullmatch(head)
        if match and len(match[2]) < _LONGEST_NUMBER:
            groups[tail, match[1], match[3]].append(match[2])
        else:
            plain.append((tail, head, -1, "", name))
    for tail, prefix, suffix, digits in _same_width(groups):
        numbers = sorted(digits, key=int)
        text = numbers[0] if len(numbers) == 1 else f"[{','.join(_runs(numbers))}]"
        plain.append((tail, prefix, int(numbers[0]), suffix, ".".join((prefix + text + suffix, *tail))))
    return ",".join(text for *_key, text in sorted(plain))


def names_in(text: str) -> list[str]:
    """Return the names in a set that `compress` has written; what is no pattern is a name, odd as those of old logs."""
    names: list[str] = []
    for one in split_list(text):
        try:
            names += expand(one, wildcards=True)
        except SonarError:
            names.append(one)
    return names


def _same_width(
    groups: dict[tuple[tuple[str, ...], str, str], list[str]],
) -> Iterator[tuple[tuple[str, ...], str, str, list[str]]]:
    """Split each group that has a number with leading zeros by the width of its numbers."""
    for (tail, prefix, suffix), numbers in groups.items():
        if not any(_padded(number) for number in numbers):
            yield tail, prefix, suffix, numbers
            continue
        widths = defaultdict(list)
        for number in numbers:
            widths[len(number)].append(number)
        for same in widths.values():
            yield tail, prefix, suffix, same


def _runs(numbers: list[str]) -> Iterator[str]:
    """Give the ascending numbers as `a` or `a-b` for each maximal run of consecutive ones."""
    first = last = numbers[0]
    for number in [*numbers[1:], ""]:
        if number and int(number) == int(last) + 1:
            last = number
            continue
        yield first if first == last else f"{first}-{last}"
        first = last = number


def _padded(number: str) -> bool:
    return len(number) > 1 and number.startswith("0")


def _split(text: str, separator: str) -> list[str]:
    """Split at separators outside brackets; blanks around the parts are dropped."""
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        if char == "[":
            depth = 1
        elif char == "]":
            depth = 0
        elif char == separator and not depth:
            parts.append(text[start:at].strip())
            start = at + 1
    parts.append(text[start:].strip())
    return parts


def _elements(pattern: str) -> Iterator[list[str]]:
    """Yield what each element of one pattern expands to."""
    return (_expand_element(element, pattern) for element in _split(pattern, "."))


def _matcher(names: list[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    exact = frozenset(name for name in names if not name.endswith("*"))
    return exact, tuple(name[:-1] for name in names if name.endswith("*"))


def _expand_element(element: str, pattern: str) -> list[str]:
    """Expand literals and ranges from left to right; a final `*` stays."""
    if not element:
        raise SonarError(f"Empty pattern in input {pattern!r}")
    names, at = [""], 0
    while at < len(element):
        if element[at] == "*":
            if at + 1 < len(element):
                raise SonarError(f"Expected , after * in host pattern {pattern!r}")
            choices, at = ["*"], at + 1
        elif element[at] == "[":
            choices, at = _range(element, at + 1, pattern)
        else:
            end = next(_SPECIAL.finditer(element, at)).start()
            choices, at = [element[at:end]], end
        if len(names) * len(choices) > LARGEST_EXPANSION:
            raise _too_many(pattern)
        if len(names[0]) + len(choices[0]) > _LONGEST_ELEMENT:
            raise SonarError(f"Name too long in host pattern {pattern[:80]!r}")
        names = [name + choice for name in names for choice in choices]
    return names


def _range(element: str, at: int, pattern: str) -> tuple[list[str], int]:
    """Return the numbers of the range whose items begin at `at`, and the place behind its bracket."""
    numbers: list[str] = []
    while True:
        low, at = _number(element, at, pattern)
        if element[at : at + 1] == "-":
            high, at = _number(element, at + 1, pattern)
            if int(low) > int(high):
                raise SonarError(f"Backward range {low}-{high} in host pattern {pattern!r}")
            if int(high) - int(low) >= LARGEST_EXPANSION:
                raise _too_many(pattern)
            width = len(low) if _padded(low) else 0
            numbers += (str(number).zfill(width) for number in range(int(low), int(high) + 1))
        else:
            numbers.append(low)
        if len(numbers) > LARGEST_EXPANSION:
            raise _too_many(pattern)
        if at == len(element):
            raise SonarError(f"Unexpected end of input in host pattern {pattern!r}")
        at += 1
        if element[at - 1] == "]":
            return numbers, at
        if element[at - 1] != ",":
            raise SonarError(f"Expected , in host pattern {pattern!r}")


def _number(element: str, at: int, pattern: str) -> tuple[str, int]:
    match = _DIGITS.match(element, at)
    if not match:
        raise SonarError(f"Expected number in host pattern {pattern!r}")
    if len(match[0]) > 2 * _LONGEST_NUMBER or int(match[0]) > _LARGEST_NUMBER:
        raise SonarError(f"Number too large in host pattern {pattern!r}")
    return match[0], match.end()


def _too_many(pattern: str) -> SonarError:
    return SonarError(f"Host pattern {pattern[:80]!r} stands for more than {LARGEST_EXPANSION} names")
