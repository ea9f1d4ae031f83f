"""What each operation of a script asks."""

import base64
import json

import pytest

from tests.conformance.testscript.played import (
    PATIENT,
    READ,
    Served,
    operation,
    outcomes,
    play,
    script,
)

FIXTURES = {
    "contained": [
        {**PATIENT, "id": "sent"},
        {"resourceType": "Bundle", "id": "bundle", "type": "batch"},
        {
            "resourceType": "Binary",
            "id": "patch",
            "contentType": "application/json-patch+json",
            "data": base64.b64encode(b'[{"op":"test","path":"/id","value":"${who}"}]').decode(),
        },
    ],
    "fixture": [
        {"id": id, "resource": {"reference": f"#{id}"}} for id in ("sent", "bundle", "patch")
    ],
    "variable": [{"name": "who", "defaultValue": "a b"}],
}
TARGET = {**READ["operation"], "responseId": "there"}


@pytest.mark.parametrize(
    ("code", "fields", "asked"),
    [
        ("read", {"targetId": "there"}, "GET /Patient/p1"),
        ("read", {"url": "Patient/x?_pretty=true"}, "GET /Patient/x?_pretty=true"),
        ("vread", {"targetId": "there"}, "GET /Patient/p1/_history/3"),
        ("vread", {"resource": "Patient", "params": "/a/_history/2"}, "GET /Patient/a/_history/2"),
        ("search", {"resource": "Patient", "params": "?name=${who}"}, "GET /Patient?name=a%20b"),
        ("search", {"resource": "Patient", "params": "name=x"}, "GET /Patient?name=x"),
        ("search", {"resource": "Patient", "params": "?d=1+1"}, "GET /Patient?d=1%2B1"),
        ("search", {"resource": "Patient", "params": "?d=%2B", "encodeRequestUrl": False}, "GET /Patient?d=%2B"),
        ("search", {"resource": "Patient", "params": "/$export"}, "GET /Patient/$export"),
        ("search", {"params": "/$export"}, "GET /$export"),
        ("search", {"resource": "Patient", "params": "?a=b", "method": "post"}, "POST /Patient/_search"),
        ("history", {"resource": "Patient", "params": "?_count=1"}, "GET /Patient/_history?_count=1"),
        ("history", {"targetId": "there"}, "GET /Patient/p1/_history"),
        ("history", {"resource": "Patient", "params": "/a/_history?x=y"}, "GET /Patient/a/_history?x=y"),
        ("history", {"params": "?_count=1"}, "GET /_history?_count=1"),
        ("capabilities", {}, "GET /metadata"),
        ("create", {"sourceId": "sent"}, "POST /Patient"),
        ("update", {"sourceId": "there"}, "PUT /Patient/p1"),
        ("update", {"sourceId": "sent", "targetId": "there"}, "PUT /Patient/p1"),
        ("update", {"sourceId": "sent", "params": "?identifier=1"}, "PUT /Patient?identifier=1"),
        ("updateCreate", {"sourceId": "sent", "params": "/new"}, "PUT /Patient/new"),
        ("patch", {"resource": "Patient", "params": "/p", "sourceId": "patch", "contentType": "application/json-patch+json"}, "PATCH /Patient/p"),
        ("delete", {"targetId": "there"}, "DELETE /Patient/p1"),
        ("deleteCondSingle", {"resource": "Patient", "params": "?a=b"}, "DELETE /Patient?a=b"),
        ("deleteCondMultiple", {"resource": "Patient", "params": "?a=b"}, "DELETE /Patient?a=b"),
        ("batch", {"sourceId": "bundle"}, "POST /"),
        ("transaction", {"resource": "Bundle", "sourceId": "bundle"}, "POST /"),
        ("process-message", {"sourceId": "bundle"}, "POST /$process-message"),
        ("everything", {"targetId": "there"}, "GET /Patient/p1/$everything"),
        ("$expand", {"resource": "ValueSet", "params": "?url=x"}, "GET /ValueSet/$expand?url=x"),
        ("expand", {"resource": "ValueSet", "params": "/v1/$expand"}, "GET /ValueSet/v1/$expand"),
        ("validate", {"resource": "Patient", "sourceId": "sent"}, "POST /Patient/$validate"),
        ("read", {"resource": "Patient", "params": "/p1", "method": "head"}, "HEAD /Patient/p1"),
    ],
)  # fmt: skip
def test_an_operation_asks_as_the_standard_says(code, fields, asked):
    served = Served()
    run = play(script({"operation": TARGET}, operation(code, **fields), **FIXTURES), served)
    assert outcomes(run) == ["pass", "pass"], run.parts[0].reason
    assert served.lines[1].rstrip("/") == asked.rstrip("/")


@pytest.mark.parametrize(
    ("code", "fields", "why"),
    [
        ("read", {"resource": "Patient"}, "names no resource"),
        ("create", {}, "names no type"),
        ("create", {"sourceId": "nothing"}, "There is no fixture, request or response nothing"),
        ("vread", {"resource": "Patient", "params": "/x"}, "vread needs a version"),
        ("read", {"resource": "Patient", "params": "/${nobody}"}, "The script has no variable nobody"),
        ("read", {"url": "http://203.0.113.9/fhir/Patient/1"}, "another server than those under test"),
        ("read", {"url": "http://127.0.0.1:1/fhir/Patient/1"}, "another server than those under test"),
        ("create", {"sourceId": "sent", "contentType": "text/csv"}, "cannot be written as text/csv"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_an_error_with_a_reason(code, fields, why):
    served = Served()
    run = play(script(operation(code, **fields), **FIXTURES), served)
    assert outcomes(run) == ["error"]
    assert why in run.parts[0].reason
    assert served.lines == []


def test_headers_and_formats_are_the_scripts():
    served = Served()
    run = play(
        script(
            operation(
                "create",
                sourceId="sent",
                accept="json",
                contentType="xml",
                requestHeader=[{"field": "If-None-Exist", "value": "name=${who}"}],
            ),
            operation("patch", resource="Patient", params="/p", sourceId="patch", contentType="application/json-patch+json"),
            operation("search", resource="Patient", params="?a=b c", method="post"),
            **FIXTURES,
        ),
        served,
        headers=(("X-Tenant", "one"),),
    )  # fmt: skip
    assert outcomes(run) == ["pass"] * 3
    created, patched, searched = served.asked
    assert created.headers["content-type"] == "application/fhir+xml"
    assert created.headers["if-none-exist"] == "name=a b"
    assert {each.headers["x-tenant"] for each in served.asked} == {"one"}
    assert created.body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<Patient xmlns=')
    assert json.loads(patched.body) == [{"op": "test", "path": "/id", "value": "a b"}]
    assert (searched.headers["content-type"], searched.body) == (
        "application/x-www-form-urlencoded",
        b"a=b%20c",
    )


def test_the_token_goes_with_every_request_but_those_that_are_to_have_none():
    served = Served()
    play(
        script(
            READ,
            operation(url="Patient/p1", requestHeader=[{"field": "Authorization", "value": "none"}]),
            operation(url="Patient/p1", requestHeader=[{"field": "Authorization", "value": "Bearer x"}]),
        ),
        served,
        token="the-token",
    )  # fmt: skip
    assert [each.headers.get("authorization") for each in served.asked] == [
        "Bearer the-token",
        None,
        "Bearer x",
    ]


def test_no_report_shows_a_token():
    served = Served({"resourceType": "Patient", "id": "the-token"})
    run = play(
        script(operation(url="Patient/the-token"), {"assert": {"expression": "id", "value": "x"}}),
        served,
        token="the-token",
    )
    assert [each.outcome for each in run.parts[0].actions] == ["pass", "fail"]
    assert "the-token" not in repr(run._replace(script=None))


def test_a_target_may_be_told_by_its_location_only():
    served = Served(None, 201, location="http://x.example/fhir/Patient/made/_history/1")
    run = play(
        script(
            operation("create", sourceId="sent", responseId="made"),
            operation(targetId="made"),
            operation("vread", targetId="made"),
            **FIXTURES,
        ),
        served,
    )
    assert outcomes(run) == ["pass"] * 3
    assert served.lines[1:] == ["GET /Patient/made", "GET /Patient/made/_history/1"]
