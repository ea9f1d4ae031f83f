"""fhirclient for Python, as it is published, launches, reads, refreshes and is shut out.

https://github.com/smart-on-fhir/client-py
"""

import pytest
from fhirclient.client import FHIRClient, scope_default
from fhirclient.models.observation import Observation
from fhirclient.server import FHIRUnauthorizedException

REDIRECT = "http://127.0.0.1:8765/back"
SCOPE = "openid fhirUser offline_access patient/Patient.rs patient/Observation.rs"


@pytest.fixture(scope="module")
def app(demo):
    demo.register(
        "client-py", "--redirect-uri", REDIRECT, "--launch-uri", "http://127.0.0.1:8765/launch"
    )
    return {"app_id": "client-py", "api_base": demo.url, "redirect_uri": REDIRECT}


@pytest.fixture
def client():
    """Makes clients; what they keep open is closed in the end."""
    made = []

    def make(settings, **more):
        made.append(FHIRClient(settings={"scope": SCOPE, **settings, **more}))
        made[-1].prepare()
        return made[-1]

    yield make
    for each in made:
        each.server.session.close()


@pytest.mark.requirement("D10", "T1", "T2", "T5", "T9", "A3", "A7")
def test_a_standalone_launch_reads_searches_and_refreshes(demo, app, client, patients):
    smart = client(app)
    smart.handle_callback(demo.browser("doctor").authorize(smart.authorize_url, patients[1]))

    assert smart.patient_id == patients[1]
    assert smart.patient.as_json()["id"] == patients[1]
    found = Observation.where({"category": "vital-signs"}).perform_resources_iter(smart.server)
    assert {each.subject.reference for each in found} == {f"Patient/{patients[1]}"}

    before = smart.server.auth.access_token
    assert smart.reauthorize()
    assert smart.server.auth.access_token != before
    assert smart.launch_context["patient"] == patients[1]
    assert smart.patient.as_json()["id"] == patients[1]


@pytest.mark.requirement("A6", "R6", "X1")
def test_an_ehr_launch_is_on_the_patient_that_the_ehr_has_open(demo, app, client, patients):
    person = demo.browser("doctor")
    opened = person.launch("client-py", patients[2])
    assert opened["iss"] == demo.url

    smart = client(app, api_base=opened["iss"], launch_token=opened["launch"])
    smart.handle_callback(person.authorize(smart.authorize_url))

    assert smart.patient_id == patients[2]
    assert smart.launch_context["need_patient_banner"] is True
    assert smart.patient.as_json()["id"] == patients[2]


@pytest.mark.requirement("R8", "S3")
def test_its_default_scopes_of_version_1_are_granted_but_for_those_that_are_none(
    demo, app, client, patients
):
    smart = client(app, scope=scope_default)
    smart.handle_callback(demo.browser("doctor").authorize(smart.authorize_url, patients[0]))

    granted = smart.launch_context["scope"].split()
    assert granted == ["launch/patient", "user/*.*", "patient/*.read", "openid"]
    assert smart.patient.as_json()["id"] == patients[0]


@pytest.mark.requirement("T1", "Z11", "T10")
def test_a_confidential_app_names_itself_twice_and_is_understood(demo, client, patients):
    secret = demo.register("client-py-secret", "--secret", "--redirect-uri", "https://a.example/b")
    smart = client(
        {
            "app_id": "client-py-secret",
            "app_secret": secret,
            "api_base": demo.url,
            "redirect_uri": "https://a.example/b",
        }
    )
    smart.server.auth.app_secret = secret
    smart.handle_callback(demo.browser("patient").authorize(smart.authorize_url))

    assert smart.patient_id == patients[0]
    assert smart.reauthorize()
    assert smart.patient.as_json()["id"] == patients[0]


@pytest.mark.requirement("F5", "V1", "Z5")
def test_a_revoked_token_reads_nothing_any_more(demo, app, client, patients):
    smart = client(app)
    smart.handle_callback(demo.browser("patient").authorize(smart.authorize_url))
    assert smart.patient.as_json()["id"] == patients[0]

    sent = {"client_id": "client-py", "token": smart.server.auth.refresh_token}
    assert smart.server.session.post(f"{demo.base}/oauth/revoke", data=sent).status_code == 200

    with pytest.raises(FHIRUnauthorizedException):
        next(Observation.where({}).perform_iter(smart.server))
