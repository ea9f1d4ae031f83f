"""What an erasure would do to what others keep, before it is done.

https://gdpr-info.eu/art-17-gdpr/, https://gdpr-info.eu/art-5-gdpr/ (d: accuracy)
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from conformance.json import parse
from fhir_server.core import Core
from fhir_server.erasure import holds
from fhir_server.erasure.cut import Cut
from fhir_server.erasure.patient import PATIENT, Found, look
from fhir_server.erasure.ridding import BESIDE, VERSIONS, disposable, unmentioned, versions
from fhir_server.erasure.subjects import Name, sole
from fhir_server.storage.store import Store, Transaction, Unread, Version


class Foreseen(NamedTuple):
    """Resources of others by type that would have a new version without the patient, that would be
    removed; how many versions would be written anew in place."""

    cut: Counter[str]
    gone: Counter[str]
    redacted: int


async def foresee(store: Store, core: Core, id: str) -> Foreseen:
    """Look at everything there is, as the erasure of a patient does. TooCostly, Unavailable."""

    async def known(tx: Transaction) -> tuple[Found, Cut]:
        found = await look(tx, core, id)
        identifiers = await sole(tx, core, found.identifiers, id)
        return found, Cut({*found.names, (PATIENT, id)}, identifiers, core)

    found, cut = await store.transaction(known)
    removed = await _files(store, core, found)
    while True:
        others = await _others(store, cut, removed)
        more = {each for each in others.gone if each[0] not in BESIDE} - cut.names
        removed |= others.gone
        if not more:
            break
        cut = cut.extended(more)
    gone = Counter(type for type, _ in removed)
    return Foreseen(Counter(type for type, _ in others.cut), gone, others.redacted)


async def _files(store: Store, core: Core, found: Found) -> set[Name]:
    names = await unmentioned(store, core, found.files, found.names)
    return {
        each
        for each in names
        if await store.transaction(lambda tx, each=each: disposable(tx, each))  # type: ignore[misc]
    }


class _Others(NamedTuple):
    cut: set[Name]
    gone: set[Name]
    redacted: int


async def _others(store: Store, cut: Cut, but: set[Name]) -> _Others:
    """What would be done to those that name what a cut looks for."""
    touched = {
        (each.type, each.id)
        async for each in versions(store)
        if isinstance(each, Version) and _touched(cut, each)
    }
    made, gone, redacted = set[Name](), set[Name](), 0
    for name in sorted(touched - cut.names - but):
        done = await store.transaction(lambda tx, name=name: _one(tx, cut, name))  # type: ignore[misc]
        if done is None:
            gone.add(name)
            continue
        changed, count = done
        redacted += count
        if changed:
            made.add(name)
    return _Others(made, gone, redacted)


async def _one(tx: Transaction, cut: Cut, name: Name) -> tuple[bool, int] | None:
    """Whether a resource would have a new version, and how many others would be written anew; None
    when it would be removed."""
    if await holds.forbidden(tx, name, await holds.owners(tx)):
        return False, 0
    past = await tx.survey(*name, VERSIONS)
    changed: list[Version | Unread] = []
    last = next((each for each in past if isinstance(each, Version) and each.body), None)
    for each in past:
        if not isinstance(each, Version) or not _touched(cut, each):
            continue
        resource = parse(each.body)
        made = cut.without(resource)
        if made is None and each is last:
            return None
        if made is not resource:
            changed.append(each)
    return bool(changed) and changed[0] is past[0], len(changed)


def _touched(cut: Cut, version: Version) -> bool:
    return bool(version.body) and cut.touches(version.body)
