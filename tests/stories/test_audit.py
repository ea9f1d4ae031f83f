"""The audit that callers meet: appended to, read and searched, never changed."""

import json
import uuid

import pytest

_EVENT = {
    "resourceType": "AuditEvent",
    "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
    "recorded": "2026-11-02T08:00:00Z",
    "outcome": "0",
    "agent": [{"who": {"display": "another system"}, "requestor": True}],
    "source": {"observer": {"display": "another system"}},
}
_PATCH = {"Content-Type": "application/json-patch+json"}


@pytest.fixture
def event_id(fhir):
    made = fhir.post("/Patient", json={"resourceType": "Patient"}).json()
    found = fhir.get("/AuditEvent", params={"entity": f"Patient/{made['id']}"}).json()
    return found["entry"][0]["resource"]["id"]


def _unchanged(fhir, event_id):
    return fhir.get(f"/AuditEvent/{event_id}").text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/AuditEvent/{id}"),
        ("PATCH", "/AuditEvent/{id}"),
        ("DELETE", "/AuditEvent/{id}"),
        ("PUT", "/AuditEvent?date=ge2000"),
        ("PATCH", "/AuditEvent?date=ge2000"),
        ("DELETE", "/AuditEvent?date=ge2000"),
    ],
)
def test_no_audit_event_is_ever_changed(fhir, event_id, method, path):
    before = _unchanged(fhir, event_id)
    content = json.dumps({**_EVENT, "id": event_id} if method == "PUT" else [])
    headers = _PATCH if method == "PATCH" else {"Content-Type": "application/fhir+json"}
    answer = fhir.request(method, path.format(id=event_id), content=content, headers=headers)
    assert answer.status_code == 405
    assert "PUT" not in answer.headers["allow"]
    assert _unchanged(fhir, event_id) == before


@pytest.mark.parametrize("type", ["batch", "transaction"])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("url", ["AuditEvent/{id}", "AuditEvent?date=ge2000"])
def test_no_audit_event_is_ever_changed_inside_a_bundle(fhir, event_id, type, method, url):
    before = _unchanged(fhir, event_id)
    entry = {"request": {"method": method, "url": url.format(id=event_id)}}
    if method == "PUT":
        entry["resource"] = {**_EVENT, "id": event_id}
    answer = fhir.post("/", json={"resourceType": "Bundle", "type": type, "entry": [entry]})
    if type == "batch":
        assert answer.json()["entry"][0]["response"]["status"].startswith("405")
    else:
        assert answer.status_code == 405
    assert _unchanged(fhir, event_id) == before


def test_the_capability_statement_offers_no_change_of_the_audit(fhir):
    resources = fhir.get("/metadata").json()["rest"][0]["resource"]
    audit = next(each for each in resources if each["type"] == "AuditEvent")
    assert {each["code"] for each in audit["interaction"]} == {"read", "search-type", "create"}
    assert audit["conditionalDelete"] == "not-supported"


def test_an_event_of_another_system_is_kept_and_marked_as_its_word(fhir):
    marker = uuid.uuid4().hex
    agent = {"who": {"identifier": {"value": marker}}, "requestor": True}
    answer = fhir.post("/AuditEvent", json={**_EVENT, "agent": [agent]})
    assert answer.status_code == 201
    stored = answer.json()
    assert stored["agent"] == [agent]
    assert [tag["code"] for tag in stored["meta"]["tag"]] == ["reported"]
    assert fhir.get(f"/AuditEvent/{stored['id']}").json() == stored


def test_reading_the_audit_is_audited_too(fhir, event_id):
    fhir.get(f"/AuditEvent/{event_id}")
    found = fhir.get("/AuditEvent", params={"entity": f"AuditEvent/{event_id}"}).json()
    codes = {entry["resource"]["subtype"][0]["code"] for entry in found["entry"]}
    assert "read" in codes


def test_the_audit_is_searched_by_what_is_no_key_too(fhir):
    made = fhir.post("/Patient", json={"resourceType": "Patient"}).json()
    fhir.get(f"/Patient/{made['id']}")
    fhir.delete(f"/Patient/{made['id']}")
    reference = f"Patient/{made['id']}"

    def actions(**more):
        bundle = fhir.get("/AuditEvent", params={"entity": reference, **more}).json()
        return sorted(e["resource"]["action"] for e in bundle.get("entry", ()))

    assert actions(action="C,R,D") == ["C", "D", "R"]
    assert actions(action="D") == ["D"]
    assert actions(action="C", outcome="4") == []
    assert actions(action="C", date="lt2020") == []
    assert actions(action="C", date="ge2020") == ["C"]


def test_every_event_is_a_valid_resource(fhir, event_id):
    for event in fhir.get("/AuditEvent", params={"_count": "30"}).json()["entry"]:
        checked = fhir.post("/AuditEvent/$validate", json=event["resource"]).json()
        assert {issue["severity"] for issue in checked["issue"]} <= {"information", "warning"}
