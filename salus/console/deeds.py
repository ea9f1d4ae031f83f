"""The words for what is done with records, accounts and this server, by the codes of the audit.

https://hl7.org/fhir/R4/valueset-audit-event-sub-type.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Deed(NamedTuple):
    """What somebody did, as one says that it happened, and that it was tried."""

    done: str
    tried: str


_SEARCH = Deed("searched", "search")
_STORE = Deed("stored", "store")
# By the code of the interaction.
DEEDS: Mapping[str, Deed] = {
    "read": Deed("looked at", "look at"),
    "vread": Deed("looked at an earlier version of", "look at an earlier version of"),
    "history-instance": Deed("looked at earlier versions of", "look at earlier versions of"),
    "history-type": Deed("looked at earlier versions of", "look at earlier versions of"),
    "history-system": Deed("looked at earlier versions of", "look at earlier versions of"),
    "search-type": _SEARCH,
    "search-system": _SEARCH,
    "create": Deed("added", "add"),
    "update": Deed("changed", "change"),
    "patch": Deed("changed", "change"),
    "delete": Deed("removed", "remove"),
    "batch": _STORE,
    "transaction": _STORE,
}
# By the name of the operation.
OPERATIONS: Mapping[str, Deed] = {
    "$everything": Deed("fetched everything in", "fetch everything in"),
    "$export": Deed("downloaded", "download"),
    "$proof": Deed("fetched a receipt for", "fetch a receipt for"),
    "$validate": Deed("had checked", "have checked"),
}
OPERATION = Deed("worked with", "work with")
# Of those that are about a record as a whole; {record} is "your record" or whose it is.
OF_RECORDS: Mapping[str, Deed] = {"$purge": Deed("erased {record}", "erase {record}")}
FORESEEN = Deed(  # a dry run of it
    "looked at what an erasure of {record} would remove (nothing was removed)",
    "look at what an erasure of {record} would remove",
)
# By the action, where nothing else says it: of events that other systems reported.
ACTIONS: Mapping[str, Deed] = {
    "C": Deed("added", "add"),
    "R": Deed("looked at", "look at"),
    "U": Deed("changed", "change"),
    "D": Deed("removed", "remove"),
}
OTHER = Deed("did something that concerns", "do something that concerns")

# What is no interaction, by our own code.
HAPPENINGS: Mapping[str, Deed] = {
    "sign-in": Deed("signed in", "sign in"),
    "sign-out": Deed("signed out", "sign out"),
    "token": Deed("let an app go to {record}", "let an app go to {record}"),
    "token-refused": Deed("let an app go to {record}", "let an app go to {record}"),
    "revoke": Deed("disconnected an app", "disconnect an app"),
    "consent": Deed("allowed an app to use {record}", "allow an app to use {record}"),
    "launch": Deed("opened an app for {record}", "open an app for {record}"),
    "register": Deed("changed how an app is registered", "change how an app is registered"),
    "throttled": Deed("asked too much in a short time", "ask much in a short time"),
    "export": Deed(
        "downloaded the list of who looked at {record}",
        "download the list of who looked at {record}",
    ),
    "hold": Deed("put a legal hold on {record}", "put a legal hold on {record}"),
    "hold-released": Deed("ended the legal hold on {record}", "end the legal hold on {record}"),
    "expire": Deed(
        "ended what the audit held of a month whose time was over",
        "end what the audit holds of a month whose time is over",
    ),
    "keys": Deed("changed the keys of this server", "change the keys of this server"),
    "backup": Deed("made a backup of all data", "make a backup of all data"),
    "restore": Deed("brought all data back from a backup", "bring all data back from a backup"),
}
# What befell an account, by how the event describes it, without who did it.
BEFELL: Mapping[str, str] = {
    "created": "was made",
    "first administrator": "was made",
    "disabled": "was disabled",
    "enabled": "was enabled again",
    "removed": "was removed",
    "linked": "was linked to a record",
    "signed out everywhere": "was signed out everywhere",
    "password": "got a new password",
    "password by link": "got a new password, by a link",
    "link for another password": "was given a link for a new password",
    "link for another password (factors)": "was given a link for a new password and second factor",
    "second factor on": "got a second factor for signing in",
    "second factor off": "lost its second factor for signing in",
}

# Short words for what is in a record, after "your"; of other types those of the consent page.
KINDS: Mapping[str, str] = {
    "Patient": "name and contact details",
    "AllergyIntolerance": "allergies",
    "Appointment": "appointments",
    "AuditEvent": "list of who looked",
    "Binary": "files",
    "CarePlan": "care plans",
    "CareTeam": "care team",
    "Communication": "messages",
    "Condition": "health problems and diagnoses",
    "Consent": "consents",
    "Coverage": "insurance",
    "Device": "devices",
    "DiagnosticReport": "reports of tests",
    "DocumentReference": "documents and notes",
    "Encounter": "visits",
    "Goal": "health goals",
    "ImagingStudy": "images such as X-rays",
    "Immunization": "vaccinations",
    "MedicationAdministration": "medicines that were given",
    "MedicationDispense": "medicines from a pharmacy",
    "MedicationRequest": "prescriptions",
    "MedicationStatement": "medicines that are taken",
    "Observation": "lab results and measurements",
    "Procedure": "operations and procedures",
    "Provenance": "notes on where information came from",
    "QuestionnaireResponse": "answers to questionnaires",
    "RelatedPerson": "relatives and helpers",
    "ServiceRequest": "orders and referrals",
}
STRANGERS: Mapping[str, str] = {  # whom no name is known of, by type
    "Device": "A device",
    "Group": "A group",
    "Organization": "An organization",
    "Patient": "Another patient",
    "Person": "Somebody with an account",
    "Practitioner": "A clinician",
    "PractitionerRole": "A clinician",
    "RelatedPerson": "A relative or helper",
}
