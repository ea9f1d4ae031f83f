"""What can be searched: the entries of a resource, extracted by one function a type that is made
of the definitions when the type is first met.

https://hl7.org/fhir/R4/search.html, https://hl7.org/fhir/R4/searchparameter-registry.html
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import tzinfo
from typing import Any, NamedTuple, TypeAlias

from conformance.definitions import Definitions, Element
from conformance.fhirpath.search import compile_search
from fhir_server.search import composites, kinds, units
from fhir_server.search.composites import Late
from fhir_server.search.guests import NO_GUESTS, Guests, guarded
from fhir_server.search.limit import ENTRIES, too_many
from fhir_server.search.parameters import Parameter, parameters, parts_of
from fhir_server.search.place import Place, link_entry
from fhir_server.search.references import literal
from fhir_server.storage.store import ID, UPDATED, Entry

# Raise this by one whenever the same resource gives other entries than before.
EXTRACTION = 4

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


class Edition:
    """What is indexed between two changes: what of it was compiled, and the parameters of each type
    that R4 does not have."""

    __slots__ = ("extractors", "guests", "parameters")

    def __init__(self, guests: Mapping[str, Guests]) -> None:
        self.guests = guests
        self.parameters: dict[str, Mapping[str, Parameter]] = {}
        self.extractors: dict[str, Extractor] = {}


class Index:
    """The entries of resources and the parameters that ask for them. `base_url` is this server's
    own, without a slash at its end; dates without an offset are read in `timezone`. `edition` is
    another object after each `adopt`. `stir` says that something was written, perhaps not yet for
    good, that may change what is indexed. `stirred`: that was not taken up since; `stirs`: how
    often it was said."""

    def __init__(self, definitions: Definitions, base_url: str, timezone: tzinfo) -> None:
        self.definitions = definitions
        self.base_url = base_url
        self.timezone = timezone
        self.version = _version(definitions, timezone)
        self.edition = Edition({})
        self.stirred = False
        self.stirs = 0
        self._own: dict[str, Mapping[str, Parameter]] = {}
        self._compiled: dict[str, _Writers] = {}

    def stir(self) -> None:
        self.stirred = True
        self.stirs += 1

    def parameters(self, type: str) -> Mapping[str, Parameter]:
        """The search parameters of a resource type that answer now, by code; empty for what is no
        type."""
        edition = self.edition
        found = edition.parameters.get(type)
        if found is None:
            guests = edition.guests.get(type, NO_GUESTS).parameters
            found = {**self.own(type), **guests} if guests else self.own(type)
            edition.parameters[type] = found
        return found

    def own(self, type: str) -> Mapping[str, Parameter]:
        """The search parameters that R4 has, which nothing changes."""
        found = self._own.get(type)
        if found is None:
            found = self._own[type] = parameters(self.definitions, type)
        return found

    def building(self, type: str, code: str) -> int | None:
        """How far, in percent, the entries of a parameter are written that is to answer once they
        all are; None for every other."""
        progress = self.edition.guests.get(type, NO_GUESTS).building.get(code)
        return None if progress is None else progress.percent

    def adopt(self, guests: Mapping[str, Guests]) -> None:
        """Index by these parameters besides R4's from here on."""
        self.edition = Edition(guests)

    def entries(self, resource: dict[str, Any]) -> list[Entry]:
        """All entries of a resource, each once. The resource is valid. FhirError (too-costly, 422)
        when there are more than a resource may have."""
        type = resource["resourceType"]
        edition = self.edition
        extract = edition.extractors.get(type)
        if extract is None:
            extract = edition.extractors[type] = self._extractor(type, edition)
        return extract(resource)

    def carried(self, type: str) -> str | None:
        """The param whose one range entry the links of such a resource carry in `low`."""
        return CARRIED.get(type)

    def compile(self, parameter: Parameter) -> list[tuple[str, Late]]:
        """What writes the entries of one parameter, each by the member of a resource that must be
        there for it to find something. FhirPathError."""
        if parameter.baked and parameter.conjunction:
            return [(_ALWAYS, composites.joined(parameter))]
        if not parameter.baked and not _written(parameter):
            return []
        parts = sorted(parts_of(parameter.definition.expression))
        return [pair for part in parts for pair in self._writers(parameter, part)]

    def _extractor(self, type: str, edition: Edition) -> Extractor:
        writers = self._compiled.get(type)
        if writers is None:
            writers = self._compiled[type] = self._compile_own(type)
        more = edition.guests.get(type, NO_GUESTS).written
        guests = tuple(guarded(each.code, self.compile(each)) for each in more)
        return _fused(writers, guests, self.carried(type))

    def _compile_own(self, type: str) -> _Writers:
        by_key: dict[str, list[Late]] = {}
        joined: list[Late] = []
        for parameter in self.own(type).values():
            if parameter.baked and parameter.conjunction:
                joined.append(composites.joined(parameter))
            elif parameter.code not in ENGINE:
                for key, write in self.compile(parameter):
                    by_key.setdefault(key, []).append(write)
        for member, param in _OURS.get(type, {}).items():
            by_key.setdefault(member, []).append(self._linked(member, param))
        return _Writers({key: tuple(these) for key, these in by_key.items()}, tuple(joined))

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
        failing = self.own(parameter.type).get(code) is not parameter
        evaluate = compile_search(part, parameter.type, self.definitions, failing)
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


class _Writers(NamedTuple):
    """What writes R4's entries: by the member that must be there, and after these."""

    by_key: Mapping[str, tuple[Late, ...]]
    joined: tuple[Late, ...]


def _fused(made: _Writers, guests: tuple[Late, ...], carried: str | None) -> Extractor:
    writers, joined = made

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
        for write in guests:
            write(resource, found)
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
    told = f"{EXTRACTION} {definitions.digest} {zone} {sorted(CARRIED.items())} {units.digest()}"
    return hashlib.sha256(told.encode()).hexdigest()
