"""What a server should answer to a request of chance.py: the plain meaning of the request over what
plain.py lets the caller see. A search over a store is, for the caller, a search over a smaller one.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fhir_server.search.parameters import Parameter
from smart_auth.grant import Grant
from tests.search.world import World
from tests.security.chance import TYPES, Asked, Hospital, Include, Told
from tests.security.clinic import core
from tests.security.plain import Name, Resource, may, named, seen_by, speaks_of

ROUNDS = 5


class Refused(Exception):
    """403: known from the grant and the request alone."""


def versions(grant: Grant, hospital: Hospital, letter: str, of: Iterable[Told]) -> list[Told]:
    """What a history shows of these versions: their resource must be the caller's now, or when it
    was deleted, and they as they were."""
    return [each for each in of if _shown(grant, hospital, letter, each)]


def _shown(grant: Grant, hospital: Hospital, letter: str, told: Told) -> bool:
    every = hospital.versions(told.name)
    last = every[-1].resource or every[-2].resource
    then = told.resource or every[told.number - 2].resource
    return all(each is not None and may(grant, letter, each, hospital.now) for each in (last, then))


def matches(grant: Grant, hospital: Hospital, asked: Asked) -> list[Name]:
    """What a search finds, in no order. Refused."""
    for type in (asked.type, *asked.types):
        _require(grant, type)
    for include in asked.includes:
        _require_include(grant, include)
    world = _world(grant, hospital)
    url = f"{asked.type}?{asked.query}"
    found = [(asked.type, id) for id in world.search(url)]
    if asked.compartment is None:
        return found
    return [name for name in found if _inside(world, name, asked.compartment)]


def included(grant: Grant, hospital: Hospital, asked: Asked, found: Iterable[Name]) -> set[Name]:
    """What the includes of a search add to its matches."""
    world = _world(grant, hospital)
    known, fresh = set(found), set(found)
    added: set[Name] = set()
    includes = asked.includes
    for _ in range(ROUNDS):
        new = {
            name
            for include in includes
            for name in _follow(world, include, fresh)
            if name not in known and speaks_of(grant, name[0], "s")
        }
        added |= new
        known |= new
        fresh, includes = new, tuple(each for each in includes if each.iterate)
    return added


def _world(grant: Grant, hospital: Hospital) -> World:
    return World(seen_by(grant, "s", hospital.now).values(), core().index)


def _require(grant: Grant, type: str) -> None:
    if not speaks_of(grant, type, "s"):
        raise Refused(type)


def _require_include(grant: Grant, include: Include) -> None:
    if include.param == "*" or include.reverse:
        return
    (parameter,) = _parameters(include.source, include.param)
    if not any(speaks_of(grant, target, "s") for target in parameter.targets):
        raise Refused(include.param)


def _parameters(type: str, param: str) -> list[Parameter]:
    known = core().index.parameters(type).values()
    return [each for each in known if each.kind == "reference" and param in (each.code, "*")]


def _links(world: World, source: Name, param: str) -> Iterator[Name]:
    for parameter in _parameters(source[0], param):
        for entry in world.resources[source]:
            if entry.shape == "link" and entry.param in parameter.keys:
                target = (entry.system or "", entry.code or "")
                if target[0] in parameter.targets:
                    yield target


def _follow(world: World, include: Include, fresh: set[Name]) -> Iterator[Name]:
    for source in world.resources:
        if include.source not in (source[0], "*"):
            continue
        targets = set(_links(world, source, include.param))
        if include.reverse and targets & fresh:
            yield source
        elif not include.reverse and source in fresh:
            yield from targets & world.resources.keys()


_MEMBERS = {
    ("Patient", "Observation"): ("subject", "performer"),
    ("Patient", "Condition"): ("patient", "asserter"),
    ("Patient", "Provenance"): ("patient",),
    ("Patient", "List"): ("subject", "source"),
    ("Practitioner", "Observation"): ("performer",),
    ("Encounter", "Observation"): ("encounter",),
}


def _inside(world: World, name: Name, compartment: str) -> bool:
    of = named({"reference": compartment}) or ("", "")
    params = _MEMBERS[of[0], name[0]]
    return any(of in _links(world, name, param) for param in params)


def system(grant: Grant, hospital: Hospital) -> list[Name]:
    """What a search on everything finds. Refused."""
    if not speaks_of(grant, "*", "s"):
        raise Refused("*")
    return list(seen_by(grant, "s", hospital.now))


def one(grant: Grant, hospital: Hospital, name: Name) -> tuple[int, Resource | None]:
    """Status of a read, and what is read. `left_of` is for whoever compares bodies."""
    if not speaks_of(grant, name[0], "r") and not _is_own(grant, name):
        return 403, None
    shown = versions(grant, hospital, "r", hospital.versions(name)[-1:])
    if not shown:
        return 404, None
    return (200, shown[0].resource) if shown[0].resource else (410, None)


def version(grant: Grant, hospital: Hospital, name: Name, number: int) -> int:
    """Status of a vread."""
    if not speaks_of(grant, name[0], "r") and not _is_own(grant, name):
        return 403
    asked = [each for each in hospital.versions(name) if each.number == number]
    shown = versions(grant, hospital, "r", asked)
    return 404 if not shown else 200 if shown[0].resource else 410


def history(
    grant: Grant, hospital: Hospital, type: str | None, id: str | None = None
) -> list[tuple[Name, int]] | int:
    """Names and numbers of a history, newest first; or the status of a refusal."""
    letter = "r" if id else "s"
    own = id is not None and _is_own(grant, (type or "", id))
    if not speaks_of(grant, type or "*", letter) and not own:
        return 403
    of = [t for t in hospital.told if type in (None, t.name[0]) and id in (None, t.name[1])]
    if id is not None and not versions(grant, hospital, letter, of[-1:]):
        return 404
    return [(t.name, t.number) for t in reversed(versions(grant, hospital, letter, of))]


def _is_own(grant: Grant, name: Name) -> bool:
    return grant.identity and grant.agent == "/".join(name)


__all__ = ["TYPES", "Refused", "history", "included", "matches", "one", "system", "version"]
