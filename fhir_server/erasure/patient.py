"""Erasing a patient: everything that is theirs goes in one transaction, with the notice and the
event that say so. What others keep of them is for `finishing.py`, which a record names.

https://gdpr-info.eu/art-17-gdpr/, https://hl7.org/fhir/R4/codesystem-iso-21089-lifecycle.html
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import msgspec

from conformance.json import encode, parse
from conformance.outcome import FhirError
from fhir_server import spool
from fhir_server.audit.balp import CUSTODIAN, PATIENT_ROLE, PERSON
from fhir_server.audit.event import SUCCESS, role
from fhir_server.audit.links import AGENT, ENTITY
from fhir_server.core import Core
from fhir_server.erasure import holds
from fhir_server.erasure.beyond import Beyond
from fhir_server.erasure.cut import identifiers_of
from fhir_server.erasure.subjects import about
from fhir_server.interaction import Resource
from fhir_server.log.tombstone import Tombstone
from fhir_server.search.place import link_entry
from fhir_server.storage.store import EVENTS, Entry, Event, Gone, Transaction, Version
from fhir_server.times import instant
from smart_auth.grant import Grant

SPACE = "erasing"  # kept from the removal until nothing of it is left to be done
PATIENT = "Patient"
LIFECYCLE = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
_OBJECT = "http://terminology.hl7.org/CodeSystem/dicom-audit-lifecycle"
_PIECES = re.compile(r"(?:.*/)?Binary/([A-Za-z0-9\-.]{1,64})", re.ASCII)
_VERSIONS = 1_000  # of one resource that are looked at in one step
_WORD = re.compile(r"\w{3,}")


class Erasing(msgspec.Struct, frozen=True):
    """An erasure under way. `names` are those that are no more, `files` Binaries that only the
    erased may have named; `keys` in hex; `at`: microseconds since 1970; `words`: those of names,
    identifiers and telephones; `left`: what is as it was because of a legal hold."""

    patient: str
    names: list[tuple[str, str]]
    identifiers: list[tuple[str | None, str]]
    files: list[str]
    keys: list[str]
    at: int
    basis: str
    words: list[str] = []
    left: list[tuple[str, str]] = []


class Found(NamedTuple):
    """What there is of a patient: their resources by type and how many versions these have, the
    identifiers and files that they name, and words that no basis may have."""

    names: list[tuple[str, str]]
    versions: int
    identifiers: Collection[tuple[str | None, str]]
    files: Collection[str]
    pieces: Collection[str]
    words: Collection[str]


class Begun(NamedTuple):
    erasing: Erasing
    gone: Gone
    found: Found
    beyond: int  # records besides, such as grants


async def begin(
    tx: Transaction, beyond: Beyond, id: str, basis: str, grant: Grant, found: Found
) -> Begun:
    """Remove everything that is a patient's, as it was found in the same transaction, and note what
    is left to be done. FhirError 404 where there is nothing, 409 under a hold."""
    if await holds.held(tx, id) is not None:
        text = "A legal hold is on this patient: release it first (`salus patient release`)"
        raise FhirError("conflict", text)
    if await hindered(tx, found):
        text = "A legal hold stands in the way: it is on data that would go with this patient's"
        raise FhirError("conflict", text)
    keys = [key for of, key in await tx.sealers() if of == f"{PATIENT}/{id}"]
    if not found.names and not keys:
        raise FhirError("not-found", "There is no such Patient")
    return await remove(tx, beyond, id, basis, grant, found)


async def hindered(tx: Transaction, found: Found) -> bool:
    """Whether a version that would go is data of a patient on hold."""
    owners = await holds.owners(tx)
    return any([await holds.forbidden(tx, name, owners) for name in found.names if owners])


async def remove(
    tx: Transaction, beyond: Beyond, id: str, basis: str, grant: Grant, found: Found
) -> Begun:
    """The same, whatever forbids it: what cannot be opened any more is nobody's evidence."""
    gone = await _removed(tx, id, found)
    for name in found.pieces:
        await spool.remove(tx, name)
    names = sorted({*gone.names, (PATIENT, id)})
    forgotten = await beyond.forget(tx, [f"{type}/{each}" for type, each in names])
    erasing = Erasing(
        id,
        names,
        sorted(found.identifiers, key=str),
        sorted(found.files),
        [key.hex() for key in gone.keys],
        tx.now,
        basis,
        sorted(found.words),
    )
    await tx.keep(SPACE, id, msgspec.json.encode(erasing))
    await tx.note(Tombstone.of("erased", gone.keys, gone.leaves, tx.now, basis).encode())
    await tx.record(event(id, basis, grant, tx.now))
    return Begun(erasing, gone, found, forgotten)


async def _removed(tx: Transaction, id: str, found: Found) -> Gone:
    """Remove what is a patient's own, and what is about them, but for what a hold is on."""
    gone = await tx.erase(f"{PATIENT}/{id}")
    names, leaves = set(gone.names), set(gone.leaves)
    held = await holds.owners(tx)
    for name in sorted(set(found.names) - names):
        if not await holds.forbidden(tx, name, held):
            leaves.update((await tx.purge(*name)).leaves)
            names.add(name)
    return Gone(tuple(sorted(names)), tuple(sorted(leaves)), gone.keys)


async def look(tx: Transaction, core: Core, id: str) -> Found:
    """What there is of a patient: what is theirs, and what is about them though others take part,
    so that it is sealed as nobody's. What cannot be opened any more says nothing. TooCostly."""
    names = sorted({*await tx.owned(f"{PATIENT}/{id}"), *await about(tx, core, id)})
    resources: list[Resource] = []
    versions = 0
    for type, each in names:
        past = await tx.survey(type, each, _VERSIONS)
        versions += len(past)
        resources += [parse(v.body) for v in past if isinstance(v, Version) and v.body]
    pieces = {found.name for each in resources if (found := spool.spooled_in(each)) is not None}
    return Found(
        names,
        versions,
        identifiers_of(resources),
        {file for each in resources for file in _files(each)} - {id for t, id in names},
        pieces - {""},
        frozenset(_words(resources)),
    )


def _files(value: Any) -> Iterator[str]:
    """The ids of Binaries that attachments name."""
    if isinstance(value, dict):
        url = value.get("url")
        if isinstance(url, str) and (named := _PIECES.fullmatch(url)):
            yield named[1]
        value = list(value.values())
    if isinstance(value, list):
        for child in value:
            yield from _files(child)


def _words(resources: list[Resource]) -> Iterator[str]:
    """The names and identifiers of the patient."""
    for each in resources:
        if each.get("resourceType") != PATIENT:
            continue
        for name in each.get("name", ()):
            texts = [name.get("family", ""), name.get("text", ""), *name.get("given", ())]
            yield from (word.casefold() for text in texts for word in _WORD.findall(str(text)))
        yield from (str(one.get("value", "")).casefold() for one in each.get("identifier", ()))
        yield from (str(one.get("value", "")).casefold() for one in each.get("telecom", ()))


def require_silent(basis: str, id: str, found: Found) -> None:
    """Refuse a basis that names the patient: it stands in the log in plain sight. FhirError 422."""
    said = basis.casefold()
    words = set(re.findall(r"[\w.\-]+", said)) | set(_WORD.findall(said))
    several = [each for each in found.words if len(each) > 4 and each in said]
    if id.casefold() in words or words & set(found.words) or several:
        text = "The basis is written down in plain sight: say it without naming the patient"
        raise FhirError("business-rule", text)


def event(id: str, basis: str, grant: Grant, at: int) -> Event:
    """The AuditEvent of the end of a patient's data."""
    stamp, owner = instant(at), f"{PATIENT}/{id}"
    who = {"reference": grant.agent} if grant.agent else {"display": grant.name}
    body: dict[str, Any] = {
        "meta": {"versionId": "1", "lastUpdated": stamp},
        "type": {"system": LIFECYCLE, "code": "destroy"},
        "action": "D",
        "recorded": stamp,
        "outcome": SUCCESS,
        "outcomeDesc": basis,
        "agent": [{"type": role(CUSTODIAN), "who": who, "requestor": True}],
        "source": {"observer": {"display": "Salus"}},
        "entity": [
            {
                "what": {"reference": owner},
                "type": dict(zip(("system", "code"), PERSON, strict=True)),
                "role": dict(zip(("system", "code"), PATIENT_ROLE, strict=True)),
                "lifecycle": {"system": _OBJECT, "code": "14"},
            }
        ],
    }
    entries: list[Entry] = [link_entry(ENTITY, PATIENT, id)]
    if grant.agent:
        type, _, agent = grant.agent.partition("/")
        entries.append(link_entry(AGENT, type, agent))
    head = f'{{"resourceType":"{EVENTS}","id":"'.encode()
    return Event(at, head, b'",' + encode(body)[1:], tuple(entries))


async def waiting(tx: Transaction) -> list[Erasing]:
    """The erasures that are under way, the oldest first."""
    found = await tx.range(SPACE, "", "\x7f", 100_000)
    every = [msgspec.json.decode(each.value, type=Erasing) for each in found]
    return sorted(every, key=lambda each: each.at)
