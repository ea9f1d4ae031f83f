"""What a kick-off asks for: its parameters, in the URL or in Parameters, understood or refused.

https://hl7.org/fhir/uv/bulkdata/export.html#query-parameters
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeAlias

from conformance.definitions import Definitions
from conformance.outcome import FhirError
from fhir_server import access
from fhir_server.bulk.job import Wanted
from fhir_server.bulk.state import NDJSON, NDJSON_TYPES
from fhir_server.core import Step
from fhir_server.interaction import Interaction, Parameters, pairs
from fhir_server.owners import PATIENT, naming
from fhir_server.search import params
from fhir_server.search.nearest import nearest, shown
from fhir_server.search.references import literal
from fhir_server.search.results import context
from fhir_server.storage.store import EVENTS
from fhir_server.times import parse_instant

# Never exported: what the audit says of others, which has its own ways out.
_NEVER = frozenset({EVENTS})
# Only when they are named: attachments are fetched by the URLs that the exported resources have.
_NAMED_ONLY = frozenset({"Binary"})
# What is in no patient's compartment and goes with what refers to it.
ALONG = frozenset(
    {
        "Endpoint",
        "HealthcareService",
        "Location",
        "Medication",
        "Organization",
        "Practitioner",
        "PractitionerRole",
        "Substance",
    }
)
GROUP = "Group"
_QUERY = re.compile(r",(?=[A-Z][A-Za-z]+\?)")  # between two searches; values have commas too
_ELEMENT = re.compile(r"(?:[A-Z][A-Za-z]+\.)?[A-Za-z]+", re.ASCII)
_VALUES = frozenset(
    {"valueString", "valueInstant", "valueCode", "valueUri", "valueReference", "valueBoolean"}
)
_UNKNOWN = "Leave it away, or send `Prefer: respond-async, handling=lenient` to have it ignored"

Given: TypeAlias = dict[str, list[str]]


def wanted(step: Step, asked: Interaction) -> Wanted:
    """What an export is to be of, without its Group. FhirError 400, 403."""
    lenient = asked.prefer.handling == "lenient"
    given = _given(step, asked, lenient)
    level = "instance" if asked.id else "type" if asked.type else "system"
    for value in given.get("_outputFormat", ()):
        if value.replace(" ", "+") not in NDJSON_TYPES:
            raise FhirError("not-supported", f"_outputFormat is {NDJSON}", status=400)
    filters = _filters(step, given.get("_typeFilter", []), lenient)
    types = _types(step, level, given.get("_type", []), lenient)
    stray = {type for type, _ in filters} - set(types)
    if stray and not lenient:
        raise FhirError("value", "_typeFilter is on a type that is not exported here", status=400)
    return Wanted(
        level,
        types,
        patients=_patients(step, asked, given.get("patient")),
        filters=tuple(each for each in filters if each[0] in types),
        elements=_elements(step, given.get("_elements", []), lenient),
        since=_instant("_since", given),
        until=_instant("_until", given),
        lenient=lenient,
        organized=_organized(given, lenient),
    )


def _given(step: Step, asked: Interaction, lenient: bool) -> Given:
    """The parameters by name, comma-separated ones as they are. FhirError 400."""
    found: Given = {}
    for name, value in (*asked.parameters, *_sent(asked)):
        if name not in _PARAMETERS or (name in _POSTED and asked.resource is None):
            if lenient:
                continue
            hint = " in Parameters" if name in _POSTED else ""
            known = ", ".join(sorted(_PARAMETERS - _POSTED))
            text = f"`{name[:64]}` is not supported{hint or ''}; $export takes {known}. {_UNKNOWN}"
            if name in _POSTED:
                text = f"`{name}` is sent in Parameters, by POST"
            raise FhirError("not-supported", text, status=400)
        found.setdefault(name, []).append(value)
    return found


_POSTED = frozenset({"patient"})
_PARAMETERS = frozenset(
    {
        "_outputFormat",
        "_since",
        "_until",
        "_type",
        "_typeFilter",
        "_elements",
        "organizeOutputBy",
        "patient",
    }
)


def _sent(asked: Interaction) -> Parameters:
    """The parameters in the body. FhirError 400."""
    sent = asked.resource
    if sent is None:
        return ()
    parts = sent.get("parameter", [])
    if sent.get("resourceType") != "Parameters" or not isinstance(parts, list):
        raise FhirError("invalid", "$export takes Parameters in its body")
    found = []
    for part in parts:
        value = next((v for n, v in part.items() if n in _VALUES), None) if _named(part) else None
        if isinstance(value, dict):
            value = value.get("reference")
        if not isinstance(value, str):
            text = "Each parameter has a name, and a string, instant, code or Reference"
            raise FhirError("invalid", text, "Parameters.parameter")
        found.append((part["name"], value))
    return tuple(found)


def _organized(given: Given, lenient: bool) -> bool:
    """Whether the files are to be by patient. FhirError 400."""
    values = given.get("organizeOutputBy", [])
    if any(each != PATIENT for each in values) and not lenient:
        text = f"organizeOutputBy is {PATIENT}; without it a file is of one type"
        raise FhirError("not-supported", text, status=400)
    return PATIENT in values


def _named(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("name"), str)


def _instant(name: str, given: Given) -> int | None:
    """Microseconds since 1970. FhirError 400."""
    values = given.get(name, [])
    if not values:
        return None
    try:
        if len(values) > 1 or "T" not in values[0]:
            raise ValueError
        return parse_instant(values[0].replace(" ", "+"))
    except (ValueError, TypeError, OverflowError):
        text = f"{name} is an instant such as 2026-11-22T08:00:00.000Z"
        raise FhirError("value", text, status=400) from None


def _types(step: Step, level: str, named: list[str], lenient: bool) -> tuple[str, ...]:
    """The types to export, in order: those named, or all that the caller may export. FhirError."""
    core = step.core
    every = offered(step, level)
    if not named:
        found = tuple(sorted(t for t in every - _NAMED_ONLY if may_export(step, t)))
        if not found:
            raise access.refusal("$export", None)
        return found
    types = list(dict.fromkeys(t.strip() for value in named for t in value.split(",")))
    for type in [*types]:
        if type in every:
            if not may_export(step, type):
                raise access.refusal("$export", type)
            continue
        if not lenient or type not in core.definitions.types:
            where = {"system": "here", "type": "of all patients", "instance": "of a Group"}[level]
            text = f"`{shown(type)}` in _type is nothing that is exported {where}"
            raise FhirError("value", text, status=400)
        types.remove(type)
    if not types:
        raise FhirError("value", "_type names nothing that is exported here", status=400)
    return tuple(sorted(types))


def offered(step: Step, level: str) -> frozenset[str]:
    """The types that a level exports: all; or those of patients, and what they refer to."""
    index = step.core.index
    every = step.core.definitions.types - _NEVER
    if level == "system":
        return frozenset(every)
    own = {type for type in every - {GROUP} if type == PATIENT or naming(type, index)}
    return frozenset(own | ALONG | ({GROUP} if level == "instance" else set()))


def may_export(step: Step, type: str) -> bool:
    """Whether the caller may read and search a type."""
    return all(access.covers(step.grant, type, letter) for letter in "rs")


def _filters(step: Step, values: list[str], lenient: bool) -> list[tuple[str, str]]:
    """The searches, each tried. FhirError 400, 403."""
    most = step.core.limits.parameters
    texts = [part for value in values for part in _QUERY.split(value)]
    if len(texts) > most or sum(map(len, texts)) > step.core.limits.url:
        text = f"_typeFilter has at most {most} searches, and {step.core.limits.url} characters"
        raise FhirError("too-costly", text, status=413)
    found = []
    for text in texts:
        type, mark, query = text.partition("?")
        if not mark or type not in step.core.definitions.types:
            raise FhirError("value", "_typeFilter is searches such as Patient?active=true")
        if not may_export(step, type):
            raise access.refusal("$export", type)
        search(step, type, query, lenient)
        found.append((type, query))
    return found


def search(step: Step, type: str, query: str, lenient: bool) -> params.Search:
    """One search of _typeFilter. FhirError 400."""
    asked = pairs(query, step.core.limits.parameters)
    for name, _ in asked:
        if name.partition(":")[0] in _SHOWING:
            text = "_typeFilter selects; it does not sort, count, include or shape"
            raise FhirError("not-supported", text, status=400)
    return params.parse(type, asked, context(step, "lenient" if lenient else "strict"))


_SHOWING = frozenset(
    {"_sort", "_count", "_total", "_summary", "_elements", "_include", "_revinclude", "_contained"}
)


def _elements(step: Step, values: list[str], lenient: bool) -> tuple[str, ...]:
    """The elements, each of the root of its type, or of any type where it names none. A lenient
    caller has unknown ones left out. FhirError 400."""
    found = [each.strip() for value in values for each in value.split(",")]
    definitions, most = step.core.definitions, step.core.limits.values
    if len(found) > most:
        raise FhirError("too-costly", f"_elements names at most {most} elements", status=413)
    roots: dict[str, set[str]] = {}
    for each in [*dict.fromkeys(found)]:
        type, dot, name = each.rpartition(".")
        if not _ELEMENT.fullmatch(each) or (dot and type not in definitions.types):
            raise FhirError("value", "_elements is names such as id or Patient.name", status=400)
        if type not in roots:
            roots[type] = _roots(definitions, (type,) if dot else definitions.types)
        known = roots[type]
        if name in known:
            continue
        if not lenient:
            text = f"`{shown(each)}` in _elements is no element of a resource"
            raise FhirError("value", f"{text}{nearest(name, known)}", status=400)
        found = [other for other in found if other != each]
    return tuple(dict.fromkeys(found))


def _roots(definitions: Definitions, types: Iterable[str]) -> set[str]:
    """The names of the root elements of types; of a choice also that before its [x]."""
    names = {name for type in types for name in definitions.children(type)}
    return names | {name.removesuffix("[x]") for name in names}


def elements_of(type: str, elements: tuple[str, ...]) -> frozenset[str]:
    """The root elements to show of a type; none: all of it."""
    found = set()
    for each in elements:
        of, dot, name = each.partition(".")
        if not dot:
            found.add(of)
        elif of == type:
            found.add(name)
    return frozenset(found)


def _patients(step: Step, asked: Interaction, values: list[str] | None) -> tuple[str, ...] | None:
    """The ids of the patients that are named. FhirError 400."""
    if values is None:
        return None
    if asked.type is None:
        raise FhirError("not-supported", "patient is for $export of patients or of a Group")
    core, ids = step.core, []
    for value in values:
        found = literal(value, core.base_url, core.definitions.types)
        if found is None or found.type != PATIENT:
            raise FhirError("value", "patient is a reference to a Patient of this server")
        ids.append(found.id)
    if len(set(ids)) > core.limits.values:
        raise FhirError("too-costly", f"At most {core.limits.values} patients are named at once")
    return tuple(dict.fromkeys(ids))
