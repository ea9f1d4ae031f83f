"""What of the store a caller sees: current resources, versions of old, and what of them is cut.

A resource that the caller may not see is like one that does not exist.
https://hl7.org/fhir/R4/security.html#authorization
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from conformance.json import encode, parse
from fhir_server import access
from fhir_server.audit import balp
from fhir_server.audit.apart import whole
from fhir_server.audit.reported import REPORTED
from fhir_server.audit.search import count_events
from fhir_server.core import Step
from fhir_server.interaction import Resource
from fhir_server.search.references import literal
from fhir_server.spool import without_data
from fhir_server.storage.store import (
    EVENTS,
    EVERYTHING,
    NOTHING,
    All,
    AnyOf,
    Entry,
    Match,
    Not,
    Query,
    ReferredBy,
    RefersTo,
    TooCostly,
    Version,
    own_entries,
    satisfies,
)

Name = tuple[str, str]  # type and id


async def current(step: Step, type: str, id: str, letter: str) -> Version | None:
    """The current version if the caller may reach it; a deleted one if it could reach the last
    version before."""
    seen = access.visible(step.core, step.grant, type, letter)
    if seen is EVERYTHING:
        return await step.tx.get(type, id)
    # Where no owner tells, the stored entries are asked before a body is read: what is hidden is to
    # take no longer than what is absent, however large it is.
    if not access.owners_tell(step.core, step.grant, type, letter):
        if await _some(step, type, [id], seen):
            return await step.tx.get(type, id)
        if type == EVENTS or await _some(step, type, [id], EVERYTHING):
            return None
    found = await step.tx.get(type, id)
    if found is None:
        return None
    sees = _then if found.deleted else _lives
    return found if await sees(step, found, seen, letter) else None


async def _lives(step: Step, version: Version, seen: Query, letter: str) -> bool:
    """Whether a query holds for a live resource as it is."""
    settled = access.settled(step.core, step.grant, version.type, letter, version.owner)
    return await _some(step, version.type, [version.id], seen) if settled is None else settled


async def _holds(step: Step, version: Version, seen: Query, letter: str) -> bool:
    """Whether a query, that of `visible`, holds for a version that is no deletion, its entries
    extracted anew from its body."""
    settled = access.settled(step.core, step.grant, version.type, letter, version.owner)
    if settled is not None:
        return settled
    return await holds(step, version, step.core.index.entries(parse(version.body)), seen)


async def version(step: Step, type: str, id: str, number: int, letter: str) -> Version | None:
    """One version, if the caller may reach the resource as it is and as it was then."""
    seen = access.visible(step.core, step.grant, type, letter)
    if seen is EVERYTHING:
        return await step.tx.get(type, id, number)
    now = await current(step, type, id, letter)
    asked = await step.tx.get(type, id, number) if now else None
    if asked is None or now is None:
        return None
    if asked.number == now.number or await _then(step, asked, seen, letter):
        return asked
    return None


class Past:
    """The history that a caller sees; remembers which resources it may see now."""

    def __init__(self, step: Step, letter: str) -> None:
        self._step, self._letter = step, letter
        self._now: dict[Name, Version | None] = {}
        self._deadline = step.core.clock() + int(step.core.limits.search_seconds * 1_000_000)

    async def shown(self, versions: Sequence[Version]) -> list[Version]:
        """Those that may be seen. TooCostly when the walk has taken too long; others have their
        turn meanwhile."""
        await asyncio.sleep(0)
        if self._step.core.clock() > self._deadline:
            raise TooCostly
        return [each for each in versions if await self._shows(each)]

    async def _shows(self, version: Version) -> bool:
        if version.type == EVENTS:
            return False
        seen = access.visible(self._step.core, self._step.grant, version.type, self._letter)
        if seen is EVERYTHING or seen == NOTHING:
            return seen is EVERYTHING
        key = (version.type, version.id)
        if key not in self._now:
            self._now[key] = await current(self._step, *key, self._letter)
        now = self._now[key]
        if now is None:
            return False
        if version.number == now.number:
            return True
        return await _then(self._step, version, seen, self._letter)


async def _then(step: Step, version: Version, seen: Query, letter: str) -> bool:
    """Whether a query held for a version as it was, its entries extracted anew from its body; for
    a deletion, for the last version before it."""
    told: Version | None = version
    if version.deleted:
        told = await step.tx.get(version.type, version.id, version.number - 1)
    return told is not None and not told.deleted and await _holds(step, told, seen, letter)


async def holds(step: Step, version: Version, entries: Sequence[Entry], query: Query) -> bool:
    """Whether a query holds for a version with these entries, stored or not. References are
    followed in the store as it is now."""
    leads: dict[tuple[str, str | None], list[str]] = {}
    for entry in entries:
        if entry.shape == "link":
            leads.setdefault((entry.param, entry.system), []).append(entry.code or "")
    answers: dict[Query, bool] = {}
    for node in _hops(query):
        ids = leads.get((node.param, node.type), []) if isinstance(node, RefersTo) else []
        answers[node] = bool(ids) and await _some(step, node.type, ids, node.query)
    return satisfies(query, (*entries, *own_entries(version)), answers.__getitem__)


def _hops(query: Query) -> Iterator[RefersTo | ReferredBy]:
    """The nodes of a query that are answered by other resources."""
    match query:
        case All() | AnyOf():
            for each in query.queries:
                yield from _hops(each)
        case Not():
            yield from _hops(query.query)
        case RefersTo() | ReferredBy():
            yield query
        case Match():
            pass


async def _some(step: Step, type: str, ids: Sequence[str], query: Query) -> bool:
    asked = access.with_ids(ids) if query is EVERYTHING else All((access.with_ids(ids), query))
    if type == EVENTS:
        return await count_events(step, asked) > 0
    return await step.tx.count(type, asked, 1) > 0


# --- which elements ------------------------------------------------------------------------------


_ALTERED = frozenset({"Binary", *access.CONCEALED})


async def reveal_one(step: Step, version: Version) -> Version:
    """One version as it leaves."""
    if version.apart is None and version.type not in _ALTERED:
        return version
    return (await reveal(step, (version,)))[0]


async def reveal(step: Step, versions: Sequence[Version]) -> Sequence[Version]:
    """The versions as they leave: an AuditEvent with what is kept apart of it; of a Provenance or
    an AuditEvent, for a caller who is limited to patients, the references are cut that lead to what
    it may not see; a Binary in pieces is without its data."""
    if _ALTERED.isdisjoint([each.type for each in versions]):  # what is apart is an event's
        return versions
    if any(each.type == "Binary" for each in versions):
        versions = [replace(each, body=without_data(each.body)) for each in versions]
    if any(each.apart for each in versions):
        versions = [replace(each, body=whole(each), apart=None) for each in versions]
    if access.limit(step.grant) is None:
        return versions
    cut = {each.type for each in versions} & access.CONCEALED.keys()
    if not cut:
        return versions
    bodies = [parse(each.body) if each.type in cut and each.body else None for each in versions]
    there = await known(step, [n for body in bodies if body for n in _named(step, body)])
    made = []
    for each, body in zip(versions, bodies, strict=True):
        left = _left(step, body, there) if body else body
        made.append(each if left is body else replace(each, body=encode(left)))
    return made


async def hides(step: Step, resource: Resource) -> bool:
    """Whether something of a resource would be cut for this caller."""
    if resource["resourceType"] not in access.CONCEALED or access.limit(step.grant) is None:
        return False
    there = await known(step, list(_named(step, resource)))
    return _left(step, resource, there) is not resource


async def known(step: Step, names: Iterable[Name]) -> set[Name]:
    """Those of these resources that the caller may know to be there."""
    return {name for name in dict.fromkeys(names) if await _is_known(step, *name)}


async def _is_known(step: Step, type: str, id: str) -> bool:
    seen = access.shown(step.core, step.grant, type)
    version = await step.tx.get(type, id) if seen != NOTHING else None
    if version is None or version.deleted or seen is EVERYTHING:
        return version is not None and not version.deleted
    told = [access.settled(step.core, step.grant, type, letter, version.owner) for letter in "rs"]
    if True in told or None not in told:
        return True in told
    return await _some(step, type, [id], seen)


def _named(step: Step, resource: Resource) -> Iterator[Name]:
    """What the elements that may be cut name."""
    for element, inner in access.CONCEALED[resource["resourceType"]].items():
        for each in resource.get(element, ()):
            name = _name(step, each, inner)
            if name is not None:
                yield name


def _name(step: Step, element: dict[str, Any], inner: str | None) -> Name | None:
    reference = element if inner is None else element.get(inner, {})
    core = step.core
    return literal(reference.get("reference") or "", core.base_url, core.definitions.types)


def _left(step: Step, resource: Resource, there: set[Name]) -> Resource:
    """A copy without what is hidden, nor what was said or signed of the whole; itself when nothing
    is."""
    made = resource
    for element, inner in access.CONCEALED[resource["resourceType"]].items():
        every = resource.get(element, [])
        own = element == "entity" and _is_ours(resource)
        parts = [_part(step, each, inner, there, own) for each in every]
        if all(part is each for part, each in zip(parts, every, strict=True)):
            continue
        made = {n: v for n, v in made.items() if n not in ("text", "signature", element)}
        if kept := [each for each in parts if each is not None]:
            made[element] = kept
    return made


def _is_ours(resource: Resource) -> bool:
    """Whether it is an event that this server saw happen, and no other system tells of."""
    tags = resource.get("meta", {}).get("tag", ())
    return resource["resourceType"] == EVENTS and REPORTED not in tags


def _part(
    step: Step, element: dict[str, Any], inner: str | None, there: set[Name], own: bool
) -> dict[str, Any] | None:
    """What is left of an element that may be cut: itself, a copy, or nothing. What an event of ours
    (`own`) says that was asked for keeps the type and the names of parameters, and no value."""
    if _name(step, element, inner) in there:
        return element
    if not own or inner is None or "reference" in element.get(inner, {}):
        return None
    if element.get("type") == _REQUEST and element.keys() == {"type", inner}:
        return element
    asked = element.get("description", "")
    if element.keys() <= _QUERY and asked.partition("?")[0] in step.core.definitions.types:
        return {n: v for n, v in element.items() if n != "query"} if "query" in element else element
    return None


_REQUEST = {"system": balp.REQUEST_ID[0], "code": balp.REQUEST_ID[1]}
_QUERY = frozenset({"type", "role", "description", "query", "_query"})  # of our own events
