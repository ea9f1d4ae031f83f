"""Equality, equivalence and order of items and collections.

http://hl7.org/fhirpath/N1/#equality
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from decimal import Decimal
from functools import cached_property
from types import NoneType
from typing import Any

from conformance.fhirpath.function import spend_of
from conformance.fhirpath.host import Units
from conformance.fhirpath.items import Collection, Item, World, plain, units
from conformance.fhirpath.syntax import FhirPathError
from conformance.fhirpath.values import (
    Quantity,
    Temporal,
    amount,
    compare,
    definite,
    same_unit,
    utc,
)

_DATES = ("System.Date", "System.DateTime")
_LONGEST = 1_000  # items of a list inside one item that are compared in any order


def equal(left: Collection, right: Collection, world: World | None = None) -> bool | None:
    """`=`: None when a side is empty, or a precision or zone does not tell."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    answer: bool | None = True
    for one, other in zip(left, right, strict=True):
        same = same_item(one, other, world)
        if same is False:
            return False
        if same is None:
            answer = None
    return answer


def same_item(left: Item, right: Item, world: World | None = None) -> bool | None:
    """Whether two items are equal; None when that cannot be told."""
    left, right = plain(left), plain(right)
    one, other = left[1], right[1]
    if isinstance(one, Temporal) and isinstance(other, Temporal):
        return _same_moment(one, other)
    if isinstance(one, Quantity) and isinstance(other, Quantity):
        return _same_quantity(one, other, world)
    if one is None or other is None:
        return False
    if world is not None and not isinstance(one, _PLAIN):
        world.spend(_size(one))
    return _deep(one, other)


def equivalent(left: Collection, right: Collection, world: World | None = None) -> bool:
    """`~`: without regard to order, case, white space and the greater precision."""
    if len(left) != len(right):
        return False
    if world is not None:
        spend_of(world, len(left) * len(right) // 8)
    rest = list(right)
    for one in left:
        found = next((i for i, other in enumerate(rest) if like(one, other, world)), None)
        if found is None:
            return False
        del rest[found]
    return True


def like(left: Item, right: Item, world: World | None = None) -> bool:
    """Whether two items are equivalent."""
    left, right = plain(left), plain(right)
    one, other = left[1], right[1]
    if isinstance(one, Temporal) and isinstance(other, Temporal):
        return one.type == other.type and compare(one, other) == 0
    if isinstance(one, Quantity) and isinstance(other, Quantity):
        if one.calendar != other.calendar:
            one, other = definite(one), definite(other)
        values = same_unit(one, other, units(world))
        return values is not None and _near(*values)
    if isinstance(one, Quantity | Temporal) or isinstance(other, Quantity | Temporal):
        return False
    if world is not None and not isinstance(one, _PLAIN):
        world.spend(_size(one))
    return _alike(one, other)


def order(
    left: Collection, right: Collection, operator: str, world: World | None = None
) -> int | None:
    """-1, 0 or 1 of two single items; None when a side is empty or it cannot be told.
    FhirPathError when they are of kinds that do not compare."""
    if not left or not right:
        return None
    if len(left) > 1 or len(right) > 1:
        raise FhirPathError(f"`{operator}` compares single items")
    return order_items(plain(left[0]), plain(right[0]), operator, world)


def order_items(left: Item, right: Item, operator: str, world: World | None = None) -> int | None:
    """The order of two plain items, as `order`."""
    one, other = left[1], right[1]
    if one is None or other is None:
        return None
    kinds = _ordered(left[0]), _ordered(right[0])
    if kinds[0] is None or kinds[0] != kinds[1]:
        # A FHIR date that cannot be read stays a string: it orders against nothing.
        raise FhirPathError(f"`{operator}` cannot compare {left[0]} with {right[0]}")
    if kinds[0] in ("date", "time"):
        return compare(one, other)
    if kinds[0] == "quantity":
        values = same_unit(one, other, units(world))
        if values is None:
            return None
        one, other = values
    return int(one > other) - int(one < other)


def _ordered(type: str) -> str | None:
    return _ORDERED.get(type)


_ORDERED = {
    "System.String": "string",
    "System.Integer": "number",
    "System.Decimal": "number",
    "System.Date": "date",
    "System.DateTime": "date",
    "System.Time": "time",
    "System.Quantity": "quantity",
}


class Lasting(list[Item]):
    """A collection that is asked many times and does not change, with the keys of its items."""

    def __init__(self, items: Iterable[Item], ucum: Units | None = None) -> None:
        super().__init__(items)
        self._ucum = ucum

    @cached_property
    def keys(self) -> set[Hashable]:
        """The keys of the items that can equal something."""
        return _keys(self, self._ucum)


def key(item: Item, ucum: Units | None = None, world: World | None = None) -> Hashable:
    """A key that two items share when, and only when, they are equal. TooMuch."""
    value = plain(item)[1]
    if isinstance(value, Temporal):
        return _moment(value)
    if isinstance(value, Quantity):
        return amount(value, ucum)
    if world is not None and not isinstance(value, _PLAIN):
        world.spend(_size(value))
    return _frozen(value)


def _size(value: Any) -> int:
    """How many values one consists of."""
    size, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        size += 1
    return size


_PLAIN = (str, bool, int, Decimal, NoneType)


def _moment(value: Temporal) -> Hashable:
    """A date and a dateTime of one precision are equal; with an offset and without are not."""
    same = utc(value)
    kind = "date" if value.type in _DATES else value.type
    zoned = value.offset is not None
    return kind, same.parts, same.fraction.rstrip("0"), zoned


def _keys(
    collection: Iterable[Item], ucum: Units | None, world: World | None = None
) -> set[Hashable]:
    """The keys of what can equal something: an item without a value equals none."""
    return {key(item, ucum, world) for item in collection if plain(item)[1] is not None}


def _frozen(value: Any) -> Hashable:
    if isinstance(value, dict):
        return frozenset((name, _frozen(each)) for name, each in value.items())
    if isinstance(value, list):
        return tuple([_frozen(each) for each in value])
    if isinstance(value, bool):
        return ("boolean", value)
    return value  # type: ignore[no-any-return]


def distinct(collection: Collection, world: World | None = None) -> Collection:
    """Each item once, the first of equals."""
    if world is not None:
        spend_of(world, len(collection))
    found: dict[Hashable, Item] = {}
    ucum = units(world)
    for item in collection:
        found.setdefault(key(item, ucum, world), item)
    return list(found.values())


def within(item: Item, collection: Collection, world: World | None = None) -> bool:
    """Whether an equal item is among these."""
    if isinstance(collection, Lasting):
        return key(item, units(world), world) in collection.keys
    return any(same_item(item, other, world) for other in collection)


def among(items: Collection, collection: Collection, world: World | None = None) -> list[bool]:
    """Of each item whether an equal one is in the collection."""
    ucum = units(world)
    keys = collection.keys if isinstance(collection, Lasting) else _keys(collection, ucum, world)
    return [key(item, ucum, world) in keys for item in items]


def _same_moment(one: Temporal, other: Temporal) -> bool | None:
    if one.type != other.type and not (one.type in _DATES and other.type in _DATES):
        return False
    found = compare(one, other)
    return None if found is None else found == 0


def _same_quantity(one: Quantity, other: Quantity, world: World | None) -> bool | None:
    values = same_unit(one, other, units(world))
    if values is None:
        # A calendar month or year may be as long as a UCUM one, or not.
        calendar = one.calendar != other.calendar and {one.unit, other.unit} & {"month", "year"}
        return None if calendar else False
    return values[0] == values[1]


def _deep(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_deep(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(_deep(*pair) for pair in pairs)
    return bool(one == other)


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, str) and isinstance(other, str):
        return one.casefold().split() == other.casefold().split()
    if isinstance(one, int | Decimal) and isinstance(other, int | Decimal):
        return _near(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other) or len(one) > _LONGEST:
            return one == other
        rest = list(other)
        for each in one:
            found = next((i for i, candidate in enumerate(rest) if _alike(each, candidate)), None)
            if found is None:
                return False
            del rest[found]
        return True
    return bool(one == other)


def _near(one: Decimal | int, other: Decimal | int) -> bool:
    """Equal when both are rounded to the lesser number of decimal places. Bounded: numbers of very
    different size are told apart before any rounding."""
    if one == other:
        return True
    left, right = Decimal(one).normalize(), Decimal(other).normalize()
    if abs(left.adjusted() - right.adjusted()) > 1 or abs(left.adjusted()) > 300:
        return False
    places = max(int(left.as_tuple().exponent), int(right.as_tuple().exponent))
    step = Decimal(1).scaleb(places)
    return left.quantize(step) == right.quantize(step)
