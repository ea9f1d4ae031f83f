"""What can be searched: the entries of a resource, extracted by one function a type that is made
of the definitions when the type is first met.

https://hl7.org/fhir/R4/search.html, https://hl7.org/fhir/R4/searchparameter-registry.html
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import tzinfo
from typing import Any, TypeAlias

from conformance.definitions import Definitions, Element
from conformance.fhirpath.search import compile_search
from fhir_server.search import composites, kinds
from fhir_server.search.composites import Late
from fhir_server.search.limit import ENTRIES, too_many
from fhir_server.search.parameters import Parameter, parameters, parts_of
from fhir_server.search.place import Place, link_entry
from fhir_server.search.references import literal
from fhir_server.storage.store import ID, UPDATED, Entry

# Raise this by one whenever the same resource gives other entries than before.
EXTRACTION = 3

# What access asks and R4 does not index: whose rights a Binary borrows. No URL can name it.
CONTEXT = "_salus:context"
_OURS: Mapping[str, Mapping[str, str]] = {"Binary": {"securityContext": CONTEXT}}

# Of each type the date that its links carry, so that one patient's resources are found in order
# of time. Only parameters of which a resource has at most one value.
CARRIED: Mapping[str, str] = {
    "AdverseEvent": "date",
    "AllergyIntolerance": "date",
    "Appointment": "date",
    "AuditEvent": "date",
    "CarePlan": "date",
    "CareTeam": "date",
    "ChargeItem": "occurrence",
    "Claim": "created",
    "ClaimResponse": "created",
    "ClinicalImpression": "date",
    "Communication": "sent",
    "CommunicationRequest": "authored",
    "Composition": "date",
    "Condition": "recorded-date",
    "Consent": "date",
    "DetectedIssue": "identified",
    "DeviceRequest": "authored-on",
    "DiagnosticReport": "date",
    "DocumentManifest": "created",
    "DocumentReference": "date",
    "Encounter": "date",
    "EpisodeOfCare": "date",
    "ExplanationOfBenefit": "created",
    "FamilyMemberHistory": "date",
    "Flag": "date",
    "Goal": "start-date",
    "ImagingStudy": "started",
    "Immunization": "date",
    "Invoice": "date",
    "List": "date",
    "MeasureReport": "date",
    "Media": "created",
    "MedicationAdministration": "effective-time",
    "MedicationDispense": "whenhandedover",
    "MedicationRequest": "authoredon",
    "MedicationStatement": "effective",
    "Observation": "date",
    "Procedure": "date",
    "Provenance": "recorded",
    "QuestionnaireResponse": "authored",
    "RiskAssessment": "date",
    "ServiceRequest": "authored",
    "SupplyRequest": "date",
    "Task": "authored-on",
    "VisionPrescription": "datewritten",
}

# A path: its first step is needed, of a choice perhaps as one type. Not what is computed, which has
# a value for what is absent too.
_FIRST_STEP = re.compile(
    r"\(?(?P<type>[A-Z]\w*)\.(?P<name>\w+)(?:(?: as |\.(?:as|ofType)\()(?P<cast>\w+)\))?"
    r"(?!.*(?:\b(?:and|or|xor|not|empty|count)\b|!=))"
)
_ALWAYS = "resourceType"  # the member that every resource has

ENGINE = (ID, UPDATED)  # every version has these without our writing them

Extractor: TypeAlias = Callable[[dict[str, Any]], list[Entry]]


class Index:
    """The entries of resources and the parameters that ask for them. `base_url` is this server's
    own, without a slash at its end; dates without an offset are read in `timezone`."""

    def __init__(self, definitions: Definitions, base_url: str, timezone: tzinfo) -> None:
        self.definitions = definitions
        self.base_url = base_url
        self.timezone = timezone
        self.version = _version(definitions, timezone)
        self._parameters: dict[str, Mapping[str, Parameter]] = {}
        self._extractors: dict[str, Extractor] = {}

    def parameters(self, type: str) -> Mapping[str, Parameter]:
        """The search parameters of a resource type, by code; empty for what is no type."""
        found = self._parameters.get(type)
        if found is None:
            found = self._parameters[type] = parameters(self.definitions, type)
        return found

    def entries(self, resource: dict[str, Any]) -> list[Entry]:
        """All entries of a resource, each once. The resource is valid. FhirError (too-costly, 422)
        when there are more than a resource may have."""
        type = resource["resourceType"]
        extract = self._extractors.get(type)
        if extract is None:
            extract = self._extractors[type] = self._extractor(type)
        return extract(resource)

    def carried(self, type: str) -> str | None:
        """The param whose one range entry the links of such a resource carry in `low`."""
        return CARRIED.get(type)

    def _extractor(self, type: str) -> Extractor:
        by_key: dict[str, list[Late]] = {}
        joined: list[Late] = []
        for parameter in self.parameters(type).values():
            if parameter.baked and parameter.conjunction:
                joined.append(composites.joined(parameter))
            elif parameter.code not in ENGINE and (parameter.baked or _written(parameter)):
                for part in sorted(parts_of(parameter.definition.expression)):
                    for key, write in self._writers(parameter, part):
                        by_key.setdefault(key, []).append(write)
        for member, param in _OURS.get(type, {}).items():
            by_key.setdefault(member, []).append(self._linked(member, param))
        return _fused(by_key, joined, self.carried(type))

    def _linked(self, member: str, param: str) -> Late:
        """For a reference that has no search parameter: only resources of this server."""
        types = self.definitions.types

        def write(resource: dict[str, Any], found: list[Entry]) -> None:
            named = literal(resource[member].get("reference") or "", self.base_url, types)
            if named is not None:
                found.append(link_entry(param, named.type, named.id))

        return write

    def _writers(self, parameter: Parameter, part: str) -> Iterator[tuple[str, Late]]:
        """What writes the entries of one part of an expression, by the member of a resource that
        must be there for it to find something."""
        step = _FIRST_STEP.match(part)
        element = self._element(parameter.type, step) if step else None
        if step is None or element is None:
            yield _ALWAYS, self._evaluated(parameter, part)
            return
        whole = step.end() == len(part) and not parameter.baked
        evaluated = None if whole else self._evaluated(parameter, part)
        choice = element.name.endswith("[x]")
        for each in element.types:
            if step["cast"] in (None, each.code):
                suffix = each.code[0].upper() + each.code[1:] if choice else ""
                key = step["name"] + suffix
                yield key, evaluated or self._member(parameter, key, each.code, element)

    def _element(self, type: str, step: re.Match[str]) -> Element | None:
        if step["type"] not in (type, "Resource", "DomainResource"):
            return None
        children = self.definitions.children(type)
        return children.get(step["name"]) or children.get(f"{step['name']}[x]")

    def _member(self, parameter: Parameter, key: str, datatype: str, element: Element) -> Late:
        """For a part that is no more than a member of the resource: three of four values."""
        code = parameter.code
        write = kinds.writer(parameter, code, datatype, self._place(element.path))

        def one(resource: dict[str, Any], found: list[Entry]) -> None:
            write(resource[key], found.append)

        def many(resource: dict[str, Any], found: list[Entry]) -> None:
            for each in resource[key]:
                if each is not None:
                    write(each, found.append)
                    if len(found) > ENTRIES:
                        raise too_many(code)

        return one if element.max == 1 else many

    def _evaluated(self, parameter: Parameter, part: str) -> Late:
        if parameter.baked:
            return composites.nodes(parameter, part, self.definitions, self._place)
        code = parameter.code
        evaluate = compile_search(part, parameter.type, self.definitions)
        write_hit = kinds.hit_writer(parameter, code, self._place)

        def write(resource: dict[str, Any], found: list[Entry]) -> None:
            for hit in evaluate(resource):
                write_hit(hit, found.append)
                if len(found) > ENTRIES:
                    raise too_many(code)

        return write

    def _place(self, path: str) -> Place:
        systems = kinds.systems(self.definitions, path)
        return Place(systems, self.timezone, self.base_url, self.definitions.types)


def _written(parameter: Parameter) -> bool:
    return parameter.own and parameter.kind in kinds.KINDS


def _fused(by_key: Mapping[str, list[Late]], joined: list[Late], carried: str | None) -> Extractor:
    writers = {key: tuple(these) for key, these in by_key.items()}

    def extract(resource: dict[str, Any]) -> list[Entry]:
        found: list[Entry] = []
        for key in resource:
            if key in writers:
                for write in writers[key]:
                    write(resource, found)
        for write in joined:
            write(resource, found)
        if len(found) > ENTRIES:
            raise too_many(found[-1].param)
        if carried:
            _carry(found, carried)
        return list(dict.fromkeys(found))

    return extract


def _carry(entries: list[Entry], carried: str) -> None:
    for dated in entries:
        if dated[1] == carried and dated[0] == "range":
            break
    else:
        return
    for at, entry in enumerate(entries):
        if entry[0] == "link":
            entries[at] = link_entry(entry[1], entry[2] or "", entry[3] or "", dated[5])


def _version(definitions: Definitions, timezone: tzinfo) -> str:
    """Equal for two indexes that give the same entries."""
    zone = getattr(timezone, "key", None) or str(timezone)
    told = f"{EXTRACTION} {definitions.digest} {zone} {sorted(CARRIED.items())}"
    return hashlib.sha256(told.encode()).hexdigest()
