"""Slices of an element: which item is of which, how many of each, in which order, and what the
profile asks of the items of each.

https://hl7.org/fhir/R4/profiling.html#slicing
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from conformance.definitions import Element
from conformance.profiles import checks, discriminators
from conformance.profiles.rules import Says
from conformance.profiles.run import ProfileRun
from conformance.profiles.tree import Branch, type_code
from conformance.validator.rules import Member, Rule, Run, Whole

if TYPE_CHECKING:
    from conformance.profiles.deltas import Deltas, Spot

# The numbers of the slices that an item is of.
Classify: TypeAlias = Callable[[Any, Run], Sequence[int]]
# Checks the items of an array (or a single value as one) that `holder` has.
Items: TypeAlias = Callable[[list[Any], Any, Sequence[Any], dict[str, Any], Run], None]

_NONE: tuple[int, ...] = ()
_DEFAULT = "@default"


class Part(NamedTuple):
    """A slice: what is asked of each item, what is said when there are too few or too many, its
    own slices, and which items are of the type that its profile is for: where none conforms, what
    is wrong with those is told too."""

    min: int
    max: int | None
    member: Member | None
    low: Rule | None
    high: Rule | None
    inner: Items | None
    near: discriminators.Test | None


class Order(NamedTuple):
    """What is said of items outside of slices and out of their order; None: they are fine."""

    unmatched: Rule | None
    behind: Rule | None
    disordered: Rule | None
    several: Rule


def compiled(
    deltas: Deltas, child: Branch, base: Element, spots: tuple[Spot, ...], path: str
) -> Iterator[checks.Part]:
    """The checks of the slices of one element."""
    slicing = child.element.get("slicing") or {}
    discriminating = slicing.get("discriminator") or ()
    if base.name.endswith("[x]") and _by_type(discriminating):
        yield from _choices(deltas, child, spots, path)
        return
    if not spots:
        return
    items = _items(deltas, child, child, spots[0], path)
    if items is None:
        return
    if base.max != 1:
        yield _of_array(spots[0].key, items)
    else:
        for spot in spots:
            yield _of_one(spot.key, items)


def _by_type(discriminating: Sequence[Any]) -> bool:
    own = ("type", "$this")
    return all((each.get("type"), each.get("path")) == own for each in discriminating)


# Slices of a choice, by its type


def _choices(
    deltas: Deltas, child: Branch, spots: tuple[Spot, ...], path: str
) -> Iterator[checks.Part]:
    known: set[Spot] = set()
    for name, part in child.slices.items():
        codes = {type_code(each) for each in part.types}
        own = [each for each in spots if each.type in codes or each.key == name]
        known.update(own)
        keys = tuple(each.key for each in own)
        if part.max == 0:
            yield checks.absent(keys, deltas.says.exceeds(path, 0, name))
            continue
        if part.min and not child.min:
            yield checks.present(keys, deltas.says.lacks(path, 1, name))
        elif part.min:
            # The choice itself is required already: another type is not this one.
            yield _this_type(keys, spots, deltas.says.other_type(path, sorted(codes)))
        for spot in own:
            member = deltas.item(part, spot, path, child)
            if member is not None:
                yield checks.One(spot.key, member)
            if spot.primitive and part.children:
                inner = checks.whole((), deltas.children(part, "Element", path))
                if inner is not None:
                    yield checks.partners(spot.key, inner)
    unmatched = _order(deltas.says, child.element.get("slicing") or {}, tuple(child.slices), path)[
        0
    ]
    others = [each.key for each in spots if each not in known]
    if unmatched is not None and others:
        yield checks.absent(others, unmatched)


def _this_type(keys: tuple[str, ...], spots: tuple[Spot, ...], rule: Rule) -> Whole:
    others = tuple(each.key for each in spots if each.key not in keys)
    return checks.absent(others, rule) if others else lambda value, run: None


# Slices of a list


def _items(deltas: Deltas, child: Branch, sliced: Branch, spot: Spot, path: str) -> Items | None:
    """The check of the items of `sliced`, an element or a slice that has slices itself."""
    slicing = sliced.element.get("slicing") or child.element.get("slicing") or {}
    names = tuple(sliced.slices)
    parts = tuple(
        _part(deltas, child, part, spot, path, name) for name, part in sliced.slices.items()
    )
    order = _order(deltas.says, slicing, names, path)
    classify = _classify(deltas, sliced.slices, spot, slicing.get("discriminator") or ())
    if classify is None:
        return _unsliceable(deltas.says.unsliceable(path))
    if not any(_matters(each) for each in parts) and order[:3] == (None, None, None):
        return None
    return _checked(classify, parts, order)


def _matters(part: Part) -> bool:
    return any(each is not None for each in (part.member, part.low, part.high, part.inner))


def _part(deltas: Deltas, child: Branch, part: Branch, spot: Spot, path: str, name: str) -> Part:
    most = part.max
    return Part(
        part.min,
        most,
        deltas.item(part, spot, path, child),
        deltas.says.lacks(path, part.min, name) if part.min else None,
        None if most is None else deltas.says.exceeds(path, most, name),
        _items(deltas, child, part, spot, path) if part.slices else None,
        _near(deltas, child, part, spot) if part.min else None,
    )


def _near(deltas: Deltas, child: Branch, part: Branch, spot: Spot) -> discriminators.Test | None:
    slicing = child.element.get("slicing") or {}
    for each in slicing.get("discriminator") or ():
        if each.get("type") == "profile":
            return discriminators.test(deltas, part, spot, {**each, "type": "type"})
    return None


def _order(says: Says, slicing: Mapping[str, Any], names: tuple[str, ...], path: str) -> Order:
    rules = slicing.get("rules")
    return Order(
        says.unmatched(path, names) if rules == "closed" and _DEFAULT not in names else None,
        says.behind(path) if rules == "openAtEnd" else None,
        says.disordered(path) if slicing.get("ordered") is True else None,
        says.several(path),
    )


def _unsliceable(rule: Rule) -> Items:
    def check(
        items: list[Any], holder: Any, places: Sequence[Any], owner: dict[str, Any], run: Run
    ) -> None:
        run.add(owner, None, rule)

    return check


def _checked(classify: Classify, parts: tuple[Part, ...], order: Order) -> Items:
    unmatched, behind, disordered, several = order
    if len(parts) == 1 and parts[0].inner is None and order[:3] == (None, None, None):
        return _checked_alone(classify, parts[0])
    amounts = tuple(
        (number, part.min, part.max, part.low, part.high)
        for number, part in enumerate(parts)
        if part.low is not None or part.high is not None
    )

    def check(
        items: list[Any], holder: Any, places: Sequence[Any], owner: dict[str, Any], run: Run
    ) -> None:
        of: dict[int, list[int]] = {}
        last, loose = -1, False
        for position, item in enumerate(items):
            numbers = classify(item, run)
            if not numbers:
                loose = True
                if unmatched is not None:
                    run.add(holder, places[position], unmatched)
                continue
            number = numbers[0]
            if len(numbers) > 1:
                run.add(holder, places[position], several)
            if loose and behind is not None:
                run.add(holder, places[position], behind)
            if number < last and disordered is not None:
                run.add(holder, places[position], disordered)
            last = number
            found = of.get(number)
            if found is None:
                of[number] = [position]
            else:
                found.append(position)
            member = parts[number].member
            if member is not None:
                member(item, holder, places[position], run)
        for number, least, most, low, high in amounts:
            count = len(of[number]) if number in of else 0
            if low is not None and count < least:
                run.add(owner, None, low)
                _explain(parts[number], items, holder, places, run)
            elif high is not None and most is not None and count > most:
                run.add(holder, places[of[number][most]], high)
        for number, positions in of.items():
            inner = parts[number].inner
            if inner is not None:
                inner(
                    [items[each] for each in positions],
                    holder,
                    [places[each] for each in positions],
                    owner,
                    run,
                )

    return check


def _checked_alone(classify: Classify, part: Part) -> Items:
    """The frequent case: one slice, among items that may be anything else."""
    least, most, member, low, high, _, _ = part

    def check(
        items: list[Any], holder: Any, places: Sequence[Any], owner: dict[str, Any], run: Run
    ) -> None:
        count, beyond = 0, None
        for position, item in enumerate(items):
            if classify(item, run):
                if count == most:
                    beyond = places[position]
                count += 1
                if member is not None:
                    member(item, holder, places[position], run)
        if low is not None and count < least:
            run.add(owner, None, low)
            _explain(part, items, holder, places, run)
        elif high is not None and most is not None and count > most:
            run.add(holder, beyond, high)

    return check


def _explain(part: Part, items: list[Any], holder: Any, places: Sequence[Any], run: Run) -> None:
    """Tell what is wrong with the only item that is of the right type."""
    if part.near is None or part.member is None or run.limit == 0:
        return
    found = [number for number, item in enumerate(items) if part.near(item, run)]
    if len(found) == 1:
        part.member(items[found[0]], holder, places[found[0]], run)


def _of_array(key: str, items: Items) -> Whole:
    def check(value: dict[str, Any], run: Run) -> None:
        found = value.get(key)
        if type(found) is list:
            items(found, found, range(len(found)), value, run)
        else:
            items([], value, _NONE, value, run)

    return check


def _of_one(key: str, items: Items) -> Whole:
    def check(value: dict[str, Any], run: Run) -> None:
        found = value.get(key)
        if found is not None:
            items([found], value, (key,), value, run)

    return check


# Which slice


def _classify(
    deltas: Deltas, slices: Mapping[str, Branch], spot: Spot, discriminating: Sequence[Any]
) -> Classify | None:
    """None if no slice can be told by what the profile says."""
    named = {name: part for name, part in slices.items() if name != _DEFAULT}
    default = (tuple(slices).index(_DEFAULT),) if _DEFAULT in slices else _NONE
    if spot.type == "Extension" and not any(each.get("path") != "url" for each in discriminating):
        return _by_url(deltas, slices, default)
    literal = _by_literal(deltas, slices, named, spot, discriminating, default)
    if literal is not None:
        return literal
    tests = []
    for number, (name, part) in enumerate(slices.items()):
        if name == _DEFAULT:
            continue
        own = [discriminators.test(deltas, part, spot, each) for each in discriminating]
        known = tuple(each for each in own if each is not None)
        if not known:
            return None
        tests.append((number, known))
    return _by_tests(tuple(tests), default)


def _by_url(deltas: Deltas, slices: Mapping[str, Branch], default: tuple[int, ...]) -> Classify:
    """Extensions: by the url that a slice fixes, or that of the definition it names."""
    numbers: dict[str, tuple[int, ...]] = {}
    for number, part in enumerate(slices.values()):
        own = part.children.get("url")
        fixed = own.value("fixed") if own is not None else None
        named = [each.partition("|")[0] for each in part.profiles("Extension")]
        for url in [fixed] if fixed else named:
            numbers[str(url)] = (number,)
    get = numbers.get

    def classify(item: Any, run: Run) -> Sequence[int]:
        url = item.get("url") if type(item) is dict else None
        return get(url, default) if type(url) is str else default

    return classify


def _by_literal(
    deltas: Deltas,
    slices: Mapping[str, Branch],
    named: Mapping[str, Branch],
    spot: Spot,
    discriminating: Sequence[Any],
    default: tuple[int, ...],
) -> Classify | None:
    """One text of one property tells all slices: a dictionary."""
    if len(discriminating) != 1:
        return None
    found = {
        name: discriminators.literal_key(deltas, part, spot, discriminating[0])
        for name, part in named.items()
    }
    keys = {each[0] for each in found.values() if each is not None}
    texts = {each[1] for each in found.values() if each is not None}
    if None in found.values() or len(keys) != 1 or len(texts) != len(named):
        return None
    (key,) = keys
    order = tuple(slices)
    numbers = {each[1]: (order.index(name),) for name, each in found.items() if each is not None}
    get = numbers.get

    def classify(item: Any, run: Run) -> Sequence[int]:
        text = item.get(key) if type(item) is dict else None
        return get(text, default) if type(text) is str else default

    return classify


def _by_tests(
    tests: tuple[tuple[int, tuple[discriminators.Test, ...]], ...], default: tuple[int, ...]
) -> Classify:
    if len(tests) == 1:
        return _by_test(*tests[0], default)

    price = 2 * len(tests)

    def classify(item: Any, run: Run) -> Sequence[int]:
        cast(ProfileRun, run).session.spend(price)
        found: list[int] = []
        for number, all_of in tests:
            for test in all_of:
                if not test(item, run):
                    break
            else:
                found.append(number)
        return found or default

    return classify


def _by_test(
    number: int, all_of: tuple[discriminators.Test, ...], default: tuple[int, ...]
) -> Classify:
    found = (number,)

    def classify(item: Any, run: Run) -> Sequence[int]:
        for test in all_of:
            if not test(item, run):
                return default
        return found

    return classify
