"""What names the erased goes from a resource, and what is left is valid and means no more than before."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from conformance.definitions import load
from conformance.json import encode
from conformance.validator import Validator
from fhir_server.erasure.cut import REDACTED, Cut

CORE = SimpleNamespace(validator=Validator(load()), base_url="http://here/fhir")
NAMES = [("Patient", "ann"), ("Observation", "o1"), ("Binary", "b1")]
CUT = Cut(NAMES, [("urn:mrn", "MRN-1")], CORE)
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
        resource("Task", **TASK, **inner(focus=ANN)),
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
