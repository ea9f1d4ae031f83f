"""Who may see what, said once more in plain Python over plain resources: no query, no index, no
store. The oracle of test_property.py, which shares no code with fhir_server/access.py.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from smart_auth.grant import Grant, Scope

Resource = dict[str, Any]
Name = tuple[str, str]
World = Mapping[Name, Resource]  # the current resources that are not deleted


def named(reference: Mapping[str, Any] | None) -> Name | None:
    """Type and id of a reference to this server."""
    text = (reference or {}).get("reference", "")
    type, slash, id = text.partition("/")
    return (type, id) if slash else None


def _refs(*paths: str) -> Callable[[Resource], set[str]]:
    """The ids of the patients that elements name, each a path of one or two steps."""

    def found(resource: Resource) -> set[str]:
        ids = set()
        for path in paths:
            for value in _values([resource], path.split(".")):
                name = named(value)
                if name and name[0] == "Patient":
                    ids.add(name[1])
        return ids

    return found


def _values(values: Iterable[Any], steps: list[str]) -> list[Any]:
    for step in steps:
        nested = [value.get(step, []) for value in values]
        values = [v for each in nested for v in (each if isinstance(each, list) else [each])]
    return list(values)


# Whose a resource is, by type. What is not here is nobody's, and so hidden from who is limited.
WHOSE: Mapping[str, Callable[[Resource], set[str]]] = {
    "Patient": lambda resource: {resource["id"]},
    "Observation": _refs("subject", "performer"),
    "Condition": _refs("subject", "asserter"),
    "Encounter": _refs("subject"),
    "Task": _refs("for"),
    "Device": _refs("patient"),
    "List": _refs("subject"),
    "Appointment": _refs("participant.actor"),
}
SHARED = {"Practitioner", "Organization"}
_BORROWING = {"Provenance", "Binary"}


def _has_code(element: str) -> Callable[[Resource, str], bool]:
    def holds(resource: Resource, value: str) -> bool:
        concepts = _values([resource], [element])
        codings = [c for concept in concepts for c in concept.get("coding", [concept])]
        codes = {f"{each.get('system')}|{each.get('code')}" for each in codings}
        return any(each in codes for each in value.split(","))

    return holds


def _is(element: str) -> Callable[[Resource, str], bool]:
    return lambda resource, value: resource.get(element) in value.split(",")


# The parameters of granular scopes that the random grants use.
_PARAMETERS: Mapping[str, Callable[[Resource, str], bool]] = {
    "category": _has_code("category"),
    "code": _has_code("code"),
    "status": _is("status"),
    "_id": _is("id"),
    "_tag": lambda resource, value: _has_code("tag")(resource.get("meta", {}), value),
    "subject": lambda resource, value: resource.get("subject", {}).get("reference") == value,
}
_OF_TYPE = {
    "category": {"Observation", "Condition"},
    "code": {"Observation", "Condition", "Task", "List"},
    "status": {"Observation", "Encounter", "Task", "List", "Appointment"},
    "subject": {"Observation", "Condition", "Encounter", "List", "Task"},
}


def scopes_of(grant: Grant) -> list[Scope]:
    """A system's scopes count only where there are no others."""
    others = [each for each in grant.scopes if each.context != "system"]
    return others or list(grant.scopes)


def speaks_of(grant: Grant, type: str, letter: str) -> bool:
    """Whether an interaction on a type is granted at all: else it is answered 403."""
    return any(s.type in (type, "*") and letter in s.letters for s in scopes_of(grant))


def limited_to(grant: Grant) -> set[str] | None:
    """The patients that a grant is limited to; None: it is not. One that was given for a patient
    stays so."""
    contexts = {each.context for each in scopes_of(grant)}
    if (contexts != {"system"} and grant.confined) or "patient" in contexts:
        return {grant.patient} if grant.patient else set()
    if "user" in contexts:
        return None if grant.reach is None else set(grant.reach)
    return None if contexts else set()


def may(grant: Grant, letter: str, resource: Resource, world: World) -> bool:
    """Whether a grant opens a resource with a letter."""
    type = resource["resourceType"]
    own = grant.identity and grant.agent == f"{type}/{resource['id']}"
    if own and letter == "r":
        return True
    return any(_opens(grant, scope, letter, resource, world) for scope in scopes_of(grant))


def _opens(grant: Grant, scope: Scope, letter: str, resource: Resource, world: World) -> bool:
    type = resource["resourceType"]
    if scope.type not in (type, "*") or letter not in scope.letters:
        return False
    for name, value in scope.query:
        if type not in _OF_TYPE.get(name, {type}) or not _PARAMETERS[name](resource, value):
            return False
    patients = limited_to(grant)
    if patients is not None and scope.context == "user" and grant.reach is not None:
        patients &= grant.reach
    return patients is None or _belongs(grant, patients, letter, resource, world)


def _belongs(
    grant: Grant, patients: set[str], letter: str, resource: Resource, world: World
) -> bool:
    type = resource["resourceType"]
    if not patients:
        return False
    if type in SHARED:
        return letter in "rs"
    if type in _BORROWING:
        return _borrows(grant, patients, resource, world)
    whose = WHOSE.get(type)
    return whose is not None and bool(whose(resource) & patients)


def _borrows(grant: Grant, patients: set[str], resource: Resource, world: World) -> bool:
    if resource["resourceType"] == "Binary":
        names = [named(resource.get("securityContext"))]
        if names[0] and names[0][0] == "Patient" and names[0][1] in patients:
            return True
    else:
        names = [named(each) for each in resource["target"]]
    passed = _BORROWING | (SHARED if resource["resourceType"] == "Provenance" else set())
    return any(
        name is not None and name[0] not in passed and knows(grant, name, world) for name in names
    )


def knows(grant: Grant, name: Name, world: World) -> bool:
    """Whether a grant may read or find a resource that is there."""
    found = world.get(name)
    return found is not None and any(may(grant, letter, found, world) for letter in "rs")


def left_of(grant: Grant, resource: Resource, world: World) -> Resource:
    """What leaves of a resource: of a Provenance only what the grant knows."""
    if resource["resourceType"] != "Provenance" or limited_to(grant) is None:
        return resource

    def kept(reference: Mapping[str, Any]) -> bool:
        name = named(reference)
        return name is not None and knows(grant, name, world)

    made = {**resource, "target": [each for each in resource["target"] if kept(each)]}
    entities = [each for each in resource.get("entity", []) if kept(each["what"])]
    made.pop("entity", None)
    return {**made, "entity": entities} if entities else made


def seen_by(grant: Grant, letter: str, world: World) -> dict[Name, Resource]:
    """All that a grant opens with a letter, as it leaves."""
    return {
        name: left_of(grant, resource, world)
        for name, resource in world.items()
        if may(grant, letter, resource, world)
    }
