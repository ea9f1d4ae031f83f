"""Erasure while a server runs: over HTTP, and by the operator's channel."""

from __future__ import annotations

import time

from salus.operator import requests
from tests.living import Living
from tests.secured import Secured

ANN, BOB = {"reference": "Patient/ann"}, {"reference": "Patient/bob"}


def fill(client):
    for id in ("ann", "bob"):
        made = {"resourceType": "Patient", "id": id, "name": [{"family": f"Of-{id}"}]}
        assert client.put(f"/Patient/{id}", json=made).status_code == 201
    members = [{"entity": ANN}, {"entity": BOB}, {"entity": {"reference": "Patient/cid"}}]
    group = {
        "resourceType": "Group",
        "id": "g",
        "type": "person",
        "actual": True,
        "member": members,
    }
    assert client.put("/Group/g", json=group).status_code == 201


def members(client):
    group = client.get("/Group/g").json()
    return [each["entity"]["reference"] for each in group["member"]]


def test_purge_answers_and_others_follow_soon(tmp_path):
    server = Living(tmp_path).start()
    try:
        with server.client() as client:
            fill(client)
            parts = [
                {"name": "basis", "valueString": "request 1"},
                {"name": "confirm", "valueString": "ann"},
            ]
            body = {"resourceType": "Parameters", "parameter": parts}
            answer = client.post("/Patient/ann/$purge", json=body)
            assert answer.status_code == 200
            told = {each["name"]: each for each in answer.json()["parameter"]}
            assert told["versions"]["valueInteger"] == 1
            assert client.get("/Patient/ann").status_code == 404
            assert client.post("/Patient/ann/$purge", json=body).status_code == 404
            until = time.monotonic() + 30
            while "Patient/ann" in members(client) and time.monotonic() < until:
                time.sleep(0.1)
            assert members(client) == ["Patient/bob", "Patient/cid"]
            assert client.get("/Group/g").json()["meta"]["versionId"] == "2"
    finally:
        assert server.stop() == 0


def test_the_operator_erases_over_the_channel(tmp_path):
    server = Secured(tmp_path).start()
    try:
        token = server.operator(
            requests.IssueToken(client=None, scope="system/*.cruds"), requests.Token
        ).token
        with server.client(token) as client:
            fill(client)
            refused = client.post(
                "/Patient/ann/$purge", json={"resourceType": "Parameters", "parameter": []}
            )
            assert refused.status_code == 403
            asked = requests.ErasePatient(id="ann", basis="request 1")
            done = server.operator(asked, requests.Erased)
            assert (done.finished, done.tidy, done.changed) == (True, True, 1)
            assert client.get("/Patient/ann").status_code == 404
            assert members(client) == ["Patient/bob", "Patient/cid"]
    finally:
        assert server.stop() == 0
