"""How the items of a slice are told from others: a test for each discriminator.

https://hl7.org/fhir/R4/profiling.html#discriminator
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from conformance.profiles import checks, literals
from conformance.profiles.run import Asked, Bound, ProfileRun, outside
from conformance.profiles.tree import CORE, Branch, type_code
from conformance.profiles.values import conforms_to_any
from conformance.validator.references import target
from conformance.validator.rules import Run

if TYPE_CHECKING:
    from conformance.profiles.deltas import Deltas, Spot

# Whether an item is of a slice.
Test: TypeAlias = Callable[[Any, Run], bool]
# The values that a path leads to from an item.
Reach: TypeAlias = Callable[[Any, Run], list[Any]]

_STEP = re.compile(r"extension\(\s*['\"]([^'\"]+)['\"]\s*\)|(\w+)\(([^)]*)\)|([^.()\s]+)")


class Step(NamedTuple):
    """A step of a discriminator's path: a name, an extension's url, or a function."""

    kind: str  # name, extension, resolve, type
    text: str


class Literal(NamedTuple):
    """What a value at the end of a path is compared with."""

    value: Any
    exact: bool


class Aim(NamedTuple):
    """Where a path ends within a slice: a branch of the profile, or a part of a literal that a
    branch above it has; its spot, if the definitions know it, and the properties that it may be
    of what holds it: none of the item itself."""

    branch: Branch | None
    literal: Literal | None
    spot: Spot | None
    spots: tuple[Spot, ...] = ()
    resolved: bool = False


def steps(path: str) -> tuple[Step, ...]:
    """The steps of a discriminator's path; `$this` has none."""
    found = []
    for match in _STEP.finditer(path):
        url, function, argument, name = match.groups()
        if url is not None:
            found.append(Step("extension", url))
        elif function == "resolve":
            found.append(Step("resolve", ""))
        elif function in ("ofType", "as"):
            found.append(Step("type", argument.strip()))
        elif name is not None and name != "$this":
            found.append(Step("name", name.removesuffix("[x]")))
    return tuple(found)


def literal_key(
    deltas: Deltas, part: Branch, spot: Spot, discriminator: Any
) -> tuple[str, str] | None:
    """The property and the text that alone tell the items of a slice, where it is so simple."""
    if discriminator.get("type") not in ("value", "pattern"):
        return None
    path = steps(str(discriminator.get("path", "")))
    if len(path) != 1 or path[0].kind != "name":
        return None
    base = deltas.definitions.children(spot.owner).get(path[0].text)
    if base is not None and base.max != 1:
        return None  # any of several values may be it
    found = aimed(deltas, part, spot, path).literal
    return (path[0].text, found.value) if found and type(found.value) is str else None


def test(deltas: Deltas, part: Branch, spot: Spot, discriminator: Any) -> Test | None:
    """The test of one discriminator; None if the profile does not say what its value is."""
    path = steps(str(discriminator.get("path", "")))
    aim = aimed(deltas, part, spot, path)
    make = _TESTS.get(str(discriminator.get("type")))
    return make(deltas, aim, path) if make is not None else None


# Where a path ends


def aimed(deltas: Deltas, part: Branch, spot: Spot, path: Sequence[Step]) -> Aim:
    """Follows a path through a slice of the profile."""
    at = Aim(part, _literal(part), spot)
    for step in path:
        at = _next(deltas, at, step)
    return at


def _literal(branch: Branch | None) -> Literal | None:
    if branch is None:
        return None
    fixed = branch.value("fixed")
    if fixed is not None:
        return Literal(fixed, True)
    pattern = branch.value("pattern")
    return None if pattern is None else Literal(pattern, False)


def _next(deltas: Deltas, at: Aim, step: Step) -> Aim:
    if step.kind == "resolve":
        return at._replace(resolved=True)
    if step.kind == "type":
        return at
    child = _child(deltas, at, step)
    spots = _spots(deltas, at.spot, step)
    literal = _literal(child) or _part(at.literal, step)
    return Aim(child, literal, spots[0] if spots else None, spots)


def _child(deltas: Deltas, at: Aim, step: Step) -> Branch | None:
    if at.branch is None:
        return None
    if step.kind == "extension":
        whole = at.branch.children.get("extension")
        for each in whole.slices.values() if whole else ():
            if step.text in each.profiles("Extension"):
                return each
        return None
    found = at.branch.children.get(step.text) or at.branch.children.get(f"{step.text}[x]")
    if found is not None and _literal(found) is None and not found.children and found.slices:
        return next(iter(found.slices.values()))  # a slice of it says what it is
    if found is None and at.spot is not None:
        for canonical in deltas.profiles(at.branch, at.spot.type):
            profile = deltas.shelf.compiled(canonical)
            tree = getattr(profile, "tree", None)
            if tree is not None and step.text in tree.children:
                child: Branch = tree.children[step.text]
                return child
    return found


def _part(literal: Literal | None, step: Step) -> Literal | None:
    """The part of a literal that a step leads to; of an array its first item."""
    if literal is None or step.kind != "name":
        return None
    value = literal.value
    if type(value) is list:
        value = value[0] if value else None
    found = value.get(step.text) if type(value) is dict else None
    if type(found) is list:
        found = found[0] if found else None
    return None if found is None else Literal(found, literal.exact)


def _spots(deltas: Deltas, spot: Spot | None, step: Step) -> tuple[Spot, ...]:
    if spot is None or step.kind == "extension":
        return ()
    known = deltas.definitions.children(spot.owner)
    base = known.get(step.text) or known.get(f"{step.text}[x]")
    return deltas.spots(base) if base is not None else ()


# What a path leads to


def reach(deltas: Deltas, path: Sequence[Step]) -> Reach:
    """The values that a path leads to from an item."""
    moves = tuple(_move(deltas, each) for each in path)

    def values(item: Any, run: Run) -> list[Any]:
        found = [item]
        for move in moves:
            found = [each for value in found for each in move(value, run)]
        return found

    return values


def _move(deltas: Deltas, step: Step) -> Reach:
    return {"name": _name, "extension": _extension, "resolve": _resolve, "type": _stay}[step.kind](
        step.text
    )


def _name(name: str) -> Reach:
    def move(value: Any, run: Run) -> list[Any]:
        if type(value) is not dict:
            return []
        found = value.get(name)
        if found is None:
            # A choice goes by its stem and the name of a type.
            found = [
                each
                for key, each in value.items()
                if key.startswith(name) and key[len(name) : len(name) + 1].isupper()
            ]
        return found if type(found) is list else [found]

    return move


def _extension(url: str) -> Reach:
    def move(value: Any, run: Run) -> list[Any]:
        found = value.get("extension") if type(value) is dict else None
        return [
            each
            for each in (found if type(found) is list else ())
            if type(each) is dict and each.get("url") == url
        ]

    return move


def _resolve(_: str) -> Reach:
    def move(value: Any, run: Run) -> list[Any]:
        reference = value.get("reference") if type(value) is dict else value
        if type(reference) is not str:
            return []
        found = cast(ProfileRun, run).session.found(reference, run.environment)
        return [] if found is None else [found]

    return move


def _stay(_: str) -> Reach:
    return lambda value, run: [value]


# The tests


def _value(deltas: Deltas, aim: Aim, path: tuple[Step, ...]) -> Test | None:
    get = reach(deltas, path)
    if aim.literal is not None:
        holds = literals.equals if aim.literal.exact else literals.holds
        same = holds(aim.literal.value)
        if all(each.kind == "name" for each in path):
            return _same(same, tuple(each.text for each in path))
        return lambda item, run: any(same(each) for each in get(item, run))
    return _bound(deltas, aim, get) or _conforming(deltas, aim, get)


def _same(same: literals.Test, names: tuple[str, ...]) -> Test:
    """Whether a path of names leads to such a value, without lists in between."""
    holds = same
    for name in reversed(names[1:]):
        holds = _within(name, holds)
    return _within(names[0], holds) if names else lambda item, run: holds(item)


def _within(name: str, holds: literals.Test) -> Callable[..., bool]:
    stem = len(name)

    def test(value: Any, _: Run | None = None) -> bool:
        if type(value) is not dict:
            return False
        found = value.get(name)
        if type(found) is list:
            for each in found:  # noqa: SIM110 - a loop costs half of any() here
                if holds(each):
                    return True
            return False
        if found is not None:
            return holds(found)
        # A choice goes by its stem and the name of a type.
        for key, each in value.items():
            if key.startswith(name) and key[stem : stem + 1].isupper():
                return holds(each)
        return False

    return test


def _bound(deltas: Deltas, aim: Aim, get: Reach) -> Test | None:
    if aim.branch is None or aim.spot is None:
        return None
    binding = aim.branch.element.get("binding") or {}
    value_set = binding.get("valueSet")
    if binding.get("strength") != "required" or not value_set:
        return None
    kind = aim.spot.type if aim.spot.type in ("Coding", "CodeableConcept", "Quantity") else "code"
    bound: Bound = deltas.bound("", kind, value_set, True)

    def test(item: Any, run: Run) -> bool:
        codes = cast(ProfileRun, run).session.codes
        return any(outside(codes, Asked(v, item, None, bound)) is False for v in get(item, run))

    return test


def _conforming(deltas: Deltas, aim: Aim, get: Reach) -> Test | None:
    """A value tells its slice by what its children must be."""
    if aim.branch is None or aim.spot is None or not aim.branch.children:
        return None
    inner = checks.whole((), deltas.children(aim.branch, aim.spot.owner, aim.branch.name))
    if inner is None:
        return None
    check = inner

    def test(item: Any, run: Run) -> bool:
        session = cast(ProfileRun, run).session
        return any(
            type(each) is dict and session.quietly(check, each, run.environment)
            for each in get(item, run)
        )

    return test


def _exists(deltas: Deltas, aim: Aim, path: tuple[Step, ...]) -> Test | None:
    get = reach(deltas, path)
    if aim.branch is None:
        return None
    if aim.branch.max == 0:
        return lambda item, run: not get(item, run)
    if aim.branch.min:
        return lambda item, run: bool(get(item, run))
    return None


def _type(deltas: Deltas, aim: Aim, path: tuple[Step, ...]) -> Test | None:
    if aim.branch is None:
        return None
    if aim.resolved:
        return _target_types(deltas, aim.branch, path)
    codes = {type_code(each) for each in aim.branch.types}
    if not codes:
        return None
    spots = aim.spots or ((aim.spot,) if aim.spot is not None and not path else ())
    if not spots:
        return None  # nobody knows what may be there
    is_a = deltas.shelf.is_a
    if is_a(spots[0].type, "Resource"):
        return _resource_types(deltas, codes, path)
    if len(spots) == 1 and any(is_a(spots[0].type, code) for code in codes):
        codes.add(spots[0].type)
    if not path:
        own = spots[0].type in codes
        return lambda item, run: own
    return _keyed(deltas, frozenset(each.key for each in spots if each.type in codes), path)


def _resource_types(deltas: Deltas, codes: set[str], path: tuple[Step, ...]) -> Test:
    get = reach(deltas, path)
    is_a = deltas.shelf.is_a

    def test(item: Any, run: Run) -> bool:
        for each in get(item, run):
            own = each.get("resourceType") if type(each) is dict else None
            if type(own) is str and any(is_a(own, code) for code in codes):
                return True
        return False

    return test


def _keyed(deltas: Deltas, keys: frozenset[str], path: tuple[Step, ...]) -> Test:
    """A data type is told by the property that its value has, be it only an extension of it."""
    *before, _ = [each for each in path if each.kind != "type"]
    holders = reach(deltas, before)
    none_in = frozenset((*keys, *(f"_{key}" for key in keys))).isdisjoint

    def test(item: Any, run: Run) -> bool:
        return any(type(each) is dict and not none_in(each) for each in holders(item, run))

    return test


def _target_types(deltas: Deltas, branch: Branch, path: tuple[Step, ...]) -> Test:
    """Of a reference: by what it leads to, or by what its text says that it leads to."""
    get = reach(deltas, path[: path.index(Step("resolve", ""))])
    canonicals = deltas.targets(branch)
    found: frozenset[str] | None = None

    def test(item: Any, run: Run) -> bool:
        nonlocal found
        if found is None:
            found = frozenset(_types(deltas, canonicals))
        for each in get(item, run):
            reference = each.get("reference") if type(each) is dict else None
            session = cast(ProfileRun, run).session
            inner = session.found(reference, run.environment) if type(reference) is str else None
            own = inner.get("resourceType") if inner else None
            if own is None and type(each) is dict:
                own = target(each, run.environment)
            if type(own) is str and (own in found or "Resource" in found):
                return True
        return False

    return test


def _types(deltas: Deltas, canonicals: Sequence[str]) -> Iterator[str]:
    for each in canonicals:
        profile = deltas.shelf.compiled(each)
        if profile is not None:
            yield profile.type
        elif each.startswith(CORE):
            yield each.removeprefix(CORE).partition("|")[0]


def _profile(deltas: Deltas, aim: Aim, path: tuple[Step, ...]) -> Test | None:
    if aim.branch is None:
        return None
    codes = {type_code(each) for each in aim.branch.types}
    if aim.resolved:
        profiles = deltas.targets(aim.branch)
    else:
        profiles = tuple(
            p for code in sorted(codes) for p in deltas.profiles(aim.branch, code)
        ) or tuple(CORE + code for code in sorted(codes))
    get = reach(deltas, path)
    if not profiles:
        return None

    def test(item: Any, run: Run) -> bool:
        return any(
            type(each) is dict and conforms_to_any(each, profiles, run) for each in get(item, run)
        )

    return test


_TESTS = {
    "value": _value,
    "pattern": _value,
    "exists": _exists,
    "type": _type,
    "profile": _profile,
}
