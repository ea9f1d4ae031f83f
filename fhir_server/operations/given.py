"""The parameters of an operation, from its URL and from the Parameters in its body, as one.

https://hl7.org/fhir/R4/operations.html#request
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from conformance.outcome import FhirError
from fhir_server.interaction import Interaction
from fhir_server.search.nearest import nearest, shown

Given = dict[str, list[Any]]
_EXPRESSION = "Parameters.parameter"


def given(asked: Interaction, takes: Collection[str], repeat: Collection[str] = ()) -> Given:
    """Values by name: strings from the URL, JSON from the body. FhirError 400 for a name that is
    not taken, or comes twice and is not to `repeat`."""
    found: Given = {}
    for name, value in asked.parameters:
        found.setdefault(name, []).append(value)
    for name, value in body(asked):
        found.setdefault(name, []).append(value)
    where = None if asked.resource is None else _EXPRESSION
    unknown = next((name for name in found if name not in takes), None)
    if unknown is not None:
        known = ", ".join(takes) or "no parameters"
        text = f"${asked.operation} takes {known}, not `{shown(unknown)}`{nearest(unknown, takes)}"
        raise FhirError("invalid", text, where, status=400)
    for name in found.keys() - set(repeat):
        if len(found[name]) > 1:
            text = f"${asked.operation} takes {name} once"
            raise FhirError("invalid", text, where, status=400)
    return found


def body(asked: Interaction) -> list[tuple[str, Any]]:
    """The names and values of the Parameters in a body. FhirError 400."""
    sent = asked.resource
    if sent is None:
        return []
    given = sent.get("parameter", [])
    if sent.get("resourceType") != "Parameters" or not isinstance(given, list):
        raise _malformed(asked)
    found: list[tuple[str, Any]] = []
    for each in given:
        name = each.get("name") if isinstance(each, dict) else None
        values = [] if name is None else [v for key, v in each.items() if key.startswith("value")]
        if not isinstance(name, str) or len(values) != 1:
            raise _malformed(asked)
        found.append((name, values[0]))
    return found


def text(value: Any) -> str:
    """A value as a search parameter has it: of a Reference its text, of an Identifier, Coding or
    CodeableConcept system|code. FhirError 400."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        codings = value.get("coding", [value])
        texts = [_coded(each) for each in codings if isinstance(each, dict)]
        if texts and all(texts):
            return ",".join(each for each in texts if each)
        raise FhirError("value", "A parameter has a value of the wrong type", _EXPRESSION)
    return str(value)


def _coded(value: dict[str, Any]) -> str | None:
    if isinstance(value.get("reference"), str):
        return str(value["reference"])
    code = value.get("code") or value.get("value")
    if not isinstance(code, str):
        return None
    system = value.get("system")
    escaped = code.replace("\\", "\\\\").replace(",", "\\,").replace("|", "\\|")
    return f"{system}|{escaped}" if isinstance(system, str) else escaped


def _malformed(asked: Interaction) -> FhirError:
    text = f"${asked.operation} takes Parameters, each with a name and one value"
    return FhirError("invalid", text, _EXPRESSION, status=400)
