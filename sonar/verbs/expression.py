"""The query language of `--query`: which rows of an answer to print, by what is in their fields.

    expression := FIELD OP VALUE | expression "and" expression | expression "or" expression | "not" expression
                | "(" expression ")"
    OP         := "=" | "<" | "<=" | ">" | ">=" | "=~"

`or` binds least, then `and`, then `not`; a comparison binds most. A value is a word, a number, a duration such as
1d12h, a date, or anything between two quotes, which may be ' " ` or /. `=~` searches the field's text for a regular
expression (RE2). The other operators compare values: numbers before they are rounded to print, texts by their
characters, sets as sets: `<=` is "lies within". sonalyze(1) has the rules for users. Parsing imports nothing heavy, so
that a mistake is found fast.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from sonar.errors import UsageError
from sonar.verbs.declare import Field

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["And", "Comparison", "Expression", "Not", "Or", "fields_in", "parse_expression"]

_LONGEST = 10_000
_DEEPEST = 100

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<op>=~|<=|>=|[=<>()])
      | (?P<quoted>'[^']*'|"[^"]*"|`[^`]*`)
      | (?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.-]))
      | (?P<date>[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?![\w-]))
      | (?P<duration>(?=[0-9])(?:[0-9]+[wW])?(?:[0-9]+[dD])?(?:[0-9]+[hH])?(?:[0-9]+[mM])?(?![\w.-]))
      | (?P<word>[^\W\d][\w%]*(?:[./-]\w+)*%?)
    )""",
    re.VERBOSE,
)
_SLASHED = re.compile(r"\s*(/[^/]*/)")
_OPERATORS = ("=~", "<=", ">=", "=", "<", ">")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field and what it is compared with; `at` is the column of the value in the text, from 1."""

    field: Field
    operator: str
    value: str
    at: int = 0

    def mask(self, rows: "pa.Table") -> "pa.Array[Any]":
        """Return which rows pass. A missing value passes no comparison."""
        from sonar.verbs import compare

        return compare.mask(rows, self.field, self.operator, self.value)


@dataclass(frozen=True, slots=True)
class Not:
    """The rows that do not pass."""

    inner: "Expression"

    def mask(self, rows: "pa.Table") -> "pa.Array[Any]":
        """Return which rows pass."""
        import pyarrow.compute as pc

        inverted: pa.Array[Any] = pc.invert(self.inner.mask(rows))
        return inverted


@dataclass(frozen=True, slots=True)
class And:
    """The rows that pass both."""

    left: "Expression"
    right: "Expression"

    def mask(self, rows: "pa.Table") -> "pa.Array[Any]":
        """Return which rows pass."""
        import pyarrow.compute as pc

        both: pa.Array[Any] = pc.and_(self.left.mask(rows), self.right.mask(rows))
        return both


@dataclass(frozen=True, slots=True)
class Or:
    """The rows that pass one or both."""

    left: "Expression"
    right: "Expression"

    def mask(self, rows: "pa.Table") -> "pa.Array[Any]":
        """Return which rows pass."""
        import pyarrow.compute as pc

        either: pa.Array[Any] = pc.or_(self.left.mask(rows), self.right.mask(rows))
        return either


Expression: TypeAlias = Comparison | Not | And | Or


def parse_expression(text: str, fields: Sequence[Field]) -> Expression:
    """Return the expression that a text means, over these fields; raise UsageError with the column of what is wrong."""
    if len(text) > _LONGEST:
        raise UsageError(f"longer than {_LONGEST} characters")
    return _Parser(text, fields).parse()


def fields_in(expression: Expression) -> frozenset[Field]:
    """Return the fields that an expression compares."""
    match expression:
        case Comparison():
            return frozenset({expression.field})
        case Not():
            return fields_in(expression.inner)
        case And() | Or():
            return fields_in(expression.left) | fields_in(expression.right)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # op, quoted, number, date, duration, word, end
    text: str
    at: int  # place in the text, from 0


class _Parser:
    """Recursive descent, a method a level of precedence."""

    def __init__(self, text: str, fields: Sequence[Field]) -> None:
        self._text = text
        self._fields = _by_name(fields)
        self._tokens: list[_Token] = []
        self._next = 0
        self._depth = 0
        self._split()

    def parse(self) -> Expression:
        expression = self._either()
        if self._token.kind != "end":
            self._fail(f"unexpected {self._token.text!r}", self._token.at)
        return expression

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += token.kind != "end"
        return token

    def _is_word(self, word: str) -> bool:
        return self._token.kind == "word" and self._token.text.lower() == word

    def _either(self) -> Expression:
        left = self._both()
        while self._is_word("or"):
            self._take()
            left = Or(left, self._both())
        return left

    def _both(self) -> Expression:
        left = self._one()
        while self._is_word("and"):
            self._take()
            left = And(left, self._one())
        return left

    def _one(self) -> Expression:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(f"nested more than {_DEEPEST} deep", self._token.at)
        token = self._take()
        if token.kind == "op" and token.text == "(":
            inner = self._either()
            closing = self._take()
            if closing.text != ")" or closing.kind != "op":
                self._fail(f"this bracket is not closed, found {_shown(closing)}", token.at)
        elif token.kind == "word" and token.text.lower() == "not":
            inner = Not(self._one())
        elif token.kind == "word":
            inner = self._comparison(token)
        else:
            self._fail(f"expected a field, found {_shown(token)}", token.at)
        self._depth -= 1
        return inner

    def _comparison(self, name: _Token) -> Comparison:
        from sonar.verbs.operand import operand_of

        field = self._fields.get(name.text) or self._fields.get(name.text.lower())
        if field is None:
            self._fail(f"no field {name.text!r}", name.at)
        operator = self._take()
        if operator.text not in _OPERATORS or operator.kind != "op":
            self._fail(f"expected one of = < <= > >= =~ after {name.text!r}, found {_shown(operator)}", operator.at)
        value = self._take()
        if value.kind in {"op", "end"}:
            self._fail(f"expected a value after {operator.text!r}, found {_shown(value)}", value.at)
        try:
            operand_of(field, operator.text, value.text)
        except UsageError as error:
            self._fail(str(error), value.at)
        return Comparison(field, operator.text, value.text, value.at + 1)

    def _split(self) -> None:
        """Split the text into tokens. A slash quotes only where a value may stand: it is part of some names."""
        at = 0
        while self._text[at:].strip():
            after_operator = bool(self._tokens) and self._tokens[-1].text in _OPERATORS
            match = (_SLASHED.match(self._text, at) if after_operator else None) or _TOKEN.match(self._text, at)
            start = at + len(self._text[at:]) - len(self._text[at:].lstrip())
            if match is None or match.end() == at or not match[0].strip():
                self._fail(self._why_not(start), start)
            if match.re is _SLASHED or match.lastgroup == "quoted":
                self._tokens.append(_Token("quoted", match[0].strip()[1:-1], start))
            else:
                self._tokens.append(_Token(match.lastgroup or "", match[0].strip(), start))
            at = match.end()
        self._tokens.append(_Token("end", "", len(self._text)))

    def _why_not(self, at: int) -> str:
        char = self._text[at]
        if char in "'\"`/":
            return f"the quote {char} is not closed"
        if char.isdigit():
            word = re.split(r"[\s()<>=]", self._text[at:], maxsplit=1)[0]
            return f"{word!r} is no number and no duration such as 1w2d3h4m"
        return f"unexpected character {char!r}"

    def _fail(self, what: str, at: int) -> NoReturn:
        raise UsageError(f"{what}, at column {at + 1} of {_excerpt(self._text, at)!r}")


def _by_name(fields: Sequence[Field]) -> Mapping[str, Field]:
    """Return the fields by each of their names, and by these in lower case where that is no other's name."""
    named = {one.name: one for field in fields for one in field.by_each_name()}
    lowered = {name.lower(): field for name, field in named.items()}
    return lowered | named


def _shown(token: _Token) -> str:
    return "the end" if token.kind == "end" else repr(token.text)


def _excerpt(text: str, at: int) -> str:
    """Return the text, or what is around the place in a long one."""
    return text if len(text) <= 80 else "…" + text[max(at - 40, 0) : at + 40] + "…"
