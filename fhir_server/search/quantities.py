"""Number and quantity parameters: ranges of floats, quantities with their unit, and once more in
the common unit of their kind where they are in another.

https://hl7.org/fhir/R4/search.html#number, https://hl7.org/fhir/R4/search.html#quantity
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from fhir_server.search import numbers, units
from fhir_server.search.context import Modifiers, SearchContext, malformed
from fhir_server.search.literals import prefixed, split, unescape
from fhir_server.search.parameters import Parameter
from fhir_server.search.place import Add, Factory, Place, Writer, add_present, range_entry
from fhir_server.search.ranges import Bounds, Conditions, any_of, compared
from fhir_server.storage.store import Condition, Query

CURRENCIES = "urn:iso:std:iso:4217"

# What a comparator says where greater numbers become less ones.
_TURNED: Mapping[str, str] = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}

# What a comparator of a Quantity leaves open.
_OPEN: Mapping[str, Callable[[Decimal | int], tuple[float, float]]] = {
    "<": lambda value: (numbers.LEAST, numbers.below(value)),
    "<=": lambda value: (numbers.LEAST, numbers.stored(value)),
    ">": lambda value: (numbers.above(value), numbers.GREATEST),
    ">=": lambda value: (numbers.stored(value), numbers.GREATEST),
}


# --- entries -------------------------------------------------------------------------------------


def _number(param: str, _: Place) -> Writer:
    def write(value: Any, add: Add) -> None:
        number = numbers.stored(value)
        add(range_entry(param, number, number))

    return write


def _quantity(param: str, _: Place) -> Writer:
    def write(value: Any, add: Add) -> None:
        number = value.get("value")
        if number is None:
            add_present(param, add)
            return
        low, high = _ends(number, value.get("comparator"))
        code, unit, system = value.get("code"), value.get("unit"), value.get("system")
        add(range_entry(param, low, high, system, code or unit))
        if code and unit and code != unit:  # found by what people call the unit, too
            add(range_entry(param, low, high, None, unit))
        if system == units.SYSTEM and code:
            other = units.other(code)
            if other is not None:
                _add_other(param, number, value.get("comparator"), other, add)

    return write


def _ends(number: Decimal | int, comparator: str | None) -> tuple[float, float]:
    if comparator is not None and comparator in _OPEN:
        return _OPEN[comparator](number)
    end = numbers.stored(number)
    return end, end


def _add_other(
    param: str, number: Decimal | int, comparator: str | None, other: units.Other, add: Add
) -> None:
    """The entry in the common unit; a number that the units do not have gets none."""
    try:
        changed = other.change(Decimal(number))
    except InvalidOperation:
        return
    if other.falling and comparator:
        comparator = _TURNED.get(comparator, comparator)
    low, high = _ends(changed, comparator)
    add(range_entry(param + other.param, low, high, units.SYSTEM, other.code))


def _range(param: str, _: Place) -> Writer:
    def write(value: Any, add: Add) -> None:
        low, high = value.get("low") or {}, value.get("high") or {}
        least, greatest = low.get("value"), high.get("value")
        unit = low if least is not None else high
        _add_between(param, least, greatest, unit, add)

    return write


def _numbers(param: str, _: Place) -> Writer:
    """Of a range under a number parameter, whose unit no search can name."""

    def write(value: Any, add: Add) -> None:
        low, high = value.get("low") or {}, value.get("high") or {}
        _add_ends(param, low.get("value"), high.get("value"), None, None, add)

    return write


def _sampled(param: str, _: Place) -> Writer:
    """Sampled data lies between its limits; without both, its origin is all that is known."""

    def write(value: Any, add: Add) -> None:
        origin = value.get("origin") or {}
        least, greatest = value.get("lowerLimit"), value.get("upperLimit")
        if least is None or greatest is None:
            least = greatest = origin.get("value")
        _add_between(param, least, greatest, origin, add)

    return write


def _add_between(param: str, least: Any, greatest: Any, unit: Mapping[str, Any], add: Add) -> None:
    system, code = unit.get("system"), unit.get("code")
    _add_ends(param, least, greatest, system, code or unit.get("unit"), add)
    other = units.other(code) if code and system == units.SYSTEM else None
    if other is not None:
        _add_other_between(param, least, greatest, other, add)


def _add_ends(
    param: str, least: Any, greatest: Any, system: str | None, code: str | None, add: Add
) -> None:
    low = numbers.LEAST if least is None else numbers.stored(least)
    high = numbers.GREATEST if greatest is None else numbers.stored(greatest)
    if low > high or (least is None and greatest is None):
        add_present(param, add)
    else:
        add(range_entry(param, low, high, system, code))


def _add_other_between(param: str, least: Any, greatest: Any, other: units.Other, add: Add) -> None:
    if least is None and greatest is None:
        return
    if other.falling:
        least, greatest = greatest, least
    try:
        low = numbers.LEAST if least is None else _changed(least, other)
        high = numbers.GREATEST if greatest is None else _changed(greatest, other)
    except InvalidOperation:
        return
    if low <= high:
        add(range_entry(param + other.param, low, high, units.SYSTEM, other.code))


def _changed(number: Decimal | int, other: units.Other) -> float:
    return numbers.stored(other.change(Decimal(number)))


def _money(param: str, _: Place) -> Writer:
    def write(value: Any, add: Add) -> None:
        if "value" in value:
            number = numbers.stored(value["value"])
            currency = value.get("currency")
            system = CURRENCIES if currency else None
            add(range_entry(param, number, number, system, currency))
        else:
            add_present(param, add)

    return write


NUMBER_WRITERS: Mapping[str, Factory] = {
    **dict.fromkeys(("integer", "decimal", "unsignedInt", "positiveInt"), _number),
    "Range": _numbers,
}

QUANTITY_WRITERS: Mapping[str, Factory] = {
    **dict.fromkeys(("Quantity", "Age", "Count", "Distance", "Duration"), _quantity),
    "Range": _range,
    "SampledData": _sampled,
    "Money": _money,
}


# --- queries -------------------------------------------------------------------------------------


def bounds(parameter: Parameter, prefix: str, text: str) -> Bounds:
    """What a number behind its prefix covers. FhirError when it is none."""
    return _bounds(prefix, _asked(parameter, text))


def _asked(parameter: Parameter, text: str) -> Decimal:
    try:
        return numbers.asked(text)
    except ValueError:
        raise malformed(
            f"A value of `{parameter.code}` of {parameter.type} is a number, after one of the"
            " prefixes eq ne gt lt ge le sa eb ap or none"
        ) from None


def _bounds(prefix: str, value: Decimal) -> Bounds:
    exact = numbers.stored(value)
    low, high = numbers.implied(value)
    near = numbers.approximate(value) if prefix == "ap" else (exact, exact)
    return Bounds(low, high, exact, exact, exact, False, near)


def _number_query(parameter: Parameter, values: Sequence[str], _: SearchContext) -> Query:
    found: list[Query] = []
    for text in values:
        prefix, number = prefixed(text)
        covers = bounds(parameter, prefix, number)
        found += [each for key in parameter.keys for each in compared(key, prefix, covers)]
    return any_of(found)


def _quantity_query(parameter: Parameter, values: Sequence[str], context: SearchContext) -> Query:
    """`number`, `number|system|code`, `number||unit`; and, as others have it, `number|system`."""
    found: list[Query] = []
    strict = context.handling == "strict"
    for text in values:
        prefix, rest = prefixed(text)
        number, *unit = [unescape(each) for each in split(rest, "|")]
        if len(unit) > 2 or (len(unit) == 1 and _looks_like_unit(unit[0])):
            raise malformed(
                f"A value of `{parameter.code}` of {parameter.type} is written number,"
                " number|system|code or number||code"
            )
        value = _asked(parameter, number)
        if strict and len(unit) == 2 and unit[0] == units.SYSTEM:
            _require_unit(parameter, unit[1])
        code = unit[1] if len(unit) == 2 and unit[0] in ("", units.SYSTEM) else ""
        common = units.common(code) if code else None
        if common in (None, code) or not unit[0]:
            keys = _everywhere(parameter, code) if common == code else parameter.keys
            covers, of = _bounds(prefix, value), _unit(unit)
            found += [each for key in keys for each in compared(key, prefix, covers, of)]
        if common is not None and common != code:
            found += _in_common(parameter, prefix, value, code)
    return any_of(found)


def _looks_like_unit(system: str) -> bool:
    """Whether somebody left out the system: number|code would find nothing."""
    return bool(system) and (units.is_unit(system) or units.meant(system) is not None)


def _require_unit(parameter: Parameter, code: str) -> None:
    """FhirError 400 for what UCUM does not have, unless lenient handling is asked for, so that one
    can find what somebody stored all the same. Only a usual spelling is repeated."""
    if not code or units.is_unit(code):
        return
    meant = units.meant(code)
    which = f"`{code}`" if meant else f"The unit that is asked of `{parameter.code}`"
    right = f"; did you mean `{meant}`?" if meant else "."
    raise malformed(
        f"{which} is no unit of UCUM{right} What was stored with it all the same is found by"
        " number||code, or with `Prefer: handling=lenient`"
    )


def _everywhere(parameter: Parameter, common: str) -> list[str]:
    """The keys of all quantities that have an entry in a common unit."""
    return [key + more for key in parameter.keys for more in ("", units.IN + common)]


def _in_common(parameter: Parameter, prefix: str, value: Decimal, code: str) -> Iterator[Query]:
    """What is asked in a unit, asked in the common one; nothing where that has no such number."""
    other = units.other(code)
    if other is None:
        return
    try:
        covers = _bounds_in(value, prefix, other)
    except InvalidOperation:
        return
    of = _unit([units.SYSTEM, other.code])
    turned = _REVERSED.get(prefix, prefix) if other.falling else prefix
    for key in _everywhere(parameter, other.code):
        yield from compared(key, turned, covers, of)


# What a prefix asks where greater numbers become less ones.
_REVERSED: Mapping[str, str] = {
    "gt": "lt",
    "lt": "gt",
    "ge": "le",
    "le": "ge",
    "sa": "eb",
    "eb": "sa",
}


def _bounds_in(value: Decimal, prefix: str, other: units.Other) -> Bounds:
    """What a number covers, in another unit: both ends are changed, and put in order."""
    exact = _changed(value, other)
    low, high = sorted(_changed(end, other) for end in numbers.ends(value))
    if other.falling:  # [low, high) has become (low, high]
        low, high = numbers.next_above(low), numbers.next_above(high)
    low, high = min(low, exact), max(high, numbers.next_above(exact))
    near = (exact, exact)
    if prefix == "ap":
        least, greatest = sorted(_changed(end, other) for end in numbers.near(value))
        near = min(least, low), max(greatest, high)
    return Bounds(low, high, exact, exact, exact, False, near)


def _unit(parts: Sequence[str]) -> Conditions:
    fields = zip(("system", "code"), parts, strict=False)
    return tuple(Condition(field, "eq", text) for field, text in fields if text)  # type: ignore[arg-type]


NUMBER_MODIFIERS: Modifiers = {None: _number_query}
QUANTITY_MODIFIERS: Modifiers = {None: _quantity_query}
