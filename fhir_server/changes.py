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
from fhir_server.storage.store import EVERYTHING, Version


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
    deleted. FhirError 404, for a caller who may not write all resources of the type, when there is
    none that it may reach."""
    if writes_all(step, type, letter):
        return await step.tx.get(type, id)
    found = await sight.current(step, type, id, letter)
    if found is None:
        raise absent(type)
    # Who is shown a part only would lose the rest.
    partial = type in access.CONCEALED and not found.deleted
    if partial and await sight.hides(step, parse(found.body)):
        raise absent(type)
    return found


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
    ids = access.limit(step.grant)
    if own and ids is not None:
        named = owners.named(prepared.entries, owners.naming(version.type, step.core.index))
        own = named <= ids and not await sight.hides(step, prepared.resource)
    if not own:
        raise FhirError(
            "forbidden",
            f"This grant does not allow a {version.type} like this one: it is not in the patient's"
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
