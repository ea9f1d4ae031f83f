"""The FHIR API as the official kits meet it with a token: whole, limited, ended, and with none.

https://hl7.org/fhir/smart-app-launch/app-launch.html#access-fhir-api
"""

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.clients.forms import forms
from tests.clients.smart import REDIRECT, launched
from tests.clients.us_core import FIRST_SEARCHES, LIMITED_TYPES, OTHER_TYPES, PATIENT_TYPES

STANDALONE = "launch/patient openid fhirUser offline_access"
TYPES = [*PATIENT_TYPES, *OTHER_TYPES]
KEPT = ("Patient", "Condition", "Observation")


@pytest.fixture(scope="module")
def client(demo):
    demo.register("kit-api", "--redirect-uri", REDIRECT)
    return "kit-api"


@pytest.fixture(scope="module")
def full(demo, client):
    """A patient who shares everything that was asked for."""
    scope = " ".join(f"patient/{type}.rs" for type in TYPES)
    return launched(demo, client, f"{STANDALONE} {scope}", "patient")


@pytest.fixture(scope="module")
def limited(demo, client):
    """A patient who shares three types."""
    scope = " ".join(f"patient/{type}.rs" for type in LIMITED_TYPES)
    refused = tuple(f"see.{type}" for type in LIMITED_TYPES if type not in KEPT)
    return launched(demo, client, f"{STANDALONE} {scope}", "patient", untick=refused)


@pytest.mark.requirement("F1", "F7", "M1")
def test_without_a_token_a_read_is_401(demo, patients):
    answer = httpx.get(f"{demo.url}/Patient/{patients[0]}")

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer realm=")
    assert answer.json()["issue"][0]["code"] == "login"


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.requirement("F2", "R5", "F4")
def test_with_full_access_the_first_search_of_every_type_is_200(demo, patients, full, type):
    query = FIRST_SEARCHES[type].format(patient=patients[0])
    with demo.fhir(full["access_token"]) as fhir:
        answer = fhir.get(f"/{type}?{query}")

    assert answer.status_code == 200, answer.text
    assert answer.json()["type"] == "searchset"


@pytest.mark.parametrize("type", LIMITED_TYPES)
@pytest.mark.requirement("F3", "M4", "58", "E4")
def test_with_limited_access_what_was_ticked_is_200_and_the_rest_403(demo, patients, limited, type):
    query = FIRST_SEARCHES[type].format(patient=patients[0])
    with demo.fhir(limited["access_token"]) as fhir:
        answer = fhir.get(f"/{type}?{query}")

    if type in KEPT:
        assert answer.status_code == 200
    else:
        assert answer.status_code == 403
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
        assert answer.json()["issue"][0]["code"] == "forbidden"


@pytest.mark.requirement("F4")
def test_no_search_demands_a_status(demo, patients, full):
    with demo.fhir(full["access_token"]) as fhir:
        for query in (
            f"MedicationRequest?patient={patients[0]}&intent=order",
            f"CareTeam?patient={patients[0]}",
            f"Observation?patient={patients[0]}&category=laboratory",
        ):
            assert fhir.get(f"/{query}").status_code == 200


@pytest.mark.requirement("F5", "V2", "M2", "Z5", "T9")
def test_after_the_patient_ended_it_nothing_works_at_once(demo, patients):
    client = "kit-ended"
    demo.register(client, "--redirect-uri", REDIRECT)
    person = demo.browser("patient")
    scope = f"{STANDALONE} patient/Patient.rs"
    token = launched(demo, client, scope, "patient")
    refresh = {
        "grant_type": "refresh_token",
        "refresh_token": token["refresh_token"],
        "client_id": client,
    }
    with demo.fhir(token["access_token"]) as fhir:
        assert fhir.get(f"/Patient/{patients[0]}").status_code == 200

        page = person.http.get(f"{demo.base}/account/apps")
        form = next(each for each in forms(page) if ("client", client) in each.offered)
        answer = person.http.post(form.action, data=dict(form.filled({"client": client})))
        assert answer.status_code == 303

        ended = fhir.get(f"/Patient/{patients[0]}")
        assert ended.status_code == 401
        assert 'error="invalid_token"' in ended.headers["www-authenticate"]
    again = httpx.post(f"{demo.base}/oauth/token", data=refresh)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


@pytest.mark.requirement("F6", "M5", "S9", "2")
def test_a_search_for_another_patient_is_200_and_empty(demo, patients, full):
    with demo.fhir(full["access_token"]) as fhir:
        for query in (
            f"Patient?_id={patients[1]}",
            f"Observation?patient={patients[1]}",
            f"Condition?subject=Patient/{patients[1]}&_total=accurate",
        ):
            answer = fhir.get(f"/{query}")
            assert (answer.status_code, answer.json().get("total", 0)) == (200, 0)
            assert "entry" not in answer.json()


@pytest.mark.requirement("F7", "M8")
def test_each_fault_has_its_status(demo, patients, full):
    with demo.fhir(full["access_token"]) as fhir:
        statuses = {
            "wrong value": fhir.get("/Observation?date=tomorrow").status_code,
            "wrong parameter": fhir.get("/Observation?colour=blue").status_code,
            "no scope": fhir.get("/Task").status_code,
            "absent": fhir.get("/Observation/none").status_code,
            "another's": fhir.get(f"/Patient/{patients[1]}").status_code,
            "bad token": httpx.get(
                f"{demo.url}/Patient", headers={"Authorization": "Bearer garbage"}
            ).status_code,
        }

    assert statuses == {
        "wrong value": 400,
        "wrong parameter": 400,
        "no scope": 403,
        "absent": 404,
        "another's": 404,
        "bad token": 401,
    }


@pytest.mark.requirement("I3", "14")
def test_openid_fhiruser_reads_the_user_and_nobody_else(demo, client, patients):
    token = launched(demo, client, "openid fhirUser", "doctor")
    assert token["scope"] == "openid fhirUser"
    assert "patient" not in token
    jwks = KeySet.import_key_set(httpx.get(f"{demo.base}/oauth/jwks").json())
    identity = jwt.decode(token["id_token"], jwks, algorithms=["RS256"]).claims

    with demo.fhir(token["access_token"]) as fhir:
        own = fhir.get(identity["fhirUser"])
        assert (own.status_code, own.json()["resourceType"]) == (200, "Practitioner")
        others = fhir.get("/Practitioner/none")
        assert others.status_code in (403, 404)
        assert fhir.get(f"/Patient/{patients[0]}").status_code == 403
        assert fhir.get("/Practitioner").status_code == 403
