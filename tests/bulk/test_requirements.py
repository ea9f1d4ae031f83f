"""Bulk data as the test kits ask for it, a number a test, of a backend service over a real socket.

https://hl7.org/fhir/uv/bulkdata/, https://hl7.org/fhir/uv/bulkdata/authorization.html
"""

from __future__ import annotations

import json
import time
from typing import Any, NamedTuple

import httpx
import pytest

from salus.operator import requests
from tests.bulk.world import group
from tests.secured import Backend, Secured
from tests.security import people
from tests.security.people import resource

PREFER = {"Prefer": "respond-async", "Accept": "application/fhir+json"}
NDJSON = {"Accept": "application/fhir+ndjson"}
GUIDE = "http://hl7.org/fhir/uv/bulkdata"
MEMBERS = {"a", "b"}
# Without what a new server refuses, which other tests are about.
THERE = [each for each in people.ALL if each["resourceType"] not in ("Subscription",)]


class Ward(NamedTuple):
    """A server with patients, a Group of two of them, and a backend service."""

    server: Secured
    backend: Backend

    def client(self, scope: str = "system/*.rs") -> httpx.Client:
        """With a token as the service gets it."""
        answer = self.server.backend_token(self.backend, scope)
        assert answer.status_code == 200, answer.text
        return self.server.client(answer.json()["access_token"])


@pytest.fixture(scope="module")
def ward(secured):
    with secured.client(secured.token()) as fhir:
        for each in (*THERE, resource("Patient/alone"), group("ward", "Patient/a", "Patient/b")):
            url = f"/{each['resourceType']}/{each['id']}"
            made = fhir.put(url, json=each, headers={"content-type": "application/fhir+json"})
            assert made.status_code in (200, 201), made.text
    return Ward(secured, secured.backend("warehouse", "system/*.cruds"))


@pytest.fixture
def client(ward):
    with ward.client() as made:
        yield made


def begun(client, url: str, **more: Any) -> str:
    answer = client.get(url, headers=PREFER, **more)
    assert answer.status_code == 202, answer.text
    return answer.headers["content-location"]


def done(client, status: str, seconds: float = 60) -> httpx.Response:
    """The manifest, asked for as often as the server says."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = client.get(status, headers={"Accept": "application/json"})
        if answer.status_code != 202:
            assert answer.status_code == 200, answer.text
            return answer
        time.sleep(int(answer.headers["retry-after"]))
    raise AssertionError("not done in time")


def lines(client, url: str) -> list[dict[str, Any]]:
    answer = client.get(url, headers=NDJSON)
    assert answer.status_code == 200, answer.text
    return [json.loads(each) for each in answer.text.splitlines()]


@pytest.mark.requirement("B1")
def test_the_statement_says_what_can_be_exported(client):
    told = client.get("/metadata").json()
    assert f"{GUIDE}/CapabilityStatement/bulk-data" in told["instantiates"]
    (rest,) = told["rest"]
    of = {each["type"]: each.get("operation", []) for each in rest["resource"]}
    for level, operations in (
        ("export", rest["operation"]),
        ("patient-export", of["Patient"]),
        ("group-export", of["Group"]),
    ):
        wanted = {"name": "export", "definition": f"{GUIDE}/OperationDefinition/{level}"}
        assert wanted in operations
    assert "export" not in [each["name"] for each in of["Observation"]]


@pytest.mark.requirement("B2")
@pytest.mark.parametrize("url", ["Group/ward/$export", "Patient/$export", "$export"])
def test_a_kick_off_is_answered_with_the_place_of_its_status(ward, client, url):
    with ward.server.client() as nobody:
        assert nobody.get(f"/{url}", headers=PREFER).status_code == 401
    status = begun(client, f"/{url}")
    assert status.startswith(f"{ward.server.url}/")
    assert client.delete(status).status_code == 202

    posted = client.post(
        f"/{url}",
        json={
            "resourceType": "Parameters",
            "parameter": [{"name": "_type", "valueString": "Patient"}],
        },
        headers={**PREFER, "content-type": "application/fhir+json"},
    )
    assert posted.status_code == 202, posted.text
    assert client.delete(posted.headers["content-location"]).status_code == 202


@pytest.mark.requirement("B3")
def test_the_status_says_how_far_it_is_and_when_to_ask_again(client):
    status = begun(client, "/$export")
    answer = client.get(status)
    while answer.status_code == 202:
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert 0 < len(answer.headers["x-progress"]) <= 100
        time.sleep(int(answer.headers["retry-after"]))
        answer = client.get(status)
    assert answer.status_code == 200
    client.delete(status)


@pytest.mark.requirement("B4")
def test_the_manifest_is_the_guides(ward, client):
    status = begun(client, "/Group/ward/$export?_type=Patient,Observation")
    answer = done(client, status)
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert told.keys() == {
        "transactionTime",
        "request",
        "requiresAccessToken",
        "output",
        "deleted",
        "error",
    }
    assert told["transactionTime"].endswith("Z") and "T" in told["transactionTime"]
    assert told["request"] == f"{ward.server.url}/Group/ward/$export?_type=Patient,Observation"
    assert told["requiresAccessToken"] is True
    assert (told["deleted"], told["error"]) == ([], [])
    for each in told["output"]:
        assert each.keys() == {"type", "url", "count"}
        assert each["url"].startswith(f"{ward.server.url}/")
    assert [each["type"] for each in told["output"]] == ["Observation", "Patient"]
    client.delete(status)


@pytest.mark.requirement("B5")
def test_files_are_of_one_type_and_for_who_has_a_token(ward, client):
    status = begun(client, "/$export")
    for each in done(client, status).json()["output"]:
        with ward.server.client() as nobody:
            assert nobody.get(each["url"], headers=NDJSON).status_code == 401
        answer = client.get(each["url"], headers=NDJSON)
        assert answer.headers["content-type"].startswith("application/fhir+ndjson")
        there = [json.loads(line) for line in answer.text.splitlines()]
        assert len(there) == each["count"]
        assert {line["resourceType"] for line in there} == {each["type"]}
        for line in there:
            same = client.get(f"/{line['resourceType']}/{line['id']}")
            assert same.json() == line
    client.delete(status)


@pytest.mark.requirement("B6")
def test_a_group_gives_its_patients_exactly_and_what_they_refer_to(client):
    status = begun(client, "/Group/ward/$export")
    found = {
        each["type"]: lines(client, each["url"]) for each in done(client, status).json()["output"]
    }
    assert {each["id"] for each in found["Patient"]} == MEMBERS
    assert {each["id"] for each in found["Practitioner"]} >= {"doc"}
    assert {"Condition", "Device", "Encounter", "Observation"} <= found.keys()
    client.delete(status)


@pytest.mark.requirement("B7")
@pytest.mark.parametrize(
    "format",
    ["application/fhir%2Bndjson", "application/fhir+ndjson", "application/ndjson", "ndjson"],
)
def test_output_formats_are_spelled_in_three_ways(client, format):
    status = begun(client, f"/Group/ward/$export?_outputFormat={format}")
    assert client.delete(status).status_code == 202


@pytest.mark.requirement("B7")
def test_since_and_type_are_honoured(client):
    status = begun(client, "/Patient/$export?_since=2999-01-01T00:00:00Z")
    assert done(client, status).json()["output"] == []
    client.delete(status)
    status = begun(client, "/Patient/$export?_since=2001-01-01T00:00:00Z&_type=Patient")
    assert [each["type"] for each in done(client, status).json()["output"]] == ["Patient"]
    client.delete(status)


@pytest.mark.requirement("B8")
def test_what_is_deleted_is_not_found_any_more_and_says_so(client):
    status = begun(client, "/Group/ward/$export")
    assert client.delete(status).status_code == 202
    again = client.get(status, headers={"Accept": "application/json"})
    assert again.status_code == 404
    assert again.headers["content-type"].startswith("application/")
    assert again.json()["resourceType"] == "OperationOutcome"
    assert again.json()["issue"][0]["severity"] == "error"


@pytest.mark.requirement("B9")
def test_a_file_is_answered_where_it_is_without_a_redirect(client):
    status = begun(client, "/$export?_type=Patient")
    (told,) = done(client, status).json()["output"]
    answer = client.get(told["url"], headers=NDJSON, follow_redirects=False)
    assert answer.status_code == 200
    client.delete(status)


@pytest.mark.requirement("B10")
def test_only_what_the_scopes_open_comes_and_only_its_latest_version(ward, client):
    url = "/Patient/alone"
    changed = resource("Patient/alone", gender="other")
    put = client.put(url, json=changed, headers={"content-type": "application/fhir+json"})
    assert put.status_code == 403  # this token reads
    with ward.client("system/*.cruds") as writer:
        assert writer.put(
            url, json=changed, headers={"content-type": "application/fhir+json"}
        ).is_success
    with ward.client("system/Patient.rs") as few:
        status = begun(few, "/$export")
        (told,) = done(few, status).json()["output"]
        (alone,) = [each for each in lines(few, told["url"]) if each["id"] == "alone"]
        assert alone["gender"] == "other"
        assert few.get("/$export?_type=Observation", headers=PREFER).status_code == 403
        few.delete(status)


def test_the_next_token_of_a_client_goes_on_and_none_of_another(ward):
    other = ward.server.backend("rival", "system/*.cruds")
    theirs = ward.server.backend_token(other, "system/*.rs").json()["access_token"]
    with ward.client() as mine, ward.server.client(theirs) as rival, ward.client() as later:
        status = begun(mine, "/$export?_type=Patient")
        file = done(mine, status).json()["output"][0]["url"]
        assert rival.get(status).status_code == 404
        assert rival.get(file, headers=NDJSON).status_code == 404
        assert rival.delete(status).status_code == 404
        assert later.get(file, headers=NDJSON).status_code == 200
        assert later.delete(status).status_code == 202


def test_a_client_that_was_disabled_gets_no_more_of_what_it_had_asked_for(ward):
    gone = ward.server.backend("gone", "system/*.rs")
    token = ward.server.backend_token(gone, "system/*.rs").json()["access_token"]
    with ward.server.client(token) as client:
        status = begun(client, "/$export?_type=Patient")
        file = done(client, status).json()["output"][0]["url"]
        ward.server.operator(requests.ChangeClient("gone", "disabled"))
        assert client.get(file, headers=NDJSON).status_code == 401
        assert client.get(status).status_code == 401
