"""What names the erased goes from a resource, and what is left is valid and means no more than before."""

from __future__ import annotations

from datetime import UTC
from types import SimpleNamespace

import pytest

from conformance.definitions import load
from conformance.json import encode
from conformance.validator import Validator
from fhir_server.erasure.cut import REDACTED, Cut
from fhir_server.search.index import Index

HERE = "http://here/fhir"
CORE = SimpleNamespace(
    validator=Validator(load()),
    base_url=HERE,
    definitions=load(),
    index=Index(load(), HERE, UTC),
)
NAMES = [("Patient", "ann"), ("Observation", "o1"), ("Binary", "b1")]
CUT = Cut(NAMES, [("urn:mrn", "MRN-1"), (None, "1")], CORE)
ANN, BOB = {"reference": "Patient/ann"}, {"reference": "Patient/bob"}
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
MASKED = {"extension": [{"url": ABSENT, "valueCode": "masked"}]}
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">Ann</div>'
TEXT = {"status": "generated", "div": DIV}


def resource(type, /, **content):
    return {"resourceType": type, "id": "x", **content}


def coded(code):
    return {"coding": [{"code": code}]}


TASK = {"status": "requested", "intent": "order"}


def inner(**content):
    contained = {"resourceType": "Task", "id": "c", **TASK, **content}
    return {"contained": [contained], "partOf": [{"reference": "#c"}]}


CASES = [
    ("a single element", resource("Task", **TASK, focus=ANN), resource("Task", **TASK)),
    (
        "by its whole address, or a version of it",
        resource(
            "Account",
            status="active",
            subject=[
                {"reference": "http://here/fhir/Patient/ann"},
                {"reference": "Patient/ann/_history/3"},
                BOB,
            ],
        ),
        resource("Account", status="active", subject=[BOB]),
    ),
    (
        "by an identifier",
        resource(
            "Account",
            status="active",
            subject=[{"identifier": {"system": "urn:mrn", "value": "MRN-1"}}, BOB],
        ),
        resource("Account", status="active", subject=[BOB]),
    ),
    (
        "the item of a list that stands for it, with its narrative",
        resource(
            "Group",
            type="person",
            actual=True,
            text=TEXT,
            member=[{"entity": ANN, "inactive": False}, {"entity": BOB}],
        ),
        resource("Group", type="person", actual=True, member=[{"entity": BOB}]),
    ),
    (
        "an extension that names it",
        resource("Task", **TASK, extension=[{"url": "urn:x", "valueReference": ANN}]),
        resource("Task", **TASK),
    ),
    (
        "in what is contained",
        resource("Task", **TASK, **inner(reasonReference=ANN)),
        resource("Task", **TASK, **inner()),
    ),
    (
        "the address of a file",
        resource(
            "DocumentReference",
            status="current",
            content=[{"attachment": {"contentType": "text/plain", "url": "Binary/b1"}}],
        ),
        resource(
            "DocumentReference",
            status="current",
            content=[{"attachment": {"contentType": "text/plain"}}],
        ),
    ),
    (
        "in words",
        resource("Task", **TASK, description="Observation/o1, Observation/o12, Patient/ann."),
        resource("Task", **TASK, description="erased, Observation/o12, erased."),
    ),
    (
        "where one is required, masked",
        resource("DeviceUseStatement", status="active", subject=BOB, device=ANN),
        resource("DeviceUseStatement", status="active", subject=BOB, device=MASKED),
    ),
    (
        "where it narrows a consent, masked",
        resource(
            "Consent",
            status="active",
            scope=coded("a"),
            category=[coded("b")],
            policyRule=coded("c"),
            provision={"data": [{"meaning": "instance", "reference": ANN}]},
        ),
        resource(
            "Consent",
            status="active",
            scope=coded("a"),
            category=[coded("b")],
            policyRule=coded("c"),
            provision={"data": [{"meaning": "instance", "reference": MASKED}]},
        ),
    ),
]


@pytest.mark.parametrize(("given", "left"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_what_names_the_erased_goes(given, left):
    assert CUT.touches(encode(given))
    assert CUT.without(given) == left
    issues = CORE.validator.validate(CUT.without(given))
    assert [each for each in issues if each.severity in ("error", "fatal")] == []
    assert not CUT.touches(encode(CUT.without(given)))
    redacted = CUT.redacted(given)
    assert redacted["meta"]["security"] == [REDACTED]
    assert {n: v for n, v in redacted.items() if n != "meta"} == left


AGENT = {"recorded": "2026-01-01T10:00:00Z", "agent": [{"who": {"display": "x"}}]}


# --- what stands inside others -------------------------------------------------------------------

PERSON = {"resourceType": "Patient", "name": [{"family": "Ann"}]}
MRN = {"identifier": [{"system": "urn:mrn", "value": "MRN-1"}]}
URN = "urn:uuid:0190a1b2-7777-4abc-8def-00000000a44a"
CODE = {"status": "final", "code": {"text": "x"}}


def bundle(*entries, type="collection"):
    made = [{"fullUrl": url, "resource": each} for url, each in entries]
    return resource("Bundle", type=type, entry=made)


def finding(id, **content):
    return resource("Observation", **CODE, **content) | {"id": id}


BOBS = (f"{HERE}/Observation/o9", finding("o9", subject=BOB))
INSIDE = [
    (
        "a patient in a Bundle by its id",
        bundle((f"{HERE}/Patient/ann", PERSON | {"id": "ann"}), BOBS),
    ),
    ("without an address", bundle(("urn:uuid:" + URN[-36:], PERSON | {"id": "ann"}), BOBS)),
    (
        "by an identifier, with what is about it by its address there",
        bundle((URN, PERSON | MRN), ("urn:x:1", finding("o7", subject={"reference": URN})), BOBS),
    ),
    (
        "of another server, with what is about it by its id there",
        bundle(
            ("http://there/fhir/Patient/77", PERSON | MRN | {"id": "77"}),
            (
                "http://there/fhir/Observation/o7",
                finding("o7", subject={"reference": "Patient/77"}),
            ),
            BOBS,
        ),
    ),
    (
        "what is about it, whoever performs it",
        bundle((f"{HERE}/Observation/o8", finding("o8", subject=ANN, performer=[BOB])), BOBS),
    ),
    ("what is theirs by another element", bundle((URN, finding("o8", performer=[ANN])), BOBS)),
    ("another resource that is gone", bundle((f"{HERE}/Observation/o1", finding("o1")), BOBS)),
]


@pytest.mark.parametrize("given", [c[1] for c in INSIDE], ids=[c[0] for c in INSIDE])
def test_who_is_erased_goes_from_a_bundle_of_others(given):
    assert CUT.touches(encode(given))
    assert CUT.without(given) == bundle(BOBS)
    alone = {**given, "entry": given["entry"][:-1]}
    assert CUT.without(alone) is None


def test_a_document_or_message_goes_with_its_head():
    head = (URN, finding("o8", subject=ANN))
    for type in ("document", "message"):
        assert CUT.without(bundle(head, BOBS, type=type)) is None
        assert CUT.without(bundle(BOBS, head, type=type)) == bundle(BOBS, type=type)


def test_who_is_erased_goes_from_parameters_and_from_what_is_contained():
    other = {"name": "b", "valueString": "x"}
    parts = [{"name": "a", "resource": PERSON | {"id": "ann"}}, other]
    assert CUT.without(resource("Parameters", parameter=parts)) == resource(
        "Parameters", parameter=[other]
    )
    assert CUT.without(resource("Parameters", parameter=parts[:1])) is None
    nested = [{"name": "c", "part": parts}]
    assert CUT.without(resource("Parameters", parameter=nested)) == resource(
        "Parameters", parameter=[{"name": "c", "part": [other]}]
    )
    contained = [
        PERSON | MRN | {"id": "c1"},
        finding("c2", subject={"reference": "#c1"}),
        {"resourceType": "Practitioner", "id": "c3"},
    ]
    refers = {
        "subject": {"reference": "#c1"},
        "hasMember": [{"reference": "#c2"}],
        "performer": [{"reference": "#c3"}],
    }
    given = resource("Observation", **CODE, contained=contained, **refers)
    left = resource("Observation", **CODE, contained=contained[2:], performer=refers["performer"])
    assert CUT.without(given) == left


@pytest.mark.parametrize(
    "given",
    [
        bundle(("http://there/fhir/Patient/ann", PERSON | {"id": "ann"}), BOBS),
        bundle((URN, {**PERSON, "identifier": [{"system": "urn:other", "value": "MRN-1"}]})),
        bundle((URN, {**PERSON, "identifier": [{"value": "1"}]})),
        resource(
            "Observation",
            **CODE,
            contained=[PERSON | {"id": "ann"}],
            subject={"reference": "#ann"},
        ),
        bundle((URN, {"resourceType": "Practitioner", "id": "ann", **MRN})),
    ],
    ids=["elsewhere", "another system", "no system", "an id of its own", "no patient"],
)
def test_who_is_somebody_else_stays_inside(given):
    assert CUT.without(given) is given


# --- by identifiers ------------------------------------------------------------------------------

BY = {"identifier": {"system": "urn:mrn", "value": "MRN-1"}, "display": "Ann"}
ANYBODY = {"identifier": {"value": "1"}}
ORDER = {
    "status": "active",
    "intent": "order",
    "medicationCodeableConcept": {"text": "x"},
    "subject": BOB,
}


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (finding("x", performer=[BY | {"type": "Patient"}]), finding("x")),
        (finding("x", subject=BY), finding("x")),
        (
            resource("Communication", status="completed", about=[BY | {"type": "Patient"}, BOB]),
            resource("Communication", status="completed", about=[BOB]),
        ),
        (
            resource("Patient", link=[{"other": BOB, "type": "seealso"}], generalPractitioner=[BY]),
            None,
        ),
        (finding("x", performer=[BY]), None),
        (finding("x", subject=BOB, performer=[BY | {"type": "Practitioner"}]), None),
        (finding("x", subject=BY | {"type": "Group"}), None),
        (finding("x", subject=ANYBODY), None),
        (finding("x", extension=[{"url": "urn:x", "valueReference": BY}]), None),
        (resource("MedicationRequest", **ORDER, requester=BY, text=TEXT), None),
    ],
)
def test_by_identifier_goes_only_what_can_be_nothing_but_a_patient(given, left):
    assert CUT.without(given) == (given if left is None else left)


# --- what is about it ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        finding("x", subject=ANN, performer=[BOB], valueString="Ann has it"),
        resource("Task", **TASK, **{"for": ANN, "requester": BOB}),
        resource(
            "Coverage", status="active", beneficiary=ANN, subscriber=BOB, payor=[{"display": "x"}]
        ),
        resource("Consent", patient=ANN, performer=[BOB]),
    ],
)
def test_what_is_about_it_goes_whoever_takes_part(given):
    assert CUT.without(given) is None
    assert CUT.redacted(given) == {
        "resourceType": given["resourceType"],
        "id": "x",
        "meta": {"security": [REDACTED]},
    }


def test_what_is_about_another_stays_without_it():
    given = finding("x", subject=BOB, performer=[ANN])
    assert CUT.without(given) == finding("x", subject=BOB)


@pytest.mark.parametrize(
    "given",
    [
        resource("Provenance", target=[ANN, {"reference": "Observation/o1"}], **AGENT),
        resource("Binary", contentType="text/plain", data="AAAA", securityContext=ANN),
    ],
)
def test_what_is_about_nothing_else_goes_wholly(given):
    assert CUT.without(given) is None
    assert not CUT.touches(encode(CUT.redacted(given)))


def test_what_others_signed_together_with_it_loses_the_signature():
    signature = {
        "type": [{"code": "x"}],
        "when": "2026-01-01T10:00:00Z",
        "who": BOB,
        "data": "AAAA",
    }
    given = resource("Provenance", target=[ANN, BOB], **AGENT, signature=[signature])
    assert CUT.without(given) == resource("Provenance", target=[BOB], **AGENT)


@pytest.mark.parametrize(
    "given",
    [
        resource("Account", status="active", subject=[BOB], text=TEXT),
        resource("Task", **TASK, focus={"reference": "Patient/anna"}),
        resource("Task", **TASK, focus={"reference": "http://there/fhir/Patient/anne"}),
        resource("Task", **TASK, identifier=[{"system": "urn:other", "value": "MRN-1"}]),
    ],
)
def test_what_does_not_name_it_stays_the_same_object(given):
    assert CUT.without(given) is given
    assert CUT.redacted(given) is given


def test_another_servers_patient_of_that_name_is_somebody_else():
    given = resource("Task", **TASK, focus={"reference": "http://there/fhir/Patient/ann"})
    assert CUT.without(given) is given
