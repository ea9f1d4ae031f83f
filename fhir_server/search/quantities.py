"""Number and quantity parameters: ranges of floats, quantities with their unit.

https://hl7.org/fhir/R4/search.html#number, https://hl7.org/fhir/R4/search.html#quantity
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from fhir_server.search import numbers
from fhir_server.search.context import Modifiers, SearchContext, malformed
from fhir_server.search.literals import prefixed, split, unescape
from fhir_server.search.parameters import Parameter
from fhir_server.search.place import Add, Factory, Place, Writer, add_present, range_entry
from fhir_server.search.ranges import Bounds, Conditions, any_of, compared
from fhir_server.storage.store import Condition, Query

CURRENCIES = "urn:iso:std:iso:4217"

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
        if "comparator" in value and value["comparator"] in _OPEN:
            low, high = _OPEN[value["comparator"]](number)
        else:
            low = high = numbers.stored(number)
        code, unit = value.get("code"), value.get("unit")
        add(range_entry(param, low, high, value.get("system"), code or unit))
        if code and unit and code != unit:  # found by what people call the unit, too
            add(range_entry(param, low, high, None, unit))

    return write


def _range(param: str, _: Place) -> Writer:
    def write(value: Any, add: Add) -> None:
        low, high = value.get("low") or {}, value.get("high") or {}
        least, greatest = low.get("value"), high.get("value")
        unit = low if least is not None else high
        _add_between(param, least, greatest, unit, add)

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
    low = numbers.LEAST if least is None else numbers.stored(least)
    high = numbers.GREATEST if greatest is None else numbers.stored(greatest)
    if low > high or (least is None and greatest is None):
        add_present(param, add)
        return
    code = unit.get("code") or unit.get("unit")
    add(range_entry(param, low, high, unit.get("system"), code))


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
    "Range": _range,
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
    try:
        value = numbers.asked(text)
    except ValueError:
        raise malformed(
            f"A value of `{parameter.code}` of {parameter.type} is a number, after one of the"
            " prefixes eq ne gt lt ge le sa eb ap or none"
        ) from None
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


def _quantity_query(parameter: Parameter, values: Sequence[str], _: SearchContext) -> Query:
    """`number`, `number|system|code`, `number||unit`; and, as others have it, `number|system`."""
    found: list[Query] = []
    for text in values:
        prefix, rest = prefixed(text)
        number, *unit = [unescape(each) for each in split(rest, "|")]
        if len(unit) > 2:
            raise malformed(
                f"A value of `{parameter.code}` of {parameter.type} is written number,"
                " number|system|code or number||code"
            )
        covers, of = bounds(parameter, prefix, number), _unit(unit)
        found += [each for key in parameter.keys for each in compared(key, prefix, covers, of)]
    return any_of(found)


def _unit(parts: Sequence[str]) -> Conditions:
    fields = zip(("system", "code"), parts, strict=False)
    return tuple(Condition(field, "eq", text) for field, text in fields if text)  # type: ignore[arg-type]


NUMBER_MODIFIERS: Modifiers = {None: _number_query}
QUANTITY_MODIFIERS: Modifiers = {None: _quantity_query}
