"""The regular expressions of matches() and its kind. What an expression or a resource brings along
may be hostile: simple ones on short texts run as they are, all others in linear time.

http://hl7.org/fhirpath/N1/#matchesregex--string--boolean
"""

from __future__ import annotations

import re
from functools import lru_cache
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

import re2

from conformance.fhirpath.syntax import FhirPathError

MAX_PATTERN = 2_000  # characters of a regular expression
LONGEST = 10_000_000  # characters that a function may make
_PLAIN = 1_000  # characters of a text that a simple expression searches
_REPEATS = 2  # without a bound in a row, in a simple expression
_MANY = 300  # times from which on a repeat is one without a bound
_OPTIONS = re2.Options()
_OPTIONS.dot_nl, _OPTIONS.log_errors = True, False


class Pattern:
    """A regular expression, in single-line mode. FhirPathError from each where it looks around or
    back, and is not simple or its text not short."""

    __slots__ = ("_linear", "_plain", "_source")

    def __init__(self, source: str) -> None:
        self._source = source
        plain = re.compile(source, re.DOTALL)
        self._plain = plain if _is_simple(source) else None
        self._linear: Any = None

    def search(self, text: str) -> bool:
        """Whether it matches somewhere."""
        return self._for(text).search(text) is not None

    def fullmatch(self, text: str) -> bool:
        """Whether it matches the whole text."""
        return self._for(text).fullmatch(text) is not None

    def substituted(self, template: str, text: str) -> str:
        """The text with every match replaced. FhirPathError also when the template names a group
        that there is not, or too much would be made."""
        made = 0

        def by(found: Any) -> str:
            nonlocal made
            part = str(found.expand(template))
            made += len(part)
            if made > LONGEST:
                raise FhirPathError(f"A text has at most {LONGEST} characters")
            return part

        try:
            return str(self._for(text).sub(by, text))
        except (re.error, re2.error, IndexError):
            raise FhirPathError("The substitution of replaceMatches() cannot be read") from None

    def _for(self, text: str) -> Any:
        if self._plain is not None and len(text) <= _PLAIN:
            return self._plain
        if self._linear is None:
            try:
                self._linear = re2.compile(self._source, _OPTIONS)
            except re2.error:
                raise FhirPathError("A regular expression would take too long") from None
        return self._linear


@lru_cache(maxsize=512)
def pattern(source: str) -> Pattern:
    """The regular expression. FhirPathError when it is too long or none."""
    if len(source) > MAX_PATTERN:
        raise FhirPathError(f"A regular expression has at most {MAX_PATTERN} characters")
    try:
        return Pattern(source)
    except (re.error, RecursionError, OverflowError):
        raise FhirPathError("A regular expression cannot be read") from None


def _is_simple(source: str) -> bool:
    """Whether no repeat is inside another and few are without a bound: the time is then at most
    a small power of the length of a short text."""
    unbounded = 0
    waiting = [(_parser.parse(source, re.DOTALL), False)]
    while waiting:
        nodes, inside = waiting.pop()
        for operator, argument in nodes:
            if operator in _REFERRING:
                return False
            repeats = operator in _REPEATING
            if repeats:
                least, most, _ = argument
                varies = least != most and most > 1
                if varies and inside:
                    return False
                unbounded += varies and most >= _MANY
            within = inside or (repeats and argument[1] > 1)
            waiting.extend((each, within) for each in _inner(argument))
    return unbounded <= _REPEATS


_REPEATING = frozenset({_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT})
_REFERRING = frozenset({_constants.GROUPREF, _constants.GROUPREF_EXISTS})


def _inner(argument: Any) -> list[Any]:
    """The expressions inside what an operator of the parsed form takes."""
    if isinstance(argument, _parser.SubPattern):
        return [argument]
    if isinstance(argument, tuple | list):
        return [found for each in argument for found in _inner(each)]
    return []
