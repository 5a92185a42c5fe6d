"""Selection expressions: which nodes of a cluster's table are shown.

    expr  := GLOB | ABBREVIATION | FIELD RELATION NUMBER | ~expr | expr and expr | expr or expr | ( expr )

A glob is a host name with `*` for any characters; it also selects by the first element alone. A field is `cpu%`,
`virt%`, `res%`, `gpu%`, `gpumem%` (percent of what the node has), `cpufail`, `gpufail`, `users`, `jobs`, `violators`
or `zombies`; with a capital first letter its value over the longer time. Relations are `<`, `<=`, `>`, `>=` and `=`;
they bind tighter than `~`, that tighter than `and`, that tighter than `or`.
"""

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from sonar.errors import UsageError

__all__ = ["ABBREVIATIONS", "FIELDS", "selector"]

FIELDS = (
    "cpu%", "virt%", "res%", "gpu%", "gpumem%", "cpufail", "gpufail", "users", "jobs", "violators", "zombies",
)  # fmt: skip
_SHARES = ("cpu", "virt", "res", "gpu", "gpumem")

ABBREVIATIONS: dict[str, str] = {
    "compute": "c*",
    "gpu": "gpu*",
    "hugemem": "hugemem*",
    "login": "login*",
    **{f"{name}-busy": f"{name}% >= 50" for name in _SHARES},
    **{f"{name}-idle": f"{name}% < 50" for name in _SHARES},
    **{f"{name.capitalize()}-busy": f"{name.capitalize()}% >= 50" for name in _SHARES},
    **{f"{name.capitalize()}-idle": f"{name.capitalize()}% < 50" for name in _SHARES},
    "cpu-down": "cpufail > 0",
    "gpu-down": "gpufail > 0",
    "busy": " or ".join(f"{name}% >= 50" for name in _SHARES),
    "idle": " and ".join(f"({name}% < 50)" for name in _SHARES),
    "down": "cpufail > 0 or gpufail > 0",
}

_LONGEST = 1000
_DEEPEST = 50
_TOKEN = re.compile(r"\s*(?:(?P<op><=|>=|<|>|=|~|\(|\))|(?P<word>[^\s<>=~()]+))")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?", re.ASCII)

Values = Mapping[str, float | None]
Test = Callable[[str, Values], bool]


def selector(text: str) -> Test:
    """Return the test of a node's name and values that an expression means. Raise UsageError saying what is wrong.

    A value that is not known has no relation to any number. The empty expression selects all.
    """
    if len(text) > _LONGEST:
        raise UsageError(f"selection: longer than {_LONGEST} characters")
    tokens = _tokens(text)
    if not tokens:
        return lambda _name, _values: True
    parser = _Parser(tokens)
    test = parser.alternatives(0)
    if parser.tokens:
        raise UsageError(f"selection: {parser.tokens[0]!r} is not expected there")
    return test


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    while match := _TOKEN.match(text, at):
        tokens.append(match.group("op") or match.group("word"))
        at = match.end()
    if text[at:].strip():
        raise UsageError(f"selection: cannot read {text[at:].strip()[:20]!r}")
    return tokens


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens

    def alternatives(self, depth: int) -> Test:
        tests = [self._conjunction(depth)]
        while self.tokens[:1] == ["or"]:
            del self.tokens[0]
            tests.append(self._conjunction(depth))
        return tests[0] if len(tests) == 1 else lambda name, values: any(test(name, values) for test in tests)

    def _conjunction(self, depth: int) -> Test:
        tests = [self._primary(depth)]
        while self.tokens[:1] == ["and"]:
            del self.tokens[0]
            tests.append(self._primary(depth))
        return tests[0] if len(tests) == 1 else lambda name, values: all(test(name, values) for test in tests)

    def _primary(self, depth: int) -> Test:
        if depth > _DEEPEST:
            raise UsageError("selection: too many parentheses")
        if not self.tokens:
            raise UsageError("selection: something is missing at the end")
        token = self.tokens.pop(0)
        if token == "~":
            negated = self._primary(depth + 1)
            return lambda name, values: not negated(name, values)
        if token == "(":
            inner = self.alternatives(depth + 1)
            if self.tokens[:1] != [")"]:
                raise UsageError("selection: a parenthesis is not closed")
            del self.tokens[0]
            return inner
        if token in ("and", "or") or token in "<=>=)":
            raise UsageError(f"selection: {token!r} is not expected there")
        if self.tokens[:1] and self.tokens[0] in ("<", "<=", ">", ">=", "="):
            return self._relation(token)
        if token in ABBREVIATIONS:
            return selector(ABBREVIATIONS[token])
        if "%" in token:
            raise UsageError(f"selection: {token!r} needs a relation, such as {token} >= 50")
        return lambda name, _values: fnmatchcase(name, token) or fnmatchcase(name.split(".")[0], token)

    def _relation(self, field: str) -> Test:
        if field[:1].lower() + field[1:] not in FIELDS:
            raise UsageError(f"selection: no field {field!r}; fields are {', '.join(FIELDS)}")
        relation = self.tokens.pop(0)
        text = self.tokens.pop(0) if self.tokens else ""
        if not _NUMBER.fullmatch(text):
            raise UsageError(f"selection: {text!r} is not a number")
        number = float(text)

        def test(_name: str, values: Values) -> bool:
            value = values.get(field)
            if value is None:
                return False
            match relation:
                case "<":
                    return value < number
                case "<=":
                    return value <= number
                case ">":
                    return value > number
                case ">=":
                    return value >= number
            return value == number

        return test
