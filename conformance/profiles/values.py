"""What a profile asks of one value: literals, limits, bindings, targets and profiles of its type.

https://hl7.org/fhir/R4/elementdefinition.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from conformance.fhirpath import Environment
from conformance.profiles import literals as literal
from conformance.profiles.rules import Says
from conformance.profiles.run import Asked, Bound, ProfileRun, Shelf
from conformance.profiles.tree import CORE, Branch
from conformance.validator.references import target
from conformance.validator.rules import Member, Rule, Run

# Days of the units of time.
_DAYS = {"a": 365.25, "mo": 30.4375, "wk": 7.0, "d": 1.0, "h": 1 / 24, "min": 1 / 1440}


def literals(branch: Branch, path: str, says: Says, general: Branch | None) -> Iterator[Member]:
    """Fixed value, pattern, length and range of an element."""
    fixed, pattern = branch.value("fixed"), branch.value("pattern")
    if fixed is not None and (general is None or general.value("fixed") != fixed):
        rule = says.fixed(path, literal.shown(fixed))
        yield _must(literal.equals(fixed), rule)
    if pattern is not None and (general is None or general.value("pattern") != pattern):
        rule = says.pattern(path, literal.shown(pattern))
        yield _must(literal.holds(pattern), rule)
    if general is None or general.element.get("maxLength") != branch.element.get("maxLength"):
        yield from lengths(branch, path, says)
    yield from _ranges(branch, path, says)


def lengths(branch: Branch, path: str, says: Says) -> Iterator[Member]:
    """The most characters of an element."""
    most = branch.element.get("maxLength")
    if type(most) is int:
        limit = most
        yield _must(
            lambda value: type(value) is not str or len(value) <= limit, says.too_long(path, limit)
        )


def _ranges(branch: Branch, path: str, says: Says) -> Iterator[Member]:
    low, high = branch.value("minValue"), branch.value("maxValue")
    if low is not None:
        at_least: Callable[[Any], bool] = lambda value: (  # noqa: E731
            _compare(value, _since(value, low, -1)) != -1
        )
        yield _must(at_least, says.beyond(path, f"at least {literal.shown(low)}"))
    if high is not None:
        at_most: Callable[[Any], bool] = lambda value: (  # noqa: E731
            _compare(value, _since(value, high, 1)) != 1
        )
        yield _must(at_most, says.beyond(path, f"at most {literal.shown(high)}"))


def _since(value: Any, limit: Any, sign: int) -> Any:
    """The limit of a date: a duration counts from now, back to the least and on to the greatest."""
    if type(value) is not str or type(limit) is not dict:
        return limit
    days, number = _DAYS.get(str(limit.get("code"))), limit.get("value")
    if days is None or not isinstance(number, int | Decimal):
        return limit
    try:
        moment = datetime.now(UTC) + timedelta(days=sign * days * float(number))
    except OverflowError:
        return limit
    return moment.isoformat()


def _compare(value: Any, limit: Any) -> int:
    """-1, 0 or 1; 0 for what cannot be compared. Dates compare at the precision of both."""
    if type(value) is dict and type(limit) is dict:
        same = value.get("system") == limit.get("system") and value.get("code") == limit.get("code")
        return _compare(value.get("value"), limit.get("value")) if same else 0
    if type(value) is str and type(limit) is str:
        length = min(len(value), len(limit))
        value, limit = value[:length], limit[:length]
        return int(value > limit) - int(value < limit)
    if type(value) in (int, Decimal) and type(limit) in (int, Decimal):
        return int(value > limit) - int(value < limit)
    return 0


def _must(test: Callable[[Any], bool], rule: Rule) -> Member:
    def member(value: Any, holder: Any, at: Any, run: Run) -> None:
        if not test(value):
            run.add(holder, at, rule)

    return member


def advised(rule: Rule) -> Member:
    """Says something wherever the element is."""

    def member(value: Any, holder: Any, at: Any, run: Run) -> None:
        run.add(holder, at, rule)

    return member


def bound(binding: Bound) -> Member:
    """Notes a value whose binding is asked about at the end."""
    required = binding.required

    def member(value: Any, holder: Any, at: Any, run: Run) -> None:
        if required or run.advice is not None:
            cast(ProfileRun, run).asked.append(Asked(value, holder, at, binding))

    return member


_HELD = 10  # steps of a validation that it takes to hold a value to a profile


def resource_type(path: str, types: tuple[str, ...], says: Says) -> Member:
    """The value is a resource of one of these types."""
    rule = says.other_type(path, types)
    known = frozenset(types)
    return _must(lambda value: type(value) is dict and value.get("resourceType") in known, rule)


def profiled(path: str, profiles: tuple[str, ...], shelf: Shelf, says: Says) -> Member:
    """The value conforms to a profile, whose own findings are told; of several, to at least one."""
    if len(profiles) > 1:
        return _any_profile(path, profiles, says)
    (canonical,) = profiles
    unknown = says.unknown_profile(path, canonical)

    def member(value: Any, holder: Any, at: Any, run: Run) -> None:
        cast(ProfileRun, run).session.spend(_HELD)
        profile = shelf.compiled(canonical)
        if profile is None:
            run.add(holder, at, unknown)
        elif profile.check is not None and type(value) is dict:
            own = "resourceType" in value
            profile.check(value, cast(ProfileRun, run).inside(value) if own else run)

    return member


def _any_profile(path: str, profiles: tuple[str, ...], says: Says) -> Member:
    rule = says.not_conforming(path, profiles)

    def member(value: Any, holder: Any, at: Any, run: Run) -> None:
        if type(value) is dict and not conforms_to_any(value, profiles, run):
            run.add(holder, at, rule)

    return member


def conforms_to_any(value: dict[str, Any], profiles: tuple[str, ...], run: Run) -> bool:
    """Whether a value conforms to one of the profiles, or to one that nobody knows."""
    session = cast(ProfileRun, run).session
    return any(session.conforms(value, each, run.environment) is not False for each in profiles)


def targets(path: str, canonicals: tuple[str, ...], shelf: Shelf, says: Says) -> Member:
    """A Reference leads to what conforms to one of these; where it cannot be followed, only the
    type of what it leads to is looked at."""
    narrow = tuple(each for each in canonicals if not _is_type(each))
    types: frozenset[str] | None = None
    rule_target: Rule | None = None
    mismatch = says.not_conforming(path, canonicals)

    def prepare() -> frozenset[str]:
        nonlocal types, rule_target
        found = [_type_of(each, shelf) for each in canonicals]
        known = sorted({each for each in found if each is not None})
        types = frozenset() if None in found or "Resource" in known else frozenset(known)
        rule_target = says.target(path, known)
        return types

    def member(value: Any, holder: Any, at: Any, run: Run) -> None:
        allowed = prepare() if types is None else types
        if type(value) is not dict:
            return
        reference = value.get("reference")
        if narrow and type(reference) is str:
            found = cast(ProfileRun, run).session.found(reference, run.environment)
            if found is not None:
                if not conforms_to_any(found, canonicals, run):
                    run.add(holder, at, mismatch)
                return
        if not allowed or (type(reference) is str and reference.partition("/")[0] in allowed):
            return
        type_ = _target_type(value, run.environment)
        if type_ is not None and type_ not in allowed and rule_target is not None:
            run.add(holder, at, rule_target)

    return member


def _target_type(value: dict[str, Any], environment: Environment) -> str | None:
    return target(value, environment)


def _is_type(canonical: str) -> bool:
    """Whether a canonical is that of a resource type itself: its last step begins in upper case
    and has no other."""
    url = canonical.partition("|")[0]
    name = url.removeprefix(CORE)
    return name != url and name[:1].isupper() and name.isalpha()


def _type_of(canonical: str, shelf: Shelf) -> str | None:
    url = canonical.partition("|")[0]
    if _is_type(canonical):
        return url.removeprefix(CORE)
    profile = shelf.compiled(canonical)
    return None if profile is None else profile.type
