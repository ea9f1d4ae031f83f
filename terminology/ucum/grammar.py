"""The grammar of unit codes, by recursive descent: a code becomes a nested tuple of its parts.

https://ucum.org/ucum#section-Grammar-of-Units-and-Unit-Terms
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

LENGTH = 200  # characters of a code; the longest of the published test cases has 17
DEPTH = 20  # brackets within brackets
DIGITS = 2  # of an exponent
_NUMBER_DIGITS = 40  # of a number that stands for itself


class UnitError(ValueError):
    """Why a code is no unit, or why two units cannot be had together."""


class Atom(NamedTuple):
    """What the grammar must know of a unit symbol."""

    code: str
    name: str
    metric: bool


class Prefix(NamedTuple):
    code: str
    name: str


class Simple(NamedTuple):
    """A unit with its prefix, exponent and annotation; without an atom it is an annotation."""

    atom: Atom | None
    prefix: Prefix | None = None
    exponent: int = 1
    annotation: str | None = None


class Number(NamedTuple):
    value: int
    annotation: str | None = None


Component: TypeAlias = "Simple | Number | Term"
Term: TypeAlias = tuple[tuple[str, Component], ...]  # each with the operator before it: "." or "/"

# Whatever stands between brackets is part of a symbol, digits and operators too; outside of them
# digits are not, but for the number ten of the powers.
_SIMPLE = re.compile(
    r"(?P<symbol>(?:10[*^]|[^\x00-\x20\x22\x7f-\U0010ffff0-9()+\-./=\[\]{}]"
    r"|\[[\x21-\x5a\x5c\x5e-\x7a\x7c\x7e]*\])+)(?P<exponent>[+-]?[0-9]+)?"
)
_NUMBER = re.compile(r"(?!10[*^])[0-9]+")
# UCUM has no blanks in annotations, nor annotations behind brackets; FHIR's own value set
# ucum-common has both, so codes of them are in use.
_ANNOTATION = re.compile(r"\{[\x20-\x7a\x7c\x7e]*\}")
_ENDS = frozenset("./)")


def parse(code: str, atoms: Mapping[str, Atom], prefixes: Mapping[str, Prefix]) -> Term:
    """The parts of a code. UnitError says what is wrong with it, without repeating it."""
    if not code:
        raise UnitError("an empty text is no unit: unity is written 1")
    if len(code) > LENGTH:
        raise UnitError(f"a unit has at most {LENGTH} characters")
    if not code.isascii():
        raise UnitError("a unit is written in ASCII characters, its annotations too")
    return _Parser(code, atoms, prefixes).whole()


class _Parser:
    """One code and how far it was read."""

    def __init__(
        self, code: str, atoms: Mapping[str, Atom], prefixes: Mapping[str, Prefix]
    ) -> None:
        self._code = code
        self._atoms = atoms
        self._prefixes = prefixes
        self._at = 0

    def whole(self) -> Term:
        term = self._term(DEPTH)
        if self._at < len(self._code):
            raise self._error("is not expected")
        return term

    def _term(self, depth: int) -> Term:
        """`/` may only begin the whole code; inside of brackets a component is first."""
        operator = "."
        if self._at == 0 and self._code.startswith("/"):
            operator, self._at = "/", 1
        parts = [(operator, self._component(depth))]
        while self._next() in (".", "/"):
            operator = self._next()
            self._at += 1
            parts.append((operator, self._component(depth)))
        return tuple(parts)

    def _component(self, depth: int) -> Component:
        first = self._next()
        if first == "(":
            return self._bracketed(depth)
        if first == "{":
            return Simple(None, annotation=self._annotation())
        if number := _NUMBER.match(self._code, self._at):
            return self._number(number.group())
        if found := _SIMPLE.match(self._code, self._at):
            return self._simple(found)
        raise self._error("is no beginning of a unit" if first else "a unit is missing")

    def _bracketed(self, depth: int) -> Term:
        if depth == 0:
            raise UnitError(f"a unit has at most {DEPTH} brackets within brackets")
        self._at += 1
        term = self._term(depth - 1)
        if self._next() != ")":
            raise self._error("a bracket is not closed")
        self._at += 1
        if self._next() == "{":
            self._annotation()
        self._end()
        return term

    def _number(self, digits: str) -> Number:
        if len(digits) > _NUMBER_DIGITS:
            raise UnitError(f"a number in a unit has at most {_NUMBER_DIGITS} digits")
        self._at += len(digits)
        annotation = self._annotation() if self._next() == "{" else None
        self._end()
        return Number(int(digits), annotation)

    def _simple(self, found: re.Match[str]) -> Simple:
        prefix, atom = self._known(found["symbol"])
        exponent = found["exponent"] or "1"
        if len(exponent.lstrip("+-")) > DIGITS:
            raise UnitError(f"an exponent has at most {DIGITS} digits")
        self._at = found.end()
        annotation = self._annotation() if self._next() == "{" else None
        self._end()
        return Simple(atom, prefix, int(exponent), annotation)

    def _known(self, symbol: str) -> tuple[Prefix | None, Atom]:
        """A unit by its own symbol, else one that takes prefixes behind the longest prefix."""
        atom = self._atoms.get(symbol)
        if atom is not None:
            return None, atom
        for length in (2, 1):
            prefix, atom = self._prefixes.get(symbol[:length]), self._atoms.get(symbol[length:])
            if prefix is not None and atom is not None and atom.metric:
                return prefix, atom
        raise self._error("is no unit, nor a prefix with a unit that takes one")

    def _annotation(self) -> str:
        found = _ANNOTATION.match(self._code, self._at)
        if found is None:
            raise self._error("an annotation is not closed, or holds what it may not")
        self._at = found.end()
        self._end()
        return found.group()

    def _end(self) -> None:
        if self._at < len(self._code) and self._code[self._at] not in _ENDS:
            if self._code[self._at] == "{":
                raise self._error("an annotation stands alone or behind a unit")
            raise self._error("an operator, . or /, is missing")

    def _next(self) -> str:
        return self._code[self._at : self._at + 1]

    def _error(self, what: str) -> UnitError:
        return UnitError(f"{what}, at character {self._at + 1}")
