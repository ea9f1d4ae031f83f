"""What a caller may change: the version that a write replaces, and the one that it makes.

Both must be the caller's. https://hl7.org/fhir/R4/http.html#update
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from conformance.json import parse
from conformance.outcome import FhirError
from fhir_server import access, owners, sight
from fhir_server.core import Step
from fhir_server.prepare import Prepared
from fhir_server.storage.store import EVERYTHING, Entry, Version


class Written(NamedTuple):
    """What an interaction wrote, by which letter."""

    prepared: Prepared
    version: Version
    letter: str


def absent(type: str | None, which: str = "") -> FhirError:
    """404: it is not there, or not for this caller."""
    return FhirError("not-found", f"There is no such {type}{which}")


def writes_all(step: Step, type: str, letter: str) -> bool:
    """Whether the caller may use a letter on every resource of a type, those included that do not
    exist yet under ids of its own choice."""
    return access.visible(step.core, step.grant, type, letter) is EVERYTHING


async def replaced(step: Step, type: str, id: str, letter: str) -> Version | None:
    """The version that a write replaces, if any; a deletion where the caller could reach what was
    deleted. FhirError, for a caller who may not write all resources of the type: 404 when there is
    none that it may reach, 403 when it is another patient's too."""
    if writes_all(step, type, letter):
        return await step.tx.get(type, id)
    found = await sight.current(step, type, id, letter)
    if found is None:
        raise absent(type)
    if found.deleted:
        return found
    # Who is shown a part only would lose the rest.
    if type in access.CONCEALED and await sight.hides(step, parse(found.body)):
        raise absent(type)
    await require_nobody_else(step, found)
    return found


async def require_nobody_else(step: Step, version: Version) -> None:
    """Refuse to change or delete what is another patient's too, for whom it would be gone.
    FhirError 403."""
    if access.limit(step.grant) is None:
        return
    if not _names_granted(step, version.type, step.core.index.entries(parse(version.body))):
        raise _beyond(version.type)


async def require_written(step: Step, written: Sequence[Written]) -> None:
    """Refuse new versions that the caller may not make, or that refer to what is not there, where
    that is asked for. FhirError 403, 422."""
    for each in written:
        await _require_own(step, each)
        if step.core.references == "check":
            await _require_targets(step, each)


async def _require_own(step: Step, written: Written) -> None:
    """The new version must be visible, and name no patient whose data is not granted."""
    prepared, version, letter = written
    seen = access.visible(step.core, step.grant, version.type, letter)
    if seen is EVERYTHING:
        return
    own = await sight.holds(step, version, prepared.entries, seen)
    own = own and _names_granted(step, version.type, prepared.entries)
    if not own or await sight.hides(step, prepared.resource):
        raise _beyond(version.type)


def _names_granted(step: Step, type: str, entries: Sequence[Entry]) -> bool:
    """Whether these entries put a resource into no patient's compartment beyond the grant."""
    ids = access.limit(step.grant)
    return ids is None or owners.named(entries, owners.naming(type, step.core.index)) <= ids


def _beyond(type: str) -> FhirError:
    return FhirError(
        "forbidden",
        f"This grant does not allow a {type} like this one: it is not in the patient's"
        " compartment, not what the scopes describe, or names somebody else",
    )


async def _require_targets(step: Step, written: Written) -> None:
    """What a resource refers to here must be there, for the caller."""
    prepared, version, _ = written
    named = prepared.references(step.core) - {f"{version.type}/{version.id}"}
    if not step.grant.unrestricted:
        own = {f"Patient/{id}" for id in access.limit(step.grant) or ()} | {step.grant.agent}
        pairs = [_name(each) for each in named - own]
        missing = set(pairs) - await sight.known(step, pairs)
    else:
        missing = {name for name in map(_name, named) if not await _live(step, *name)}
    for type, _ in sorted(missing):
        raise FhirError(
            "not-found", f"A reference to a {type} resolves to nothing here", status=422
        )


def _name(text: str) -> sight.Name:
    type, _, id = text.partition("/")
    return type, id


async def _live(step: Step, type: str, id: str) -> bool:
    target = await step.tx.get(type, id)
    return target is not None and not target.deleted
