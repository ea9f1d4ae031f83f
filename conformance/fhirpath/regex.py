"""The regular expressions of matches() and its kind. What an expression or a resource brings along
may be hostile: where going back costs little it is the faster way, all else takes linear time.

http://hl7.org/fhirpath/N1/#matchesregex--string--boolean
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple, TypeAlias

import re2

from conformance.fhirpath.function import require_short
from conformance.fhirpath.syntax import FhirPathError, TooMuch

# Takes the price of something from what an evaluation may visit and make; TooMuch.
Spend: TypeAlias = Callable[[int], None]

MAX_PATTERN = 2_000  # characters of a regular expression
_PLAIN = 1_000  # characters of a text that is searched by going back, at most
_STEPS = 100_000  # of going back that cost no more than the linear way: about 1 ms at worst
_FORCED = 2_000_000  # where there is no linear way: about 20 ms at worst
_MANY = 100  # times from which on a repeat is one without a bound
_MOST = 10_000  # ways through an expression, the length of the text aside
_PRICE = 500  # steps for the price of an item
_CHARACTERS = 64  # of a text for the price of an item
_COMPILED = 20_000  # items that it may cost to compile what goes back: about 10 ms
_LARGEST = 30_000  # instructions of what goes the linear way: about 15 ms to compile
_MEMORY = 1 << 20  # bytes of one that goes the linear way
_RUN = 200  # instructions, each gone to with each character at worst, for the price of an item
_RUNNING = 30  # instructions that a character costs besides
_REST = 5_000  # the same where what is behind a match is looked through once more


class Pattern:
    """A regular expression, in single-line mode. FhirPathError from each where it looks around or
    back, and going back on this text could take long; whatever `spend` raises, which is told the
    price of what is done before it is done, in items of an evaluation."""

    __slots__ = ("_effort", "_linear", "_making", "_plain", "_source")

    def __init__(self, source: str) -> None:
        nodes = _parser.parse(source, re.DOTALL)
        self._source = source
        self._effort = _effort(nodes, len(source))
        self._making = _making(nodes, bool(nodes.state.flags & re.IGNORECASE))
        self._plain: Any = None
        self._linear: dict[bool, Any] = {}

    def search(self, text: str, spend: Spend = lambda _: None) -> bool:
        """Whether it matches somewhere."""
        return self._for(text, spend).search(text) is not None

    def fullmatch(self, text: str, spend: Spend = lambda _: None) -> bool:
        """Whether it matches the whole text."""
        return self._for(text, spend).fullmatch(text) is not None

    def substituted(self, template: str, text: str, spend: Spend = lambda _: None) -> str:
        """The text with every match replaced. FhirPathError also when the template names a group
        that there is not, or too much would be made."""
        made = 0
        going = self._for(text, spend, capturing=True)
        again = self._again() if going is not self._plain else 0

        def by(found: Any) -> str:
            nonlocal made
            spend(1 + len(template) + (len(text) - found.start()) * again // _REST)
            part = str(found.expand(template))
            made += len(part)
            require_short(made)
            return part

        try:
            return str(going.sub(by, text))
        except (re.error, re2.error, IndexError):
            raise FhirPathError("The substitution of replaceMatches() cannot be read") from None

    def _for(self, text: str, spend: Spend = lambda _: None, capturing: bool = False) -> Any:
        """What searches a text, once it is paid for."""
        steps, affordable = self._steps(text), self._making.plain <= _COMPILED
        if not affordable or steps > _STEPS:
            linear = self._going_on(spend, capturing)
            if linear:
                spend(len(text) * (self._making.linear + _RUNNING) // _RUN)
                return linear
            if not affordable or steps > _FORCED:
                raise TooMuch("A regular expression would take too long")
        return self._going_back(len(text) // _CHARACTERS + steps // _PRICE, spend)

    def _going_back(self, price: int, spend: Spend) -> Any:
        if self._plain is None:
            spend(self._making.plain)
            try:
                self._plain = re.compile(self._source, re.DOTALL)
            except _UNREADABLE:
                raise _unreadable() from None
        spend(price)
        return self._plain

    def _going_on(self, spend: Spend, capturing: bool) -> Any:
        """What goes the linear way; False where there is none."""
        if self._making.linear > _LARGEST:
            return False
        if capturing not in self._linear:
            spend(self._making.linear)
            try:
                self._linear[capturing] = re2.compile(self._source, _OPTIONS[capturing])
            except re2.error:
                self._linear[capturing] = False
        return self._linear[capturing]

    def _steps(self, text: str) -> int:
        """How many steps going back on a text takes at most."""
        if self._effort is None or len(text) > _PLAIN:
            return _FORCED + 1
        factor, power = self._effort
        return int(factor * (len(text) + 1) ** power)

    def _again(self) -> int:
        """The instructions that a match may cost for each character behind it."""
        if self._effort is not None and self._effort.power <= 1:
            return 0
        return self._making.linear + _RUNNING


def _options(capturing: bool) -> Any:
    made = re2.Options()
    made.dot_nl, made.log_errors, made.max_mem = True, False, _MEMORY
    made.never_capture = not capturing
    return made


_OPTIONS = {capturing: _options(capturing) for capturing in (False, True)}
_UNREADABLE = (re.error, RecursionError, OverflowError)


def _unreadable() -> FhirPathError:
    return FhirPathError("A regular expression cannot be read")


@lru_cache(maxsize=128)
def pattern(source: str) -> Pattern:
    """The regular expression. FhirPathError when it is too long or none."""
    if len(source) > MAX_PATTERN:
        raise FhirPathError(f"A regular expression has at most {MAX_PATTERN} characters")
    try:
        return Pattern(source)
    except _UNREADABLE:
        raise _unreadable() from None


# --- what it costs to search ---------------------------------------------------------------------


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


def _effort(nodes: Any, length: int) -> _Effort | None:
    """How many steps a search takes at most, by an expression of this many characters; None where
    that is no small power of the length of the text, or cannot be told."""
    found = _sequence(nodes)
    if found is None:
        return None
    first = nodes[0] if len(nodes) else (None, None)
    anchored = first[0] is _constants.AT and first[1] in _STARTING
    anchored = anchored and not nodes.state.flags & re.MULTILINE
    steps = found.times(_Effort(length + 1, 0))
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


# --- what it costs to compile --------------------------------------------------------------------


class _Making(NamedTuple):
    """What it costs to compile: what goes back in items, and what goes the linear way in
    instructions, which cost an item each."""

    plain: int
    linear: int


_NEVER = 10**9  # instructions where there is no linear way
_TIMES = 1_000  # that it repeats something at most
_LINEARLESS = _REFERRING | _LOOKING | {_constants.POSSESSIVE_REPEAT, _constants.ATOMIC_GROUP}
_CLASS = 8  # instructions for a range of characters beyond ASCII
_FOLDED, _FOLDS = 8, 500  # characters of one that ignores case for one more; these at most
_SMALL, _BIG = 20, 400  # items for a set of characters: of the first 256, or beyond them
_IGNORING = 300  # items more for one that ignores case
_ASCII, _LATIN, _WALKED = 0x7F, 0xFF, 0xFFFF  # characters up to which each of a range is gone to
_PER_ITEM, _PER_FOLDED = 5, 2  # of these for an item


def _making(nodes: Any, ignoring: bool) -> _Making:
    plain = linear = 0
    for operator, argument in nodes:
        one = _made(operator, argument, ignoring)
        plain, linear = plain + one.plain, linear + one.linear
    return _Making(plain, min(linear, _NEVER))


def _made(operator: Any, argument: Any, ignoring: bool) -> _Making:
    if operator is _constants.IN:
        return _set(argument, ignoring)
    if operator is _constants.SUBPATTERN:
        _, added, removed, _ = argument
        ignoring = bool((ignoring or added & re.IGNORECASE) and not removed & re.IGNORECASE)
    inner = [_making(each, ignoring) for each in _inner(argument)]
    plain = 1 + sum(each.plain for each in inner)
    linear = sum(each.linear for each in inner) or (1 if operator in _AT else _CLASS)
    if operator in _LINEARLESS:
        return _Making(plain, _NEVER)
    if operator in _REPEATING:
        least, most, _ = argument
        times = least + 1 if most is _constants.MAXREPEAT else most
        linear = linear * max(times, 1) if times <= _TIMES else _NEVER
    return _Making(plain, linear + 1)


_AT = frozenset({_constants.AT, _constants.LITERAL})


def _set(members: Any, ignoring: bool) -> _Making:
    """A set of characters: every one of its ranges is gone to, as far as they are walked."""
    plain, linear = _SMALL + ignoring * _IGNORING, 1
    for operator, argument in members:
        if operator is _constants.RANGE or operator is _constants.LITERAL:
            low, high = argument if operator is _constants.RANGE else (argument, argument)
            width = max(min(high, _WALKED) - low + 1, 0)
            plain += 1 + width // (_PER_FOLDED if ignoring else _PER_ITEM)
            linear += 1 if high <= _ASCII else _CLASS
            linear += ignoring * min(width // _FOLDED, _FOLDS)
            if high > _LATIN:
                plain += _BIG
        else:
            plain, linear = plain + 1, linear + _CLASS
    return _Making(plain, linear)
