"""How each interaction is audited, as IHE's Basic Audit Log Patterns have it: action, roles, and
the profile that an event may claim once all of its rules are met.

https://profiles.ihe.net/ITI/BALP/content.html (1.1.4, R4)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fhir_server.interaction import Interaction, Result

Coding = tuple[str, str]  # system and code

REST = "http://terminology.hl7.org/CodeSystem/audit-event-type"
INTERACTION = "http://hl7.org/fhir/restful-interaction"
ENTITY = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
TYPES = "http://hl7.org/fhir/resource-types"
ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
DICOM = "http://dicom.nema.org/resources/ontology/DCM"
OURS = "urn:salus:audit"
_BALP = "https://profiles.ihe.net/ITI/BALP"
_PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"

SOURCE = (DICOM, "110153")
DESTINATION = (DICOM, "110152")
APPLICATION = (DICOM, "110150")
CUSTODIAN = (_PARTICIPANT, "custodian")
RECIPIENT = (_PARTICIPATION, "IRCP")
AUTHOR = (_PARTICIPATION, "AUT")
OAUTH = (f"{_BALP}/CodeSystem/UserAgentTypes", "UserOauthAgent")

PERSON = (ENTITY, "1")
THING = (ENTITY, "2")
REQUEST_ID = (f"{_BALP}/CodeSystem/BasicAuditEntityType", "XrequestId")
PATIENT_ROLE = (ROLE, "1")
RESOURCE_ROLE = (ROLE, "4")
QUERY_ROLE = (ROLE, "24")

# Of a search the patterns call the query, and nothing else, a thing (2); of any other interaction
# the one resource. So what stands beside it has another type.
OWN_QUERY = (OURS, "query")

NONE, PLAIN, PATIENT = 0, 1, 2  # how much an event claims


class Kind(NamedTuple):
    """How an interaction is audited: its action, the roles of client, server and user, and the name
    of its profile, if there is one."""

    action: str
    client: Coding
    server: Coding
    user: Coding
    profile: str | None = None


_OTHER = Kind("E", SOURCE, DESTINATION, RECIPIENT)
_READ = Kind("R", DESTINATION, SOURCE, RECIPIENT, "Read")
_QUERY = _OTHER._replace(profile="Query")
_UPDATE = Kind("U", SOURCE, DESTINATION, AUTHOR, "Update")
_BUNDLE = _OTHER._replace(user=AUTHOR)
_KINDS: Mapping[str, Kind] = {
    "read": _READ,
    "vread": _READ,
    "history-instance": _READ._replace(profile=None),
    "search-type": _QUERY,
    "search-system": _QUERY,
    "create": Kind("C", SOURCE, DESTINATION, AUTHOR, "Create"),
    "update": _UPDATE,
    "patch": _UPDATE,
    "delete": Kind("D", APPLICATION, CUSTODIAN, AUTHOR, "Delete"),
    "batch": _BUNDLE,
    "transaction": _BUNDLE,
}


def kind_of(code: str) -> Kind:
    """How an interaction of this code is audited."""
    return _KINDS.get(code, _OTHER)


def is_query(kind: Kind) -> bool:
    """Whether an interaction is what the patterns call a query."""
    return kind.profile == "Query"


def claim(kind: Kind, asked: Interaction, result: Result) -> int:
    """How much the event of an interaction that succeeded may claim. A write claims that something
    was written: one resource, and not by what was found in its place or gone already."""
    if kind.profile is None:
        return NONE
    if not is_query(kind):
        touched = result.touched
        if len(touched) != 1:
            return NONE
        if asked.code == "create" and result.status != 201:
            return NONE
        if asked.code == "delete" and touched[0][2] is None:
            return NONE
    return PATIENT if len(result.patients) == 1 else PLAIN


def profiles(kind: Kind, claimed: int, token: bool) -> list[str]:
    """The profiles of an event that succeeded. `token`: it names a user and the token's end."""
    found = []
    if claimed != NONE and kind.profile is not None:
        patient = "Patient" if claimed == PATIENT else ""
        found.append(f"{_BALP}/StructureDefinition/IHE.BasicAudit.{patient}{kind.profile}")
    if token:
        found.append(f"{_BALP}/StructureDefinition/IHE.BasicAudit.OAUTHaccessTokenUse.Opaque")
    return found
