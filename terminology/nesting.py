"""The codes of an expansion below the nearest ones that they are beneath, in linear time: the
hierarchy is anybody's input, with circles and with many codes that are not listed.

https://hl7.org/fhir/R4/valueset-definitions.html#ValueSet.expansion.contains
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeAlias

from conformance.patience import look
from terminology.compose import Member
from terminology.provider import Provider

DEEPEST = 50  # levels of an answer; a deeper hierarchy is told flat from there

Key: TypeAlias = tuple[str, str]  # system and code
_Above: TypeAlias = dict[Key, Key | None]


def nested(flat: list[tuple[Member, dict[str, Any]]]) -> list[dict[str, Any]]:
    """The elements that are at the top, with the others inside them. A code that is beneath
    itself is at the top: it would never be seen otherwise."""
    made = {(member.system, member.concept.code): one for member, one in flat}
    above: _Above = dict.fromkeys(made)
    for provider, members in _by_provider(flat):
        above |= _nearest(provider, members, made)
        look()
    levels, top = _levels(above), []
    for key, one in made.items():
        parent = above[key]
        if parent is None or levels[key] is None or not (levels[key] or 0) % DEEPEST:
            top.append(one)
        else:
            made[parent].setdefault("contains", []).append(one)
    return top


def _by_provider(
    flat: Iterable[tuple[Member, Any]],
) -> Iterable[tuple[Provider, list[Key]]]:
    found: dict[int, tuple[Provider, list[Key]]] = {}
    for member, _ in flat:
        if member.nests and member.provider is not None:
            key = (member.system, member.concept.code)
            found.setdefault(id(member.provider), (member.provider, []))[1].append(key)
    return found.values()


def _nearest(provider: Provider, members: list[Key], made: Collection[Key]) -> _Above:
    """The nearest listed ancestor of each member; of several the one that the order of the parents
    gives first."""
    if not members:
        return {}
    system = members[0][0]
    parents = {code: tuple(provider.parents(code)) for _, code in members}
    near = _distances(provider, system, parents, made)

    def first(code: str) -> str | None:
        """The parent over which the way is shortest."""
        known = [each for each in parents[code] if each in near and each != code]
        return min(known, key=lambda each: near[each], default=None)

    over: dict[str, str] = {}  # of codes that are not listed: the nearest that is
    for code in sorted((each for each in near if near[each]), key=lambda each: near[each]):
        step = first(code)
        if step is not None:
            over[code] = step if not near[step] else over[step]
    found: _Above = {}
    for _, code in members:
        step = first(code)
        at = step if step is None or not near[step] else over[step]
        found[system, code] = None if at is None or at == code else (system, at)
    return found


def _distances(
    provider: Provider, system: str, parents: dict[str, tuple[str, ...]], made: Collection[Key]
) -> dict[str, int]:
    """How many steps it is from each ancestor to a listed one: 0 from those that are listed.
    `parents` is filled up with those of all that are not."""
    waiting = [each for several in list(parents.values()) for each in several]
    near: dict[str, int] = {}
    below: dict[str, list[str]] = {}
    while waiting:
        code = waiting.pop()
        if (system, code) in made:
            near[code] = 0
        elif code not in parents:
            parents[code] = tuple(provider.parents(code))
            waiting.extend(parents[code])
            for each in parents[code]:
                below.setdefault(each, []).append(code)
    reached = deque(near)
    while reached:
        code = reached.popleft()
        for each in below.get(code, ()):
            if each not in near:
                near[each] = near[code] + 1
                reached.append(each)
    return near


def _levels(above: Mapping[Key, Key | None]) -> dict[Key, int | None]:
    """How deep each is: 0 at the top, None where the way up runs in a circle."""
    found: dict[Key, int | None] = {}
    for start in above:
        way: dict[Key, None] = {}
        at: Key | None = start
        while at is not None and at not in found and at not in way:
            way[at] = None
            at = above[at]
        level = -1 if at is None else found.get(at)  # in the way itself: a circle
        for each in reversed(way):
            level = None if level is None else level + 1
            found[each] = level
    return found
