"""What an expression works on at run time: collections of typed items, and the focus that
`$this`, `$index`, `$total` and the variables are read from.

http://hl7.org/fhirpath/N1/#collections
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from conformance.fhirpath.host import Host, Units
from conformance.fhirpath.syntax import FhirPathError, TooMuch
from conformance.fhirpath.types import SYSTEM, Step, Types
from conformance.fhirpath.values import Quantity, temporal
from conformance.patience import look

# (type, value, element): the type as in `Step.type` or System.*; the JSON value (a Temporal or
# Quantity for those of System), None for a primitive that has none; the id and extensions of a
# primitive, the `_name` member of the JSON.
Item: TypeAlias = tuple[str, Any, "Mapping[str, Any] | None"]
Collection: TypeAlias = list[Item]


@dataclass(slots=True)
class Allowance:
    """Items that several evaluations may visit and make together."""

    left: int

    def take(self, least: int, most: int) -> int:
        """Some of them. TooMuch where less than `least` are left; FhirError when the time of this
        work is over."""
        look()
        if self.left < least:
            raise TooMuch("The expressions visit or make too much")
        taken = min(self.left, most)
        self.left -= taken
        return taken


class Environment:
    """`resource` is %resource: the nearest resource around the value; `root` is %rootResource: the
    one that contains it, or the same; `host` answers what lies outside of both; `allowance` is what
    those expressions may cost together that do not come with the standard. `kept` is what
    depends on nothing else, found once however often it is asked for; so an environment serves
    while its resources do not change."""

    __slots__ = ("allowance", "host", "kept", "resource", "root")

    def __init__(
        self,
        resource: Mapping[str, Any],
        root: Mapping[str, Any],
        host: Host | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        self.resource = resource
        self.root = root
        self.host = host
        self.allowance = allowance
        self.kept: dict[object, Any] = {}


@dataclass(slots=True)
class World:
    """What stays the same through one evaluation. `now` is the instant of now() and today();
    `budget` is what may still be visited before more is taken of an `allowance`, `rest` in all;
    `kept` is what depends on the context too, found once; `trace` is told what trace() names."""

    types: Types
    environment: Environment
    context: Item
    now: datetime | None = None
    budget: int = 200_000  # items that may be visited
    kept: dict[object, Any] = field(default_factory=dict)
    trace: Callable[[str, Collection], None] | None = None
    allowance: Allowance | None = None
    rest: int = 0

    def spend(self, amount: int) -> None:
        """Take from what may be visited and made. TooMuch when nothing is left; FhirError when the
        time of this work is over."""
        self.budget -= amount
        if self.budget < 0:
            self._draw(-self.budget)

    def give_back(self) -> None:
        """Leave to others what was taken and not spent."""
        if self.allowance is not None and self.budget > 0:
            self.allowance.left += self.budget
            self.budget = 0

    def _draw(self, lacking: int) -> None:
        if self.allowance is None or self.rest < lacking:
            raise TooMuch("The expression visits or makes too much")
        taken = self.allowance.take(lacking, min(self.rest, lacking + _PORTION))
        self.rest -= taken
        self.budget += taken


_PORTION = 2_000  # items that are taken at once: about 1 ms, after which the clock is looked at


def units(world: World | None) -> Units | None:
    """UCUM, where this world has it."""
    host = None if world is None else world.environment.host
    return None if host is None else host.units


@dataclass(slots=True)
class Focus:
    """What `$this`, `$index` and `$total` are now."""

    this: Collection
    world: World
    index: int | None = None
    total: Collection | None = None


Run: TypeAlias = Callable[[Focus], Collection]

TRUE: Item = ("System.Boolean", True, None)
FALSE: Item = ("System.Boolean", False, None)


def boolean(value: bool | None) -> Collection:
    """A collection of one boolean, or an empty one."""
    return [] if value is None else [TRUE if value else FALSE]


def string(value: str) -> Collection:
    return [("System.String", value, None)]


def number(value: int | Decimal) -> Collection:
    return [("System.Integer" if isinstance(value, int) else "System.Decimal", value, None)]


def members(types: Types, node: Mapping[str, Any], step: Step, out: Collection) -> None:
    """Append the items that one member of a JSON object holds."""
    value = node.get(step.key)
    if step.primitive:
        side = node.get(f"_{step.key}")
        if value is not None or side is not None:
            _primitives(value, side, step, out)
    elif value is None:
        return
    elif types.resource(step.type):
        for each in value if step.many else (value,):
            out.append((types.own(each), each, None))
    elif step.many:
        for each in value:
            out.append((step.type, each, None))
    else:
        out.append((step.type, value, None))


def _primitives(value: Any, side: Any, step: Step, out: Collection) -> None:
    if not step.many:
        out.append((step.type, value, side))
        return
    values, sides = value or (), side or ()
    for position in range(max(len(values), len(sides))):
        one = values[position] if position < len(values) else None
        beside = sides[position] if position < len(sides) else None
        out.append((step.type, one, beside))


def body(item: Item) -> Mapping[str, Any]:
    """The JSON object that an item's children are members of; empty for a bare value."""
    _, value, element = item
    if isinstance(value, dict):
        return value
    return element or {}


def children(types: Types, item: Item) -> Collection:
    """All children of an item, in the order of the JSON."""
    found: Collection = []
    known = types.members(item[0])
    node = body(item)
    for key in node:
        step = known.get(key)
        if step is None and key[0] == "_" and key[1:] not in node:
            step = known.get(key[1:])
        if step is not None:
            members(types, node, step, found)
    return found


def plain(item: Item) -> Item:
    """The item as operators see it: a FHIR primitive or Quantity becomes the System value; any
    other item, and one without a value, stays."""
    type, value, _ = item
    system = SYSTEM.get(type)
    if system is None:
        return _quantity(item) if type in _QUANTITIES else item
    if system in _TEMPORAL and isinstance(value, str):
        moment = temporal(system, value)
        return ("System.String", value, None) if moment is None else (system, moment, None)
    return (system, value, None)


_TEMPORAL = frozenset({"System.Date", "System.DateTime", "System.Time"})
_QUANTITIES = frozenset({"Quantity", "Age", "Count", "Distance", "Duration"})
_UCUM = "http://unitsofmeasure.org"


def _quantity(item: Item) -> Item:
    value = item[1].get("value")
    if value is None or "comparator" in item[1]:
        return item
    unit = item[1].get("code") if item[1].get("system") == _UCUM else item[1].get("unit")
    return ("System.Quantity", Quantity(value, unit or "1"), None)


def single(collection: Collection, what: str) -> Item | None:
    """The only item, or None. FhirPathError when there are several."""
    if not collection:
        return None
    if len(collection) > 1:
        raise FhirPathError(f"{what} takes one item, not {len(collection)}")
    return collection[0]


def truth(collection: Collection, what: str) -> bool | None:
    """The collection as a boolean: empty is None, a single item that is no boolean is true."""
    item = single(collection, what)
    if item is None:
        return None
    type, value, _ = item
    if type in ("System.Boolean", "boolean"):
        return bool(value) if value is not None else None
    return True


def text(collection: Collection, what: str) -> str | None:
    """The only string, or None. FhirPathError for anything else."""
    found = _value(collection, what)
    if found is not None and not isinstance(found, str):
        raise FhirPathError(f"{what} takes a string")
    return found


def integer(collection: Collection, what: str) -> int | None:
    """The only integer, or None. FhirPathError for anything else."""
    found = _value(collection, what)
    if found is not None and (not isinstance(found, int) or isinstance(found, bool)):
        raise FhirPathError(f"{what} takes an integer")
    return found


def _value(collection: Collection, what: str) -> Any:
    item = single(collection, what)
    return None if item is None else item[1]
