"""Each request below the FHIR base has an id, which its answer and its events bear."""

from __future__ import annotations

import secrets

import pytest

from fhir_server.request_id import REQUEST_ID, request_id

_BATCH = {
    "resourceType": "Bundle",
    "type": "batch",
    "entry": [
        {"request": {"method": "GET", "url": "Patient/nobody"}},
        {"request": {"method": "GET", "url": "Patient?_id=nobody"}},
        {
            "request": {"method": "POST", "url": "Organization"},
            "resource": {"resourceType": "Organization", "name": "x"},
        },
    ],
}


def newest(fhir, count):
    found = fhir.get("/AuditEvent", params={"_sort": "-date", "_count": str(count)}).json()
    return [each["resource"] for each in found["entry"]]


def transactions(event):
    """The ids of the request in an event."""
    return [
        each["what"]["identifier"]["value"]
        for each in event.get("entity", ())
        if each["type"]["code"] == "XrequestId"
    ]


@pytest.mark.parametrize("path", ["Patient/nobody", "Patient?_id=x", "metadata", "nothing/at/all"])
def test_the_clients_id_is_answered_and_in_the_event(fhir, path):
    own = f"trace-{secrets.token_hex(8)}"
    answer = fhir.get(f"/{path}", headers={"X-Request-Id": own})

    assert answer.headers["x-request-id"] == own
    assert transactions(newest(fhir, 1)[0]) == [own]


def test_a_request_without_an_id_is_given_one(fhir):
    one, other = (fhir.get("/Patient/nobody").headers["x-request-id"] for _ in range(2))

    assert one != other
    assert [transactions(each) for each in newest(fhir, 2)] == [[other], [one]]


@pytest.mark.parametrize(
    "given", ["", "two words", "a" * 65, 'quo"te', "<script>", "-x", "é", "a,b", "a;b", "../x"]
)
def test_what_is_no_plain_token_is_replaced(given):
    made = request_id({REQUEST_ID: given.encode()})

    assert made != given.encode()
    assert 8 <= len(made) <= 64


@pytest.mark.parametrize("given", ["a", "A.b_c-9", "0" * 64])
def test_a_plain_token_is_taken_as_it_is(given):
    assert request_id({REQUEST_ID: given.encode()}) == given.encode()


def test_every_event_of_a_bundle_bears_the_id_of_its_request(fhir):
    own = f"trace-{secrets.token_hex(8)}"
    fhir.post("/", json=_BATCH, headers={"X-Request-Id": own})

    told = [each for each in newest(fhir, 6) if transactions(each) == [own]]
    assert sorted(each["subtype"][0]["code"] for each in told) == ["batch", "read", "search-type"]


def test_a_repeated_authorization_is_refused_with_and_without_an_id(secured):
    twice = [("authorization", f"Bearer {secured.token()}")] * 2
    with secured.client(address="127.0.0.10") as fhir:
        answers = [
            fhir.get("/Patient", headers=[*twice, *more])
            for more in ([], [("x-request-id", "own")], [("x-request-id", "two words")])
        ]

    assert [each.status_code for each in answers] == [400, 400, 400]
    assert answers[1].headers["x-request-id"] == "own"
