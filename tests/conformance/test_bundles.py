"""What a Bundle demands of its entries together: each fault beside the fair case, and the whole
list of issues."""

import pytest
from hypothesis import given, settings

from conformance import bundles
from conformance.outcome import Issue
from tests.conformance.mutants import mutants

SERVER = "http://example.org/fhir"
OTHER = "http://example.com/fhir"
ONE = "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"
TWO = "urn:uuid:7cd5a2b0-0b8f-4a42-8d7c-3b1fd3a6d1c2"
SECOND = "Bundle.entry[1].resource"


def bundle(kind, *entries, **more):
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries), **more}


def entry(type, id=None, url=None, search=None, **more):
    """An entry: at the server's own address unless it has another, or none (url="")."""
    url = f"{SERVER}/{type}/{id}" if url is None else url
    made = {"resource": {"resourceType": type, **({"id": id} if id else {}), **more}}
    if search:
        made["search"] = {"mode": search}
    return {"fullUrl": url, **made} if url else made


def to(reference):
    return {"reference": reference}


def version(number):
    return {"meta": {"versionId": number}}


def check(resource):
    return [(each.severity, each.code, each.expression) for each in bundles.check(resource)]


def seen(reference, **more):
    """An observation of a patient."""
    return entry("Observation", "o", subject=to(reference), **more)


PATIENT = entry("Patient", "p")
COMPOSITION = entry("Composition", "c", subject=to("Patient/p"))
HEADER = entry("MessageHeader", "h", focus=[to("Patient/p")])
MISSING = [("error", "not-found", f"{SECOND}.subject")]
TWOFOLD = [("error", "invalid", f"{SECOND}.subject")]

# A Bundle that is fair, one that is not, and what is said of it.
CASES = {
    "full url": (
        bundle("collection", PATIENT),
        bundle("collection", entry("Patient", "p", "Patient/p")),
        [("error", "invalid", "Bundle.entry[0].fullUrl")],
    ),
    "full url of another": (
        bundle("collection", entry("Patient", "p", ONE)),
        bundle("collection", entry("Patient", "p", f"{SERVER}/Patient/q")),
        [("error", "invalid", "Bundle.entry[0].fullUrl")],
    ),
    "full url that is no FHIR server's": (
        bundle("collection", entry("Patient", "p", "https://example.org/Files/x")),
        bundle("collection", entry("Patient", "p", "https://example.org/Device/p")),
        [("error", "invalid", "Bundle.entry[0].fullUrl")],
    ),
    "no full url": (
        bundle("transaction", entry("Patient", "p", "")),
        bundle("collection", entry("Patient", "p", "")),
        [("error", "required", "Bundle.entry[0]")],
    ),
    "no full url in a search": (
        bundle("searchset", entry("OperationOutcome", "w", "", "outcome")),
        bundle("searchset", entry("Patient", "p", "", "match")),
        [("error", "required", "Bundle.entry[0]")],
    ),
    "uuid": (
        bundle("transaction", entry("Patient", None, ONE), seen(ONE)),
        bundle("transaction", entry("Patient", None, ONE), seen(TWO)),
        MISSING,
    ),
    "uuid in a collection": (
        bundle("collection", entry("Patient", None, ONE), seen(ONE)),
        bundle("collection", entry("Patient", None, ONE), seen(TWO)),
        [("warning", "not-found", f"{SECOND}.subject")],
    ),
    "uuid in what is contained": (
        bundle(
            "batch",
            entry("Patient", None, ONE),
            seen("#c", contained=[{"resourceType": "Group", "member": [to(ONE)]}]),
        ),
        bundle(
            "message",
            entry("MessageHeader", "h", focus=[to("Observation/o")]),
            seen("#c", contained=[{"resourceType": "Group", "member": [to(ONE)]}]),
        ),
        [("error", "not-found", f"{SECOND}.contained[0].member[0]")],
    ),
    "two of one url": (
        bundle("transaction", entry("Patient", "p", **version("1")), seen("Patient/p")),
        bundle("transaction", PATIENT, seen("Patient/p"), PATIENT),
        TWOFOLD,
    ),
    "two versions": (
        bundle(
            "transaction",
            entry("Patient", "p", **version("1")),
            seen("Patient/p/_history/2"),
            entry("Patient", "p", **version("2")),
        ),
        bundle(
            "transaction",
            entry("Patient", "p", **version("1")),
            seen("Patient/p"),
            entry("Patient", "p", **version("2")),
        ),
        TWOFOLD,
    ),
    "two versions in a collection": (
        bundle("history", PATIENT, seen("Patient/p"), PATIENT),
        bundle("collection", PATIENT, seen("Patient/p"), PATIENT),
        [("warning", "invalid", f"{SECOND}.subject")],
    ),
    "one id on two servers": (
        bundle(
            "transaction",
            PATIENT,
            seen("Patient/p"),
            entry("Patient", "p", f"{OTHER}/Patient/p"),
        ),
        bundle("transaction", PATIENT, seen(f"{SERVER}/Patient/p"), PATIENT),
        TWOFOLD,
    ),
    "a document without its subject": (
        bundle("document", COMPOSITION, PATIENT),
        bundle("document", COMPOSITION),
        [("error", "not-found", "Bundle.entry[0].resource.subject")],
    ),
    "a document without a section's entry": (
        bundle(
            "document",
            entry("Composition", "c", section=[{"entry": [to("Patient/p")]}]),
            PATIENT,
        ),
        bundle("document", entry("Composition", "c", section=[{"entry": [to("Patient/q")]}])),
        [("error", "not-found", "Bundle.entry[0].resource.section[0].entry[0]")],
    ),
    "a document without what it relates to": (
        bundle(
            "document",
            entry("Composition", "c", relatesTo=[{"targetReference": to("Composition/d")}]),
        ),
        bundle("document", entry("Composition", "c", custodian=to("Organization/d"))),
        [("error", "not-found", "Bundle.entry[0].resource.custodian")],
    ),
    "another composition in a document": (
        bundle(
            "document",
            entry("Composition", "c", section=[{"entry": [to("Composition/d")]}]),
            entry("Composition", "d", subject=to("Patient/q")),
        ),
        bundle("document", entry("Composition", "c", subject=to(f"{OTHER}/Patient/p")), PATIENT),
        [
            ("error", "not-found", "Bundle.entry[0].resource.subject"),
            ("warning", "informational", "Bundle.entry[1]"),
        ],
    ),
    "unreached": (
        bundle("document", COMPOSITION, PATIENT, entry("Provenance", "v"), entry("Binary", "s")),
        bundle("document", COMPOSITION, PATIENT, entry("Device", "d")),
        [("warning", "informational", "Bundle.entry[2]")],
    ),
    "reached by who refers to it": (
        bundle("document", COMPOSITION, PATIENT, seen("Patient/p")),
        bundle("document", COMPOSITION, PATIENT, seen("Patient/q")),
        [("warning", "informational", "Bundle.entry[2]")],
    ),
    "a message without its focus": (
        bundle("message", HEADER, PATIENT),
        bundle("message", HEADER),
        [("error", "not-found", "Bundle.entry[0].resource.focus[0]")],
    ),
    "unreached in a message": (
        bundle("message", HEADER, PATIENT, seen("Patient/p")),
        bundle("message", HEADER, PATIENT, entry("Device", "d")),
        [("warning", "informational", "Bundle.entry[2]")],
    ),
    "a match without an id": (
        bundle("searchset", entry("Patient", "p", search="match")),
        bundle("searchset", entry("Patient", None, ONE, "match")),
        [("error", "invalid", "Bundle.entry[0].resource")],
    ),
    "an outcome as a match": (
        bundle("searchset", entry("OperationOutcome", None, "", "outcome")),
        bundle("searchset", entry("OperationOutcome", "w", "", "match")),
        [("error", "invalid", "Bundle.entry[0].resource")],
    ),
    "a match as an outcome": (
        bundle("searchset", entry("Patient", "p", search="include")),
        bundle("searchset", entry("Patient", "p", search="outcome")),
        [("error", "invalid", "Bundle.entry[0].resource")],
    ),
    "a target of another type": (
        bundle("collection", seen(ONE), entry("Patient", None, ONE)),
        bundle("collection", seen(ONE), entry("Practitioner", None, ONE)),
        [("error", "structure", "Bundle.entry[0].resource.subject")],
    ),
    "a target of another type in a document": (
        bundle(
            "document",
            entry("Composition", "c", author=[to(ONE)]),
            entry("Practitioner", None, ONE),
        ),
        bundle(
            "document",
            entry("Composition", "c", author=[to(ONE)]),
            entry("Observation", None, ONE),
        ),
        [("error", "structure", "Bundle.entry[0].resource.author[0]")],
    ),
    "a target of another type within a choice": (
        bundle(
            "transaction",
            entry("MedicationRequest", "m", medicationReference=to(ONE)),
            entry("Medication", None, ONE),
        ),
        bundle(
            "transaction",
            entry("MedicationRequest", "m", medicationReference=to(ONE)),
            entry("Substance", None, ONE),
        ),
        [("error", "structure", "Bundle.entry[0].resource.medicationReference")],
    ),
    "a target of another type deep within": (
        bundle(
            "batch",
            entry(
                "Questionnaire",
                "q",
                contained=[
                    {
                        "resourceType": "CarePlan",
                        "activity": [{"detail": {"performer": [to(ONE)], "location": to(TWO)}}],
                    }
                ],
            ),
            entry("Practitioner", None, ONE),
            entry("Location", None, TWO),
        ),
        bundle(
            "batch",
            entry(
                "Questionnaire",
                "q",
                contained=[
                    {
                        "resourceType": "CarePlan",
                        "activity": [{"detail": {"performer": [to(ONE)], "location": to(TWO)}}],
                    }
                ],
            ),
            entry("Location", None, ONE),
            entry("Practitioner", None, TWO),
        ),
        [
            (
                "error",
                "structure",
                f"Bundle.entry[0].resource.contained[0].activity[0].detail.{each}",
            )
            for each in ("performer[0]", "location")
        ],
    ),
    "a reference that calls its target another type": (
        bundle(
            "collection",
            entry("Observation", "o", subject={**to(ONE), "type": "Patient"}),
            entry("Patient", None, ONE),
        ),
        bundle(
            "collection",
            entry("Observation", "o", subject={**to(ONE), "type": "Group"}),
            entry("Patient", None, ONE),
        ),
        [("error", "structure", "Bundle.entry[0].resource.subject.type")],
    ),
    "a request for another type": (
        bundle("transaction", {**PATIENT, "request": {"method": "POST", "url": "Patient"}}),
        bundle("transaction", {**PATIENT, "request": {"method": "POST", "url": "Observation"}}),
        [("error", "invalid", "Bundle.entry[0].request.url")],
    ),
    "an update of another type": (
        bundle("batch", {**PATIENT, "request": {"method": "PUT", "url": "Patient/p"}}),
        bundle("batch", {**PATIENT, "request": {"method": "PUT", "url": "Group?_id=p"}}),
        [("error", "invalid", "Bundle.entry[0].request.url")],
    ),
    "nothing to create": (
        bundle("transaction", {"request": {"method": "DELETE", "url": "Patient/p"}}),
        bundle("transaction", {"request": {"method": "POST", "url": "Patient"}}),
        [("error", "required", "Bundle.entry[0]")],
    ),
    "nothing to update": (
        bundle("batch", {"request": {"method": "GET", "url": "Patient/p"}}),
        bundle("batch", {"request": {"method": "PUT", "url": "Patient/p"}}),
        [("error", "required", "Bundle.entry[0]")],
    ),
}

PATCH = {
    "patch": {**entry("Parameters", url=""), "request": {"method": "PATCH", "url": "Patient/p"}},
    "JSON Patch": {**entry("Binary", url=""), "request": {"method": "PATCH", "url": "Patient/p"}},
    "operation": {**entry("Parameters", url=""), "request": {"method": "POST", "url": "$convert"}},
    "operation of a type": {
        **entry("Parameters", url=""),
        "request": {"method": "POST", "url": "Patient/$match"},
    },
    "operation without parameters": {"request": {"method": "POST", "url": "Patient/p/$everything"}},
    "search": {"request": {"method": "POST", "url": "Patient/_search"}},
    "bundle": {**entry("Bundle", url=""), "request": {"method": "POST", "url": "/"}},
}


@pytest.mark.parametrize("name", PATCH)
def test_what_is_asked_of_a_type_may_come_with_another(name):
    assert check(bundle("batch", PATCH[name])) == []


@pytest.mark.parametrize("name", CASES)
def test_the_entries_of_a_bundle_fit_each_other(name):
    fair, fault, said = CASES[name]
    assert check(fair) == []
    assert check(fault) == said


def test_the_entries_of_a_bundle_within_refer_to_each_other():
    inner = bundle("transaction", entry("Patient", None, ONE), seen(ONE))
    outer = bundle("collection", {"fullUrl": TWO, "resource": inner})
    assert check(outer) == []
    assert check(
        bundle("collection", {**seen(ONE), "resource": inner["entry"][1]["resource"]})
    ) == [("warning", "not-found", "Bundle.entry[0].resource.subject")]


def test_a_reference_from_what_has_no_address_finds_type_and_id():
    there = entry("Observation", None, ONE, subject=to("Patient/p"))
    head = entry("Composition", None, TWO, section=[{"entry": [to(ONE)]}])
    assert check(bundle("document", head, there, PATIENT)) == []
    assert check(bundle("document", head, there, entry("Patient", "q"))) == [
        ("warning", "informational", "Bundle.entry[2]")
    ]


@pytest.mark.parametrize("kind", [None, 5, [], {}, ["document"], "unknown"])
def test_a_bundle_of_no_known_type_is_told_elsewhere(kind):
    assert check(bundle(kind, PATIENT, seen(ONE))) == []


ALL = [each for fair, fault, _ in CASES.values() for each in (fair, fault)]


@settings(max_examples=200, deadline=None)
@given(mutants(ALL))
def test_nothing_that_is_malformed_raises(mutated):
    for each in mutated:
        if isinstance(each, dict):
            assert all(isinstance(issue, Issue) for issue in bundles.check(each))


def test_ten_thousand_entries_of_one_name_cost_no_more_than_others():
    """Each of them compared with each would take minutes."""
    many = [PATIENT] * 10_000, [seen("Patient/p")] * 10_000
    found = bundles.check(bundle("document", COMPOSITION, *many[0], *many[1]))
    assert len(found) == 100
    assert bundles.check(bundle("document", COMPOSITION, PATIENT, *many[1]), 5) == []
