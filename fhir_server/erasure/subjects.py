"""Whom a resource is about, as an erasure asks it: the patient that its subject names, whoever else
takes part in it as performer, author or sender. Access and sealing ask otherwise: owners.py.

https://hl7.org/fhir/R4/fivews.html (who.focus), https://hl7.org/fhir/R4/references.html#logical
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeAlias

from conformance.definitions import Definitions, Element, TypeRef
from conformance.json import parse
from fhir_server import owners
from fhir_server.core import Core
from fhir_server.interaction import Resource
from fhir_server.storage.sealed import Damaged
from fhir_server.storage.store import (
    ID,
    All,
    AnyOf,
    Condition,
    Erased,
    Match,
    Not,
    Page,
    Transaction,
    Version,
)

Name: TypeAlias = tuple[str, str]  # type and id
Identifier: TypeAlias = tuple[str | None, str]  # system and value

PATIENT = "Patient"
# The elements that say whom a resource is about.
_SUBJECTS = ("subject", "patient", "for", "beneficiary", "candidate", "individual")
_ANY = "Resource"
_PAGE = 500


@lru_cache(maxsize=1024)
def subject_of(type: str, definitions: Definitions) -> str | None:
    """The element of a resource type that names the one whom it is about, who may be a patient."""
    children = definitions.children(type)
    for name in _SUBJECTS:
        element = children.get(name)
        if element is not None and element.max == 1 and _may_be_patient(element.types):
            return name
    return None


def subject(resource: Resource, definitions: Definitions) -> dict[str, Any] | None:
    """The Reference to the one whom a resource is about."""
    element = subject_of(resource["resourceType"], definitions)
    found = resource.get(element) if element else None
    return found if isinstance(found, dict) else None


def means_patient(steps: Sequence[str], definitions: Definitions) -> bool:
    """Whether a Reference at a path, "Observation", "subject", is one to a patient by its place: to
    nothing else, or to the one whom something is about."""
    types = _types_at(tuple(steps), definitions)
    if not _may_be_patient(types):
        return False
    targets = {target for each in types for target in each.targets}
    return targets == {PATIENT} or steps[-1] in _SUBJECTS


def _may_be_patient(types: Iterable[TypeRef]) -> bool:
    return any(
        each.code == "Reference" and not {PATIENT, _ANY}.isdisjoint(each.targets) for each in types
    )


@lru_cache(maxsize=1024)
def _types_at(steps: tuple[str, ...], definitions: Definitions) -> tuple[TypeRef, ...]:
    """The types of the element at a path; none for what is not defined."""
    at, types = steps[0], tuple[TypeRef, ...]()
    for step in steps[1:]:
        element, types = _child(at, step, definitions)
        if element is None:
            return ()
        own = definitions.children(element.path)
        at = element.path if own else element.content_reference or types[0].code
    return types


def _child(
    at: str, step: str, definitions: Definitions
) -> tuple[Element | None, tuple[TypeRef, ...]]:
    """A child and its types; of a choice, valueReference, the one that the name says."""
    children = definitions.children(at)
    found = children.get(step)
    if found is not None:
        return found, found.types
    for name, element in children.items():
        stem = name.removesuffix("[x]")
        if stem != name and step.startswith(stem):
            types = [
                each for each in element.types if each.code.lower() == step[len(stem) :].lower()
            ]
            if types:
                return element, tuple(types)
    return None, ()


# --- what a store has ----------------------------------------------------------------------------


async def about(tx: Transaction, core: Core, id: str) -> list[Name]:
    """The resources that are about a patient though others take part, so that they are nobody's
    own, as far as the index finds them: not deleted ones, nor beside what is damaged. TooCostly."""
    found: set[Name] = set()
    for type in sorted(core.definitions.types):
        if type == PATIENT or subject_of(type, core.definitions) is None:
            continue
        for key in sorted(owners.naming(type, core.index)):
            with suppress(Damaged, Erased):
                async for name in _about(tx, core, type, key, id):
                    found.add(name)
    return sorted(found)


async def _about(tx: Transaction, core: Core, type: str, key: str, id: str) -> AsyncIterator[Name]:
    named = (Condition("system", "eq", PATIENT), Condition("code", "eq", id))
    page = Page(_PAGE)
    while True:
        found = await tx.find(type, Match(key, "link", named), (), page)
        for version in found.versions:
            if version.owner is None and _is_about(version, core, id):
                yield version.type, version.id
        if found.after is None:
            return
        page = Page(_PAGE, found.after)


def _is_about(version: Version, core: Core, id: str) -> bool:
    who = subject(parse(version.body), core.definitions)
    return who is not None and local(who.get("reference"), core.base_url) == f"{PATIENT}/{id}"


def local(text: object, base_url: str) -> str | None:
    """What a reference says about this server: "Type/id", without base, version and fragment."""
    if not isinstance(text, str):
        return None
    return text.removeprefix(f"{base_url}/").partition("/_history/")[0].partition("#")[0]


async def sole(
    tx: Transaction, core: Core, identifiers: Collection[Identifier], id: str
) -> list[Identifier]:
    """Those of a patient's identifiers that nobody else is meant by: they have a system, and no
    other Patient has them. TooCostly."""
    return [each for each in sorted(identifiers, key=str) if await _is_sole(tx, core, each, id)]


async def _is_sole(tx: Transaction, core: Core, identifier: Identifier, id: str) -> bool:
    system, value = identifier
    if not system:
        return False
    named = (Condition("system", "eq", system), Condition("code", "eq", value))
    keys = core.index.parameters(PATIENT)["identifier"].keys
    others = All(
        (
            AnyOf(tuple(Match(key, "token", named) for key in keys)),
            Not(Match(ID, "token", (Condition("code", "eq", id),))),
        )
    )
    return not await tx.count(PATIENT, others, 1)
