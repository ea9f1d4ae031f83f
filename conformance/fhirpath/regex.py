"""The regular expressions of matches() and its kind. What an expression or a resource brings along
may be hostile: where going back costs little it is the faster way, all else takes linear time.

http://hl7.org/fhirpath/N1/#matchesregex--string--boolean
"""

from __future__ import annotations

import re
from functools import lru_cache
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

import re2

from conformance.fhirpath.function import require_short
from conformance.fhirpath.syntax import FhirPathError, TooMuch

MAX_PATTERN = 2_000  # characters of a regular expression
_PLAIN = 1_000  # characters of a text that is searched by going back, at most
_STEPS = 100_000  # of going back that cost no more than the linear way: about 1 ms at worst
_FORCED = 2_000_000  # where there is no linear way: about 20 ms at worst
_MANY = 100  # times from which on a repeat is one without a bound
_MOST = 10_000  # ways through an expression, the length of the text aside
_PRICE = 500  # steps for the price of an item
_CHARACTERS = 64  # of a text for the price of an item
_OPTIONS = re2.Options()
_OPTIONS.dot_nl, _OPTIONS.log_errors = True, False


class Pattern:
    """A regular expression, in single-line mode. FhirPathError from each where it looks around or
    back, and going back on this text could take long."""

    __slots__ = ("_effort", "_linear", "_plain", "_source")

    def __init__(self, source: str) -> None:
        self._source = source
        self._plain = re.compile(source, re.DOTALL)
        self._effort = _effort(source)
        self._linear: Any = None

    def price(self, text: str) -> int:
        """What a search costs, in items of an evaluation."""
        steps = self._steps(text)
        if steps > _STEPS and self._has_linear():
            steps = 0
        return len(text) // _CHARACTERS + min(steps, _FORCED) // _PRICE

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
            require_short(made)
            return part

        try:
            return str(self._for(text).sub(by, text))
        except (re.error, re2.error, IndexError):
            raise FhirPathError("The substitution of replaceMatches() cannot be read") from None

    def _for(self, text: str) -> Any:
        steps = self._steps(text)
        if steps <= _STEPS:
            return self._plain
        if self._has_linear():
            return self._linear
        if steps > _FORCED:
            raise TooMuch("A regular expression would take too long")
        return self._plain

    def _steps(self, text: str) -> int:
        """How many steps going back on a text takes at most."""
        if self._effort is None or len(text) > _PLAIN:
            return _FORCED + 1
        factor, power = self._effort
        return int(factor * (len(text) + 1) ** power)

    def _has_linear(self) -> bool:
        if self._linear is None:
            try:
                self._linear = re2.compile(self._source, _OPTIONS)
            except re2.error:
                self._linear = False
        return self._linear is not False


@lru_cache(maxsize=512)
def pattern(source: str) -> Pattern:
    """The regular expression. FhirPathError when it is too long or none."""
    if len(source) > MAX_PATTERN:
        raise FhirPathError(f"A regular expression has at most {MAX_PATTERN} characters")
    try:
        return Pattern(source)
    except (re.error, RecursionError, OverflowError):
        raise FhirPathError("A regular expression cannot be read") from None


class _Effort(NamedTuple):
    """`factor` times the length of the text to the `power`."""

    factor: int
    power: int

    def times(self, other: _Effort) -> _Effort:
        """Both, one for each of the other."""
        return _Effort(self.factor * other.factor, self.power + other.power)

    def plus(self, other: _Effort) -> _Effort:
        """Both, one after the other."""
        return _Effort(self.factor + other.factor, max(self.power, other.power))


_ONE = _Effort(1, 0)
_START = _Effort(1, 1)  # a search begins at each character
_REPEATING = frozenset({_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT})
_REFERRING = frozenset({_constants.GROUPREF, _constants.GROUPREF_EXISTS})
_LOOKING = frozenset({_constants.ASSERT, _constants.ASSERT_NOT})
_STARTING = frozenset({_constants.AT_BEGINNING, _constants.AT_BEGINNING_STRING})


def _effort(source: str) -> _Effort | None:
    """How many steps a search takes at most; None where that is no small power of the length of the
    text, or cannot be told."""
    nodes = _parser.parse(source, re.DOTALL)
    found = _sequence(nodes)
    if found is None:
        return None
    first = nodes[0] if len(nodes) else (None, None)
    anchored = first[0] is _constants.AT and first[1] in _STARTING
    anchored = anchored and not nodes.state.flags & re.MULTILINE
    steps = found.times(_Effort(len(source) + 1, 0))
    return steps if anchored else steps.times(_START)


def _sequence(nodes: Any) -> _Effort | None:
    """The ways through what stands in a row. What looks around is gone through for each way to it,
    and then behind it."""
    ways, looked = _ONE, _Effort(0, 0)
    for operator, argument in nodes:
        found = _node(operator, argument)
        if found is None:
            return None
        if operator in _LOOKING:
            looked = looked.plus(ways.times(found))
        else:
            ways = ways.times(found)
        if ways.factor + looked.factor > _MOST:
            return None
    return ways.plus(looked)


def _node(operator: Any, argument: Any) -> _Effort | None:
    """The ways through one part; None for too many."""
    if operator in _REFERRING:
        return None
    inner = [_sequence(each) for each in _inner(argument)]
    found = _ONE if operator is not _constants.BRANCH else _Effort(0, 0)
    for each in inner:
        if each is None:
            return None
        found = found.plus(each) if operator is _constants.BRANCH else found.times(each)
    return _repeated(found, *argument[:2]) if operator in _REPEATING else found


def _repeated(once: _Effort, least: int, most: int) -> _Effort | None:
    if once == _ONE:
        return _Effort(1, 1) if most - least >= _MANY else _Effort(most - least + 1, 0)
    if most == 1:
        return once.plus(_ONE) if least == 0 else once
    # Several ways through what repeats are multiplied with each time.
    if once.power or most >= _MANY or once.factor**most > _MOST:
        return None
    return _Effort(once.factor**most * (most - least + 1), 0)


def _inner(argument: Any) -> list[Any]:
    """The expressions inside what an operator of the parsed form takes."""
    if isinstance(argument, _parser.SubPattern):
        return [argument]
    if isinstance(argument, tuple | list):
        return [found for each in argument for found in _inner(each)]
    return []
