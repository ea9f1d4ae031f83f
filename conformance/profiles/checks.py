"""The closures that a profile is made of: of objects (Whole) and of single values (Member). None
of them trusts the shape of what it looks at, since the base only reports what is wrong with it.

https://hl7.org/fhir/R4/profiling.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from conformance.fhirpath import Invariant
from conformance.patience import look
from conformance.profiles.rules import too_costly
from conformance.validator.rules import Member, Rule, Run, Whole


class One(NamedTuple):
    """Checks a single value, if it is there."""

    key: str
    member: Member


class Each(NamedTuple):
    """Checks every item of an array."""

    key: str
    member: Member


class Needed(NamedTuple):
    """The property, or its partner, must be there."""

    key: str
    partner: str
    rule: Rule


# What an object is checked for: the frequent kinds as data, so that one loop does them.
Part: TypeAlias = Whole | One | Each | Needed


def whole(members: Sequence[Member], parts: Sequence[Part]) -> Whole | None:
    """All of them for one object; None if there is nothing to check."""
    if not members and not parts:
        return None
    ones = tuple(each for each in parts if isinstance(each, One))
    arrays = tuple(each for each in parts if isinstance(each, Each))
    needed = tuple(each for each in parts if isinstance(each, Needed))
    others = tuple(each for each in parts if not isinstance(each, One | Each | Needed))
    asked = tuple(members)
    if not (arrays or others or asked):
        return _of_single(needed, ones)

    def check(value: dict[str, Any], run: Run) -> None:
        for key, partner, rule in needed:
            if key not in value and partner not in value:
                run.add(value, None, rule)
        for key, member in ones:
            item = value.get(key)
            if item is not None:
                member(item, value, key, run)
        for key, member in arrays:
            items = value.get(key)
            if type(items) is list:
                for index, item in enumerate(items):
                    if item is not None:
                        member(item, items, index, run)
        for part in others:
            part(value, run)
        for member in asked:
            member(value, value, None, run)

    return check


def _of_single(needed: tuple[Needed, ...], ones: tuple[One, ...]) -> Whole:
    """The frequent case: single values alone."""

    def check(value: dict[str, Any], run: Run) -> None:
        for key, partner, rule in needed:
            if key not in value and partner not in value:
                run.add(value, None, rule)
        for key, member in ones:
            item = value.get(key)
            if item is not None:
                member(item, value, key, run)

    return check


def together(members: Sequence[Member]) -> Member | None:
    """All of them for one value; None if there are none."""
    if len(members) < 2:
        return members[0] if members else None
    asked = tuple(members)

    def all_of(value: Any, holder: Any, at: Any, run: Run) -> None:
        for member in asked:
            member(value, holder, at, run)

    return all_of


def inner(check: Whole) -> Member:
    """An object's own check, where it is a value."""

    def member(value: Any, holder: Any, at: Any, run: Run) -> None:
        if type(value) is dict:
            check(value, run)

    return member


def held(guard: frozenset[str] | None, holds: Invariant, rule: Rule) -> Member:
    """An invariant of a value; `guard` as in the base."""
    error = rule.severity == "error"
    unchecked = too_costly(rule)

    def member(value: Any, holder: Any, at: Any, run: Run) -> None:
        if value is None or not (error or run.advice is not None):
            return
        if guard is not None and (type(value) is not dict or guard.isdisjoint(value)):
            return
        look()
        found = holds(value, run.environment)
        if not found:
            run.add(holder, at, unchecked if found is None else rule)

    return member


# Of an object's property


def absent(keys: Sequence[str], rule: Rule) -> Whole:
    """None of the properties may be there."""
    if len(keys) == 1:
        (key,) = keys
        partner = f"_{key}"

        def absent_one(value: dict[str, Any], run: Run) -> None:
            if key in value or partner in value:
                run.add(value, key if key in value else partner, rule)

        return absent_one
    free = frozenset((*keys, *(f"_{key}" for key in keys))).isdisjoint

    def absent_all(value: dict[str, Any], run: Run) -> None:
        if not free(value):
            for key in value:
                if not free((key,)):
                    run.add(value, key, rule)
                    return

    return absent_all


def present(keys: Sequence[str], rule: Rule) -> Part:
    """One of the properties must be there."""
    if len(keys) == 1:
        return Needed(keys[0], f"_{keys[0]}", rule)
    free = frozenset((*keys, *(f"_{key}" for key in keys))).isdisjoint

    def present_any(value: dict[str, Any], run: Run) -> None:
        if free(value):
            run.add(value, None, rule)

    return present_any


def counted(key: str, least: int, most: int | None, low: Rule | None, high: Rule | None) -> Whole:
    """So many items of an array, no fewer and no more."""
    partner = f"_{key}"

    def check(value: dict[str, Any], run: Run) -> None:
        items = value.get(key)
        count = len(items) if type(items) is list else 0
        if partner in value and type(value[partner]) is list:
            count = max(count, len(value[partner]))
        if count < least and low is not None:
            run.add(value, None, low)
        elif most is not None and count > most and high is not None:
            run.add(value, key, high)

    return check


def partners(key: str, check: Whole) -> Whole:
    """The `_` partner of a primitive, or of each of its items."""
    partner = f"_{key}"

    def check_partners(value: dict[str, Any], run: Run) -> None:
        found = value.get(partner)
        if found is None:
            if key in value:
                check({}, run)
        elif type(found) is list:
            for item in found:
                if type(item) is dict:
                    check(item, run)
        elif type(found) is dict:
            check(found, run)

    return check_partners
