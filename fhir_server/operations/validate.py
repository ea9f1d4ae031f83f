"""$validate: every problem of a resource in one pass, without storing it.

https://hl7.org/fhir/R4/resource-operation-validate.html
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from conformance.json import encode, parse
from conformance.outcome import FhirError, Issue, outcome
from conformance.profiles import Profiles
from fhir_server import sight
from fhir_server.changes import absent
from fhir_server.conforming import held
from fhir_server.core import Operation, Step
from fhir_server.drawing import HEAVY, read, worked
from fhir_server.interaction import Interaction, Parameters, Resource, Result
from fhir_server.search.nearest import shown
from fhir_server.vocabulary import Key

_MODES = frozenset({"create", "update", "delete", "profile"})
_FINE = Issue("information", "informational", "No problem was found")


class _Asked(NamedTuple):
    resource: Resource | None
    mode: str | None
    profiles: tuple[str, ...]


async def run(step: Step, asked: Interaction) -> Result:
    """200 with an OperationOutcome, whatever was found. FhirError when nothing can be checked."""
    wanted = _asked(asked)
    if wanted.mode not in (None, *_MODES):
        text = "mode is create, update, delete or profile"
        raise FhirError("value", text, "Parameters.parameter")
    if wanted.mode == "profile" and (wanted.resource is not None or not wanted.profiles):
        text = "mode profile is asked of a stored resource, with the profile that it must meet"
        raise FhirError("invalid", text, "Parameters.parameter")
    resource, weight = wanted.resource, asked.weight
    if not resource:
        resource, weight = await _stored(step, asked)
    issues = [*_misplaced(asked, wanted, resource)]
    touched: tuple[Key, ...] = ()
    if wanted.mode != "delete":
        known = await held(step, resource, wanted.profiles, weight)
        touched = known.touched
        # What is heavy, or defined by somebody else than a publisher, must not hold up others; nor
        # a definition, which is made whole to be checked.
        defines = resource.get("resourceType") == "StructureDefinition"
        apart = weight >= HEAVY or bool(touched) or defines
        issues += await _validated(step, known.profiles, resource, wanted.profiles, apart)
    own = ((asked.type, asked.id, None),) if asked.type and asked.id else ()
    return Result(200, encode(outcome(issues or [_FINE])), touched=(*own, *touched))


async def _validated(
    step: Step, known: Profiles, resource: Resource, asked: tuple[str, ...], apart: bool
) -> list[Issue]:
    """The issues, found in a thread where that is asked. FhirError 413, 429, 503."""
    work = partial(known.validate, resource, asked, limit=step.core.limits.issues)
    return await worked(step, work) if apart else work()


def _asked(asked: Interaction) -> _Asked:
    """What the Parameters, the URL or a bare resource ask for."""
    sent = asked.resource
    if sent is None or sent.get("resourceType") != "Parameters" or asked.type == "Parameters":
        return _of_url(asked.parameters, sent)
    resource, mode, profiles = None, None, []
    parts = sent.get("parameter", [])
    for each in parts if isinstance(parts, list) else [{}]:
        part = each if isinstance(each, dict) else {}
        name = part.get("name")
        if name == "resource":
            resource = part.get("resource")
        elif name == "mode":
            mode = part.get("valueCode")
        elif name == "profile":
            profiles.append(str(part.get("valueUri") or part.get("valueCanonical")))
        else:
            text = f"$validate takes resource, mode and profile, and not `{shown(str(name))}`"
            raise FhirError("invalid", text, "Parameters.parameter")
    if resource is not None and not isinstance(resource, dict):
        raise FhirError("structure", "resource is a resource", "Parameters.parameter")
    return _Asked(resource, mode, tuple(profiles))


def _of_url(parameters: Parameters, sent: Resource | None) -> _Asked:
    for name, _ in parameters:
        if name not in ("mode", "profile"):
            text = f"$validate takes mode and profile in its URL, and not `{shown(name)}`"
            raise FhirError("invalid", text)
    mode = next((value for name, value in parameters if name == "mode"), None)
    return _Asked(sent, mode, tuple(value for name, value in parameters if name == "profile"))


async def _stored(step: Step, asked: Interaction) -> tuple[Resource, int]:
    """The resource as it is stored, and how many bytes that is."""
    if asked.id is None:
        raise FhirError("required", "$validate needs a resource", status=400)
    version = await sight.current(step, asked.type or "", asked.id, "r")
    if version is None or version.deleted:
        raise absent(asked.type)
    (shown,) = await sight.reveal(step, (version,))
    weight = len(shown.body)
    return await read(step, weight, partial(parse, shown.body)), weight


def _misplaced(asked: Interaction, wanted: _Asked, resource: Resource) -> list[Issue]:
    found = []
    if asked.type and resource.get("resourceType") != asked.type:
        text = f"The resource is of another type than {asked.type}, as the URL says"
        found.append(Issue("error", "invalid", text))
    if wanted.mode == "update" and asked.id and resource.get("id") != asked.id:
        text = "An update needs the id that the URL has"
        found.append(Issue("error", "value", text, f"{asked.type}.id"))
    return found


OPERATION = Operation(
    "validate",
    frozenset({"type", "instance"}),
    frozenset(),
    False,
    "http://hl7.org/fhir/OperationDefinition/Resource-validate",
    run,
    "r",
)
