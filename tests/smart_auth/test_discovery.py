"""What clients learn before they ask: configuration, keys, brands, style."""

import asyncio
import re
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI

from conformance import definitions
from conformance.validator import Validator
from smart_auth import discovery
from smart_auth.authority import Policy
from smart_auth.endpoints import router
from smart_auth.grant import Scope
from smart_auth.scopes import read_scope
from tests.smart_auth.served import BASE, Served

SMART = "/fhir/.well-known/smart-configuration"
OPENID = "/fhir/.well-known/openid-configuration"
OAUTH = "/.well-known/oauth-authorization-server/fhir"
PUBLIC = (SMART, OPENID, OAUTH, "/oauth/jwks", "/brands", "/smart-style.json")
US_CORE = r"^(patient|user|system|\*)/([a-zA-Z*]+)\.([cruds]+)(\?\w+=[^\s&]+(&\w+=[^\s&]+)*)?$"
TYPES = """AllergyIntolerance CarePlan CareTeam Condition Coverage Device DiagnosticReport
DocumentReference Encounter Goal Immunization Location Medication MedicationDispense
MedicationRequest Observation Organization Patient Practitioner PractitionerRole Procedure
Provenance QuestionnaireResponse RelatedPerson ServiceRequest Specimen""".split()
GRANULAR = """Condition.rs?category=http://terminology.hl7.org/CodeSystem/condition-category|encounter-diagnosis
Condition.rs?category=http://terminology.hl7.org/CodeSystem/condition-category|problem-list-item
Condition.rs?category=http://hl7.org/fhir/us/core/CodeSystem/condition-category|health-concern
Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory
Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|social-history
Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|survey
Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|vital-signs
Observation.rs?category=http://hl7.org/fhir/us/core/CodeSystem/us-core-category|sdoh""".split()
NOTES = "DocumentReference.rs?category=http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category|clinical-note"


@pytest.mark.requirement("D1")
@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html", "application/fhir+xml"])
def test_the_configuration_is_json_whatever_is_accepted(served, accept):
    answer = served.http.get(SMART, headers={"Accept": accept})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["issuer"] == f"{BASE}/fhir"


@pytest.mark.requirement("D2", "D3", "D4", "D5", "D6", "D8")
def test_the_configuration_names_every_endpoint(served):
    found = served.http.get(SMART).json()
    scopes, capabilities = found.pop("scopes_supported"), found.pop("capabilities")

    assert found == {
        "issuer": f"{BASE}/fhir",
        "jwks_uri": f"{BASE}/oauth/jwks",
        "authorization_endpoint": f"{BASE}/oauth/authorize",
        "token_endpoint": f"{BASE}/oauth/token",
        "introspection_endpoint": f"{BASE}/oauth/introspect",
        "revocation_endpoint": f"{BASE}/oauth/revoke",
        "management_endpoint": f"{BASE}/account/apps",
        "userinfo_endpoint": f"{BASE}/oauth/userinfo",
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": [
            "none",
            "client_secret_basic",
            "client_secret_post",
            "private_key_jwt",
        ],
        "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
        "authorization_response_iss_parameter_supported": True,
        "user_access_brand_bundle": f"{BASE}/brands",
        "user_access_brand_identifier": {"system": "urn:ietf:rfc:3986", "value": BASE},
    }
    assert scopes
    assert all(each and isinstance(each, str) for each in capabilities)


@pytest.mark.requirement("D5")
@pytest.mark.parametrize(("policy", "there"), [("off", False), ("token", True), ("open", True)])
def test_the_registration_endpoint_is_named_when_registration_is_on(tmp_path, policy, there):
    with Served(tmp_path, Policy(registration=policy)) as served:
        found = served.http.get(SMART).json()

        assert ("registration_endpoint" in found) is there


@pytest.mark.requirement("D7")
def test_the_capabilities_are_those_of_the_server(served):
    assert sorted(served.http.get(SMART).json()["capabilities"]) == sorted(
        """launch-standalone launch-ehr client-public client-confidential-symmetric
        client-confidential-asymmetric sso-openid-connect context-standalone-patient
        context-standalone-encounter context-ehr-patient context-ehr-encounter context-banner
        context-style permission-offline permission-online permission-patient permission-user
        permission-v1 permission-v2 authorize-post""".split()
    )


@pytest.mark.requirement("D9", "P1", "P2", "P3")
@pytest.mark.parametrize("context", ["patient", "user", "system"])
def test_the_scopes_of_us_core_are_listed(served, context):
    listed = served.http.get(SMART).json()["scopes_supported"]
    wanted = [f"{type}.rs" for type in TYPES] + GRANULAR + [NOTES]

    assert [each for each in wanted if f"{context}/{each}" not in listed] == []
    assert len(listed) == len(set(listed))
    assert all(read_scope(each) for each in listed)
    assert sum(1 for each in listed if re.match(US_CORE, each)) > 100


@pytest.mark.requirement("D9")
def test_a_scope_that_cannot_be_granted_is_not_listed(served):
    served.ward.refused[Scope("patient", "Patient", "rs")] = "not here"

    listed = served.http.get(SMART).json()["scopes_supported"]

    assert "patient/Patient.rs" not in listed
    assert "user/Patient.rs" in listed


@pytest.mark.requirement("D10")
@pytest.mark.parametrize("registration", ["off", "open"])
def test_the_addresses_for_the_capability_statement_are_those_of_the_configuration(
    tmp_path, registration
):
    policy = Policy(registration=registration)
    with Served(tmp_path, policy) as served:
        found = served.http.get(SMART).json()
        uris = discovery.oauth_uris(served.authority.site, policy)

    names = {
        "authorize": "authorization_endpoint",
        "token": "token_endpoint",
        "introspect": "introspection_endpoint",
        "manage": "management_endpoint",
        "register": "registration_endpoint",
        "revoke": "revocation_endpoint",
    }
    assert {part: uris.get(part) for part in names} == {
        part: found.get(name) for part, name in names.items()
    }


@pytest.mark.requirement("D12")
def test_openid_configuration_and_keys_are_where_the_issuer_says(served):
    found = served.http.get(OPENID)
    assert found.headers["content-type"] == "application/json"
    openid = found.json()

    assert openid["issuer"] == f"{BASE}/fhir"
    assert openid["response_types_supported"] == ["code"]
    assert openid["subject_types_supported"] == ["public"]
    assert openid["id_token_signing_alg_values_supported"] == ["RS256"]
    keys = served.http.get(urlsplit(openid["jwks_uri"]).path)
    assert keys.headers["content-type"] == "application/json"
    assert [each["kty"] for each in keys.json()["keys"]] == ["RSA"]


@pytest.mark.requirement("D6", "D12")
def test_no_two_documents_differ_in_what_both_say(served):
    documents = [served.http.get(path).json() for path in (SMART, OPENID, OAUTH)]
    documents.append(served.http.get("/fhir/.well-known/oauth-authorization-server").json())

    for name in set().union(*documents):
        assert len({repr(each[name]) for each in documents if name in each}) == 1, name
    urls = [
        value
        for each in documents
        for name, value in each.items()
        if name.endswith(("_endpoint", "_uri", "_bundle"))
    ]
    assert len(urls) > 20
    assert all(url.startswith(BASE + "/") for url in urls)


@pytest.mark.requirement("47")
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"},
        {"Forwarded": "host=evil.example;proto=http"},
    ],
)
def test_no_header_of_a_request_changes_what_is_said(served, headers):
    for path in PUBLIC:
        assert served.http.get(path, headers=headers).content == served.http.get(path).content


@pytest.mark.requirement("D11", "C1", "C4", "U4", "46", "64")
@pytest.mark.parametrize("path", PUBLIC)
@pytest.mark.parametrize("origin", [None, "https://anywhere.example", "null"])
def test_public_documents_may_be_read_from_everywhere(served, path, origin):
    headers = {"Origin": origin} if origin else {}

    answer = served.http.get(path, headers=headers)
    before = served.http.request("OPTIONS", path, headers=headers)

    assert (answer.status_code, before.status_code) == (200, 204)
    for each in (answer, before):
        assert each.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in each.headers
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.requirement("U4")
@pytest.mark.parametrize("path", PUBLIC)
def test_a_public_document_that_did_not_change_is_not_sent_again(served, path):
    tag = served.http.get(path).headers["etag"]
    again = served.http.get(path, headers={"If-None-Match": tag})

    assert tag.startswith('W/"')
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert served.http.request("HEAD", path).status_code == 200


# --- brands and style ----------------------------------------------------------------------------


@pytest.mark.requirement("U1", "U2", "U3", "U5")
def test_the_brands_are_one_organization_with_its_endpoint(served):
    answer = served.http.get("/brands")
    assert answer.headers["content-type"] == "application/fhir+json"
    bundle = answer.json()
    brand, endpoint = (each["resource"] for each in bundle["entry"])

    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "collection")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", bundle["timestamp"])
    assert (brand["resourceType"], endpoint["resourceType"]) == ("Organization", "Endpoint")
    reference = {"reference": f"Endpoint/{endpoint['id']}"}
    assert brand["endpoint"] == [reference]
    portal = {each["url"]: each for each in brand["extension"][0]["extension"]}
    assert portal["portalEndpoint"]["valueReference"] == reference
    assert endpoint["address"] == f"{BASE}/fhir"
    identifier = served.http.get(SMART).json()["user_access_brand_identifier"]
    assert brand["identifier"] == [identifier]
    assert [each["fullUrl"] for each in bundle["entry"]] == [
        f"{BASE}/fhir/Organization/{brand['id']}",
        f"{BASE}/fhir/Endpoint/{endpoint['id']}",
    ]


@pytest.mark.requirement("U1")
def test_the_brands_are_valid_resources(served):
    bundle = served.http.get("/brands").json()

    validator = Validator(definitions.load())
    issues = [each for each in validator.validate(bundle) if each.severity in ("error", "fatal")]
    assert issues == []


@pytest.mark.requirement("48", "T5")
def test_brands_and_style_are_the_same_for_everybody(served):
    token = served.granted()["access_token"]
    for path in ("/brands", "/smart-style.json"):
        as_user = served.http.get(
            path, headers={"Authorization": f"Bearer {token}", "Cookie": "a=b"}
        )
        assert as_user.content == served.http.get(path).content
        assert as_user.json()
        assert "set-cookie" not in as_user.headers


def test_while_the_store_opens_every_endpoint_says_to_come_back():
    app = FastAPI()
    app.include_router(router)

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as http:
            return [
                await http.get(SMART),
                await http.post("/oauth/token"),
                await http.options("/oauth/token"),
            ]

    for answer in asyncio.run(ask()):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["error"] == "temporarily_unavailable"
