"""What only a whole server can be asked: its documents agree, what they name is there, and pages of
other origins can read it. https://hl7.org/fhir/smart-app-launch/conformance.html
"""

import httpx
import pytest

from tests.clients.smart import REDIRECT, launched

EXTENSION = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
# What the CapabilityStatement calls the endpoints, and what the configuration does.
ENDPOINTS = {
    "authorize": "authorization_endpoint",
    "token": "token_endpoint",
    "introspect": "introspection_endpoint",
    "manage": "management_endpoint",
    "register": "registration_endpoint",
    "revoke": "revocation_endpoint",
}


@pytest.fixture(scope="module")
def configuration(demo):
    return httpx.get(f"{demo.url}/.well-known/smart-configuration").json()


@pytest.mark.requirement("D1", "D10", "D6")
def test_both_documents_name_the_same_endpoints(demo, configuration):
    statement = httpx.get(f"{demo.url}/metadata").json()
    security = statement["rest"][0]["security"]
    assert security["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    (extension,) = (each for each in security["extension"] if each["url"] == EXTENSION)

    named = {each["url"]: each["valueUri"] for each in extension["extension"]}
    for name, member in ENDPOINTS.items():
        assert named.get(name) == configuration.get(member), name
    assert all(url.startswith(demo.base) for url in named.values())


@pytest.mark.requirement("D2", "D3", "D5", "D12", "U3", "48")
def test_what_the_documents_name_is_there(demo, configuration):
    keys = httpx.get(configuration["jwks_uri"]).json()["keys"]
    assert {"RSA"} <= {each["kty"] for each in keys}
    assert not any({"d", "p", "q", "k"} & set(each) for each in keys)

    brands = httpx.get(configuration["user_access_brand_bundle"]).json()
    endpoints = [
        entry["resource"]
        for entry in brands["entry"]
        if entry["resource"]["resourceType"] == "Endpoint"
    ]
    assert endpoints
    for endpoint in endpoints:
        found = httpx.get(f"{endpoint['address']}/metadata")
        assert (found.status_code, found.json()["resourceType"]) == (200, "CapabilityStatement")
    for member in ("authorization_endpoint", "management_endpoint"):
        assert httpx.get(configuration[member]).status_code in (303, 400)


@pytest.mark.requirement("D11", "C1", "C3", "C4", "C5", "46", "64")
def test_pages_of_other_origins_read_what_they_may(demo, configuration):
    demo.register("origins", "--redirect-uri", "https://page.example/back")
    own, other = {"Origin": "https://page.example"}, {"Origin": "https://evil.example"}
    header = "access-control-allow-origin"

    for url in (f"{demo.url}/metadata", f"{demo.url}/.well-known/smart-configuration"):
        assert httpx.get(url, headers=other).headers[header] in ("*", other["Origin"])
    assert httpx.get(configuration["user_access_brand_bundle"]).headers[header] == "*"
    assert httpx.get(configuration["jwks_uri"]).headers[header] == "*"

    asked = {
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    preflight = httpx.options(f"{demo.url}/Patient", headers={**own, **asked})
    assert preflight.status_code in (200, 204)
    assert preflight.headers[header] == own["Origin"]
    assert "access-control-allow-credentials" not in preflight.headers
    assert header not in httpx.options(f"{demo.url}/Patient", headers={**other, **asked}).headers
    read = httpx.get(f"{demo.url}/Patient", headers=own)
    assert (read.status_code, read.headers[header]) == (401, own["Origin"])


@pytest.mark.requirement("T5", "X1", "X4", "T9", "N1")
def test_patient_and_visit_of_a_launch_can_be_read_after_a_refresh_too(demo, patients):
    secret = demo.register(
        "visit", "--secret", "--redirect-uri", REDIRECT, "--launch-uri", "https://app.example/l"
    )
    with demo.fhir(demo.token("system/Encounter.rs")) as fhir:
        found = fhir.get(f"/Encounter?patient={patients[1]}&_count=1").json()
        visit = found["entry"][0]["resource"]["id"]
    token = launched(
        demo,
        "visit",
        "launch openid fhirUser offline_access patient/Patient.rs patient/Encounter.rs",
        patient=patients[1],
        ehr=True,
        encounter=visit,
        secret=secret,
    )
    asked = {"grant_type": "refresh_token", "refresh_token": token["refresh_token"]}
    again = httpx.post(f"{demo.base}/oauth/token", data=asked, auth=("visit", secret)).json()

    for each in (token, again):
        assert (each["patient"], each["encounter"]) == (patients[1], visit)
        assert each["need_patient_banner"] is True
        assert httpx.get(each["smart_style_url"]).json()
        with demo.fhir(each["access_token"]) as fhir:
            assert fhir.get(f"/Patient/{patients[1]}").json()["id"] == patients[1]
            assert fhir.get(f"/Encounter/{visit}").json()["id"] == visit
    told = httpx.post(
        f"{demo.base}/oauth/introspect",
        data={"token": again["access_token"]},
        auth=("visit", secret),
    ).json()
    assert (told["patient"], told["encounter"]) == (patients[1], visit)
