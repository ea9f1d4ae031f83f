"""Functions on collections: existence, filtering, subsetting, combining, navigation.

http://hl7.org/fhirpath/N1/#existence
"""

from __future__ import annotations

from functools import cmp_to_key

from conformance.fhirpath.equality import among, distinct, key, order_items
from conformance.fhirpath.function import Function, holds, on, spend
from conformance.fhirpath.items import (
    Collection,
    Focus,
    Item,
    Run,
    boolean,
    children,
    integer,
    number,
    plain,
    single,
    truth,
    units,
)
from conformance.fhirpath.syntax import FhirPathError


def _exists(focus: Focus, input: Collection, criteria: Run | None = None) -> Collection:
    if criteria is None:
        return boolean(bool(input))
    return boolean(any(holds(focus, criteria, i, item) for i, item in enumerate(input)))


def _all(focus: Focus, input: Collection, criteria: Run) -> Collection:
    return boolean(all(holds(focus, criteria, i, item) for i, item in enumerate(input)))


def _booleans(input: Collection, what: str) -> list[bool]:
    found = [plain(item) for item in input]
    if any(item[0] != "System.Boolean" for item in found):
        raise FhirPathError(f"{what}() takes booleans")
    return [bool(item[1]) for item in found]


def _where(focus: Focus, input: Collection, criteria: Run) -> Collection:
    return [item for i, item in enumerate(input) if holds(focus, criteria, i, item)]


def _select(focus: Focus, input: Collection, projection: Run) -> Collection:
    found: Collection = []
    for i, item in enumerate(input):
        reached = projection(on(focus, i, item))
        spend(focus, len(reached))
        found.extend(reached)
    return found


def _repeat(focus: Focus, input: Collection, projection: Run) -> Collection:
    found: Collection = []
    seen = set()
    ucum = units(focus.world)
    waiting = list(input)
    while waiting:
        reached: Collection = []
        for i, item in enumerate(waiting):
            projected = projection(on(focus, i, item))
            spend(focus, 1 + len(projected))
            for each in projected:
                token = key(each, ucum, focus.world)
                if token not in seen:
                    seen.add(token)
                    reached.append(each)
        found.extend(reached)
        waiting = reached
    return found


def _descendants(focus: Focus, input: Collection) -> Collection:
    found: Collection = []
    waiting = list(input)
    while waiting:
        reached: Collection = []
        for item in waiting:
            spend(focus)
            reached.extend(children(focus.world.types, item))
        found.extend(reached)
        waiting = reached
    return found


def _children(focus: Focus, input: Collection) -> Collection:
    return [child for item in input for child in children(focus.world.types, item)]


def _single(focus: Focus, input: Collection) -> Collection:
    item = single(input, "single()")
    return [] if item is None else [item]


def _skip(focus: Focus, input: Collection, count: Collection) -> Collection:
    found = integer(count, "skip()")
    return [] if found is None else input[max(found, 0) :]


def _take(focus: Focus, input: Collection, count: Collection) -> Collection:
    found = integer(count, "take()")
    return [] if found is None else input[: max(found, 0)]


def _subset(focus: Focus, input: Collection, other: Collection) -> Collection:
    return boolean(all(among(input, other, focus.world)))


def _superset(focus: Focus, input: Collection, other: Collection) -> Collection:
    return boolean(all(among(other, input, focus.world)))


def _intersect(focus: Focus, input: Collection, other: Collection) -> Collection:
    items, world = distinct(input, focus.world), focus.world
    return [item for item, there in zip(items, among(items, other, world), strict=True) if there]


def _exclude(focus: Focus, input: Collection, other: Collection) -> Collection:
    there = among(input, other, focus.world)
    return [item for item, found in zip(input, there, strict=True) if not found]


def _combine(focus: Focus, input: Collection, other: Collection) -> Collection:
    return input + other


def _union(focus: Focus, input: Collection, other: Collection) -> Collection:
    return distinct(input + other, focus.world)


def _is_distinct(focus: Focus, input: Collection) -> Collection:
    return boolean(len(distinct(input, focus.world)) == len(input))


def _aggregate(
    focus: Focus, input: Collection, aggregator: Run, start: Run | None = None
) -> Collection:
    total = start(focus) if start else []
    for i, item in enumerate(input):
        total = aggregator(Focus([item], focus.world, i, total))
    return total


def _iif(
    focus: Focus, input: Collection, criterion: Run, then: Run, otherwise: Run | None = None
) -> Collection:
    item = single(input, "iif()")
    # Without an input of its own (`iif(...)`) the input is the focus, so $this stays what it was.
    inner = focus if item is None else Focus([item], focus.world, focus.index, focus.total)
    found = criterion(inner if item is not None else Focus([], focus.world))
    if len(found) > 1 or (found and plain(found[0])[0] != "System.Boolean"):
        raise FhirPathError("The criterion of iif() must be a boolean")
    if truth(found, "iif()"):
        return then(inner)
    return otherwise(inner) if otherwise else []


def _sort(focus: Focus, input: Collection, *keys: tuple[Run, bool]) -> Collection:
    """Sorts by each key in turn; a key is an expression and whether it descends. Items without a
    key come first either way."""

    def rank(item: Item) -> list[Item | None]:
        return [_sort_key(focus, run, item) for run, _ in keys] if keys else [plain(item)]

    world = focus.world
    world.spend(len(input) * len(input).bit_length())
    descending = [down for _, down in keys] or [False]

    def sorting(left: list[Item | None], right: list[Item | None]) -> int:
        for one, other, down in zip(left, right, descending, strict=True):
            if one is None or other is None:
                found = int(one is not None) - int(other is not None)
            else:
                found = (order_items(one, other, "sort()", world) or 0) * (-1 if down else 1)
            if found:
                return found
        return 0

    ranked = [(rank(item), item) for item in input]
    by_rank = cmp_to_key(sorting)
    return [item for _, item in sorted(ranked, key=lambda each: by_rank(each[0]))]


def _sort_key(focus: Focus, run: Run, item: Item) -> Item | None:
    found = single(run(on(focus, 0, item)), "sort()")
    return None if found is None else plain(found)


TABLE = {
    "empty": Function(lambda focus, input: boolean(not input)),
    "exists": Function(_exists, 0, 1, lazy=True),
    "all": Function(_all, 1, 1, lazy=True),
    "allTrue": Function(lambda focus, input: boolean(all(_booleans(input, "allTrue")))),
    "anyTrue": Function(lambda focus, input: boolean(any(_booleans(input, "anyTrue")))),
    "allFalse": Function(lambda focus, input: boolean(not any(_booleans(input, "allFalse")))),
    "anyFalse": Function(lambda focus, input: boolean(not all(_booleans(input, "anyFalse")))),
    "subsetOf": Function(_subset, 1, 1),
    "supersetOf": Function(_superset, 1, 1),
    "count": Function(lambda focus, input: number(len(input))),
    "distinct": Function(lambda focus, input: distinct(input, focus.world)),
    "isDistinct": Function(_is_distinct),
    "where": Function(_where, 1, 1, lazy=True),
    "select": Function(_select, 1, 1, lazy=True),
    "repeat": Function(_repeat, 1, 1, lazy=True),
    "single": Function(_single),
    "first": Function(lambda focus, input: input[:1]),
    "last": Function(lambda focus, input: input[-1:]),
    "tail": Function(lambda focus, input: input[1:]),
    "skip": Function(_skip, 1, 1),
    "take": Function(_take, 1, 1),
    "intersect": Function(_intersect, 1, 1),
    "exclude": Function(_exclude, 1, 1),
    "combine": Function(_combine, 1, 1),
    "union": Function(_union, 1, 1),
    "aggregate": Function(_aggregate, 1, 2, lazy=True),
    "iif": Function(_iif, 2, 3, lazy=True),
    "children": Function(_children),
    "descendants": Function(_descendants),
}

sort = _sort
