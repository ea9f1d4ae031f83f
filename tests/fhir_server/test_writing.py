"""Profiles on a write, by policy: nothing, a warning, or a refusal; by type and by profile."""

import asyncio
import json
from dataclasses import replace

import pytest

from conformance.json import encode
from conformance.outcome import FhirError
from conformance.packages import Packages, read
from fhir_server.audit.event import Caller
from fhir_server.interaction import Interaction, Preferences
from fhir_server.packages import Guides
from fhir_server.packages.guides import Current
from fhir_server.server import Server
from fhir_server.storage.memory import MemoryStore
from fhir_server.writing import Writing, writing
from smart_auth.grant import Grant
from tests.conformance.small import OWN, profile
from tests.conformance.test_packages import guide
from tests.conformance.test_profile_budgets import NESTED, PERSON
from tests.security.clinic import core
from tests.shared import shared

US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"
PATIENT = {"resourceType": "Patient", "gender": "female", "meta": {"profile": [US_CORE]}}
TOLD = Preferences(returns="OperationOutcome")


@pytest.fixture(scope="module")
def guides():
    package = read(shared("packages/hl7.fhir.us.core-6.1.0.tgz").read_bytes())
    made = Guides()
    made.current = Current(Packages([package]))
    return made


@pytest.fixture
def created(guides):
    """Creates a resource under a policy: the issues that are told, or the refusal's."""

    def create(words, resource=PATIENT, prefer=TOLD, known=guides):
        policy = writing(words.split())
        server = Server(MemoryStore(), replace(core(), guides=known, writing=policy))
        asked = Interaction("create", resource["resourceType"], resource=resource, prefer=prefer)
        caller = Caller(Grant.open(), "127.0.0.1", "here")
        try:
            result = asyncio.run(server.perform(asked, caller))
        except FhirError as error:
            return error.status, [(each.severity, each.expression) for each in error.issues]
        issues = json.loads(result.body)["issue"] if prefer is TOLD else []
        return result.status, [
            (each["severity"], each.get("expression", [None])[0])
            for each in issues
            if each["code"] == "required"
        ]

    return create


LACKS = [("error", "Patient")] * 2  # identifier and name
WARNED = [("warning", "Patient")] * 2


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("off", (201, [])),
        ("warn", (201, WARNED)),
        ("enforce", (422, LACKS)),
        ("warn Patient=enforce", (422, LACKS)),
        ("enforce Patient=warn", (201, WARNED)),
        ("enforce Observation=off Patient=off", (201, [])),
        (f"off {US_CORE}=enforce", (422, LACKS)),
        (f"off {US_CORE}|6.1.0=enforce", (201, [])),
        (f"enforce {US_CORE}=warn", (201, WARNED)),
        (f"warn Patient=enforce {US_CORE}=off", (201, [])),
    ],
)
def test_what_is_made_of_a_claimed_profile_is_policy(created, words, answer):
    status, issues = created(words)
    assert (status, [each for each in issues if each[1] == "Patient"][:2]) == answer


def test_who_does_not_ask_is_not_told_and_nothing_is_refused(created):
    assert created("warn", prefer=Preferences()) == (201, [])


def test_what_is_enforced_is_enforced_whoever_asks(created):
    assert created("enforce", prefer=Preferences())[0] == 422


def test_what_claims_nothing_and_what_meets_its_claim_is_stored(created):
    assert created("enforce", {"resourceType": "Patient"})[0] == 201
    fair = {
        **PATIENT,
        "identifier": [{"system": "http://clinic.example", "value": "1"}],
        "name": [{"family": "A"}],
    }
    assert created("enforce", fair)[0] == 201


def test_a_claim_that_nobody_knows_is_stored_with_a_warning(created):
    patient = {"resourceType": "Patient", "meta": {"profile": ["http://clinic.example/x"]}}
    assert created("enforce", patient)[0] == 201


def test_what_is_too_costly_to_check_is_not_let_through_where_it_is_enforced(created):
    """A rule that nobody can evaluate would else be a way past every other rule."""
    rule = {"key": "own-1", "severity": "error", "human": "A rule", "expression": NESTED}
    costly = profile("costly", "Patient", ("Patient", {"constraint": [rule]}))
    known = Guides()
    known.current = Current(Packages([read(guide(encode(costly)))]))
    claims = {**PERSON, "meta": {"profile": [OWN + "costly"]}}

    assert created("enforce", claims, Preferences(), known)[0] == 422
    assert created("enforce Patient=warn", claims, Preferences(), known)[0] == 201
    fair, wrong = ({**claims, "name": [{"given": [name]}]} for name in ("a", "zz"))
    assert created("enforce", fair, Preferences(), known) == (201, [])
    assert created("enforce", wrong, Preferences(), known) == (422, [("error", "Patient")])


def test_a_policy_is_read_from_words():
    assert writing(["warn"]) == Writing()
    assert writing(["enforce", "Patient=off", "http://a.example/p|1=warn"]) == Writing(
        "enforce", {"Patient": "off"}, {"http://a.example/p|1": "warn"}
    )
    with pytest.raises(ValueError, match="Patient=never"):
        writing(["Patient=never"])
    assert (Writing().enforces, Writing(types={"Patient": "enforce"}).enforces) == (False, True)


@pytest.mark.parametrize("words", ["enforce", "warn"])
def test_a_claim_that_is_none_but_an_extension_is_no_claim(created, words):
    extension = [{"url": "http://clinic.example/e", "valueString": "x"}]
    meta = {"profile": [None], "_profile": [{"extension": extension}]}
    assert created(words, {"resourceType": "Patient", "meta": meta})[0] == 201


def test_more_claims_than_anybody_means_are_refused_where_they_count(created):
    claims = [f"http://clinic.example/{number}" for number in range(101)]
    few, many = (
        {"resourceType": "Patient", "meta": {"profile": each}} for each in (claims[1:], claims)
    )
    assert created("enforce", few)[0] == 201
    assert created("enforce", many) == (422, [("error", "Patient.meta.profile")])
    assert created("off", many, Preferences())[0] == 201
