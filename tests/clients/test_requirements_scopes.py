"""What is granted of what was asked: by a patient and by a practitioner, whole and in part, in
either version of the syntax. https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.clients.smart import REDIRECT, launched
from tests.clients.us_core import LIMITED_TYPES, OTHER_TYPES, PATIENT_TYPES

STANDALONE = "launch/patient openid fhirUser offline_access"
EHR = "launch openid fhirUser offline_access"
LETTERS = {"version 1": "read", "version 2": "rs"}


@pytest.fixture(scope="module")
def client(demo):
    demo.register("kit", "--redirect-uri", REDIRECT, "--launch-uri", "https://app.example/launch")
    return "kit"


def asked(context, types, letters):
    return " ".join(f"{context}/{type}.{letters}" for type in types)


@pytest.mark.parametrize("letters", LETTERS.values(), ids=LETTERS)
@pytest.mark.requirement("R1", "R2", "R4", "R5", "P1", "S3")
def test_a_patient_is_granted_all_that_was_asked_as_it_was_asked(demo, client, letters):
    scope = f"{STANDALONE} {asked('patient', [*PATIENT_TYPES, *OTHER_TYPES], letters)}"

    assert launched(demo, client, scope, "patient")["scope"].split() == scope.split()


@pytest.mark.parametrize("letters", LETTERS.values(), ids=LETTERS)
@pytest.mark.requirement("R1", "R3", "R4", "R5", "P1")
def test_a_practitioner_is_granted_all_that_was_asked_for_the_user(demo, client, patients, letters):
    scope = f"{EHR} {asked('user', [*PATIENT_TYPES, *OTHER_TYPES], letters)}"

    token = launched(demo, client, scope, patient=patients[1], ehr=True)
    assert token["scope"].split() == scope.split()
    assert token["patient"] == patients[1]


@pytest.mark.requirement("R6", "A6", "T5")
def test_an_ehr_launch_with_a_patient_scope_has_the_scope_and_the_patient(demo, client, patients):
    scope = f"{EHR} patient/Patient.rs"

    token = launched(demo, client, scope, patient=patients[1], ehr=True)
    assert token["scope"].split() == scope.split()
    assert token["patient"] == patients[1]
    assert token["need_patient_banner"] is True
    assert httpx.get(token["smart_style_url"]).status_code == 200


@pytest.mark.parametrize(
    "kept",
    [("Patient", "Condition", "Observation"), ("Device", "Patient", "MedicationRequest")],
    ids=" ".join,
)
@pytest.mark.parametrize("letters", LETTERS.values(), ids=LETTERS)
@pytest.mark.requirement("R7", "A8", "P4", "58")
def test_with_some_types_unticked_exactly_the_others_are_granted(demo, client, kept, letters):
    refused = tuple(f"see.{type}" for type in LIMITED_TYPES if type not in kept)
    scope = f"{STANDALONE} {asked('patient', LIMITED_TYPES, letters)}"

    token = launched(demo, client, scope, "patient", untick=refused)
    granted = token["scope"].split()
    expected = asked("patient", [type for type in LIMITED_TYPES if type in kept], letters)
    assert granted == [*STANDALONE.split(), *expected.split()]


@pytest.mark.parametrize("letters", LETTERS.values(), ids=LETTERS)
@pytest.mark.requirement("R7", "S8", "57", "58")
def test_a_wildcard_with_types_unticked_is_answered_without_them(demo, client, letters):
    refused = ("see.Device", "see.Encounter", "see.Observation")
    scope = f"{STANDALONE} patient/*.{letters}"

    token = launched(demo, client, scope, "patient", untick=refused)
    clinical = [each for each in token["scope"].split() if each.startswith("patient/")]
    assert clinical
    # As the official kit compares: by how a scope begins.
    for type in ("*", "Device", "Encounter", "Observation"):
        assert not any(each.startswith(f"patient/{type}") for each in clinical), type
    assert f"patient/Patient.{letters}" in clinical
    with demo.fhir(token["access_token"]) as fhir:
        assert fhir.get("/Patient").status_code == 200
        for type in ("Device", "Encounter", "Observation"):
            assert fhir.get(f"/{type}").status_code == 403


@pytest.mark.requirement("R8", "R4", "A9", "T4")
def test_what_was_refused_or_is_unknown_is_left_out_and_the_launch_goes_on(demo, client):
    scope = f"{STANDALONE} profile fhir_complete patient/Patient.rs patient/Condition.rs"

    token = launched(demo, client, scope, "patient", untick=("offline", "see.Condition"))
    assert token["scope"] == "launch/patient openid fhirUser patient/Patient.rs"
    assert "refresh_token" not in token


@pytest.mark.requirement("P4", "S7", "30")
def test_a_client_is_granted_what_it_is_registered_for_at_most(demo):
    demo.register(
        "modest", "--redirect-uri", REDIRECT, "--scope", "launch/patient patient/Observation.rs"
    )

    token = launched(
        demo, "modest", "launch/patient openid patient/*.cruds patient/Observation.rs", "patient"
    )
    assert token["scope"] == "launch/patient patient/Observation.rs"


@pytest.mark.requirement("P3", "R1")
def test_clinical_notes_can_be_asked_for_by_themselves(demo, client):
    notes = (
        "patient/DocumentReference.rs?category="
        "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category|clinical-note"
    )

    assert launched(demo, client, f"{STANDALONE} {notes}", "patient")["scope"].endswith(notes)


@pytest.mark.requirement("P1", "P2", "P3", "D9")
def test_every_scope_of_us_core_is_listed(demo):
    from tests.clients.us_core import SCOPES

    with demo.fhir("") as anybody:
        found = anybody.get(f"{demo.url}/.well-known/smart-configuration").json()
    listed = set(found["scopes_supported"])

    for context in ("patient", "user", "system"):
        for type in (*PATIENT_TYPES, *OTHER_TYPES):
            assert f"{context}/{type}.rs" in listed
        for scope in SCOPES:
            assert scope.replace("patient/", f"{context}/", 1) in listed


@pytest.mark.requirement("31", "A3")
def test_every_answer_names_its_issuer_so_that_two_servers_are_not_mixed_up(demo, client):
    asked = {"client_id": client, "redirect_uri": REDIRECT, "state": "s", "response_type": "code"}
    wrong = httpx.get(f"{demo.base}/oauth/authorize", params={**asked, "aud": "https://b.example"})

    assert wrong.status_code == 303
    answer = parse_qs(urlsplit(wrong.headers["location"]).query)
    assert answer.pop("error_description")
    assert answer == {"error": ["invalid_request"], "state": ["s"], "iss": [demo.url]}
    launched(demo, client, f"{STANDALONE} patient/Patient.rs", "patient")  # which looks for `iss`
