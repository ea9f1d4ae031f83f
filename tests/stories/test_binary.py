"""Binary over HTTP: bytes in and out as they are, served so that no browser runs them."""

import base64
import hashlib
import os
import random

import pytest


def _stored(fhir, data, media="application/pdf", **headers):
    answer = fhir.post("/Binary", content=data, headers={"Content-Type": media, **headers})
    assert answer.status_code == 201, answer.text
    return answer.headers["location"].split("/_history")[0].rpartition("/fhir")[2]


@pytest.mark.parametrize("size", [0, 1, 100_000, 1024 * 1024, 1024 * 1024 + 1, 5_000_001])
def test_raw_bytes_come_back_as_they_went_in(fhir, size):
    data = random.Random(size).randbytes(size)
    path = _stored(fhir, data)
    answer = fhir.get(path, headers={"Accept": "*/*"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-length"] == str(size)
    assert answer.content == data
    as_fhir = fhir.get(path, headers={"Accept": "application/fhir+json"}).json()
    assert base64.b64decode(as_fhir.get("data", "")) == data
    assert as_fhir["contentType"] == "application/pdf"


def test_a_page_in_a_binary_is_downloaded_and_never_run(fhir):
    page = b"<script>alert(1)</script>"
    answer = fhir.get(_stored(fhir, page, "text/html"), headers={"Accept": "text/html"})
    assert answer.content == page
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == "attachment"
    assert (
        answer.headers["content-security-policy"]
        == "default-src 'none'; sandbox; frame-ancestors 'none'"
    )


def test_the_security_context_travels_in_its_header(fhir):
    path = _stored(fhir, b"x", **{"X-Security-Context": "Patient/p1"})
    answer = fhir.get(path, headers={"Accept": "application/pdf"})
    assert answer.headers["x-security-context"] == "Patient/p1"
    as_fhir = fhir.get(path, headers={"Accept": "application/fhir+json"}).json()
    assert as_fhir["securityContext"] == {"reference": "Patient/p1"}


def test_a_binary_sent_as_json_is_served_raw_and_updated_raw(fhir):
    large = os.urandom(2_000_000)
    body = {
        "resourceType": "Binary",
        "contentType": "image/png",
        "data": base64.b64encode(large).decode(),
    }
    made = fhir.post("/Binary", json=body)
    assert made.status_code == 201
    path = f"/Binary/{made.headers['location'].split('/')[-3]}"
    served = fhir.get(path, headers={"Accept": "image/png"}).content
    assert hashlib.sha256(served).digest() == hashlib.sha256(large).digest()
    put = fhir.put(path, content=b"new", headers={"Content-Type": "text/plain"})
    assert (put.status_code, put.headers["etag"]) == (200, 'W/"2"')
    assert fhir.get(path, headers={"Accept": "*/*"}).content == b"new"
    assert fhir.get(f"{path}/_history/1", headers={"Accept": "*/*"}).content == large


_MARK = "urn:salus:pieces"
_JSON = {"Accept": "application/fhir+json"}


def _marked(value):
    return {"extension": [{"url": _MARK, "valueString": value}]}


def _binary(**more):
    return {"resourceType": "Binary", "contentType": "text/plain", **more}


@pytest.mark.parametrize(
    "beside",
    [
        [],
        "x",
        7,
        {"extension": "q"},
        {"extension": [1]},
        {"extension": {}},
        {"extension": [{"url": _MARK}]},
        _marked("x"),
        _marked("a/1/1"),
        _marked("a" * 32 + "/1/1"),
        {"extension": [{"url": "urn:mine", "valueString": "x"}, *_marked("x")["extension"]]},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [0, 10, 1_500_000])
def test_what_stands_beside_data_is_refused_when_it_is_malformed_or_ours_to_say(fhir, beside, size):
    data = {"data": base64.b64encode(bytes(size)).decode()} if size else {}
    sent = _binary(**data, _data=beside)
    entry = {"request": {"method": "POST", "url": "Binary"}, "resource": sent}
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}

    answer = fhir.post("/Binary", json=sent)
    told = fhir.post("", json=bundle).json()["entry"][0]["response"]

    assert (answer.status_code, told["status"][:3]) == (422, "422"), answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert fhir.put("/Binary/odd", json={**sent, "id": "odd"}).status_code == 422


@pytest.mark.parametrize("size", [10, 1024 * 1024, 1024 * 1024 + 1, 1_500_000])
def test_extensions_of_data_stay_beside_it_and_nothing_internal(fhir, size):
    beside = {"id": "d", "extension": [{"url": "urn:mine", "valueString": "x"}]}
    data = base64.b64encode(bytes(size)).decode()

    made = fhir.post("/Binary", json=_binary(data=data, _data=beside))
    shown = fhir.get(f"/Binary/{made.headers['location'].split('/')[-3]}", headers=_JSON).json()

    assert (shown["data"], shown["_data"]) == (data, beside)


def _bundles(fhir, path):
    """All answers in which a Binary stands among others."""
    id = path.rpartition("/")[2]
    entry = {"request": {"method": "GET", "url": path.removeprefix("/")}}
    yield fhir.get("/Binary", params={"_id": id}).json()["entry"][0]["resource"]
    yield fhir.get(f"{path}/_history").json()["entry"][0]["resource"]
    for kind in ("batch", "transaction"):
        bundle = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
        yield fhir.post("", json=bundle).json()["entry"][0]["resource"]


def test_a_large_binary_leaves_a_bundle_without_its_data_and_a_small_one_with_it(fhir):
    large, small = _stored(fhir, os.urandom(2_000_000)), _stored(fhir, b"small")
    for shown in _bundles(fhir, large):
        assert set(shown) == {"resourceType", "id", "meta", "contentType"}
        assert shown["meta"]["tag"][0]["code"] == "SUBSETTED"
    for shown in _bundles(fhir, small):
        assert shown["data"] == base64.b64encode(b"small").decode()
        assert "tag" not in shown["meta"]
    whole = fhir.get(large, headers=_JSON).json()
    assert "tag" not in whole["meta"]


def test_a_large_binary_that_is_returned_to_its_sender_shows_nothing_internal(fhir):
    headers = {"Prefer": "return=representation"}
    data = base64.b64encode(bytes(2_000_000)).decode()

    answer = fhir.post("/Binary", json=_binary(data=data), headers=headers)

    assert answer.status_code == 201
    assert _MARK not in answer.text


def test_what_a_bundle_showed_of_a_large_binary_does_not_overwrite_it(fhir):
    path = _stored(fhir, os.urandom(2_000_000))
    shown = next(_bundles(fhir, path))

    refused = fhir.put(path, json=shown)

    assert refused.status_code == 422
    assert "without its data" in refused.text
    shown["meta"].pop("tag")
    assert fhir.put(path, json=shown).status_code == 200  # a Binary may have none


def test_a_large_binary_is_not_patched_and_nothing_of_its_pieces_can_be_tested(fhir):
    path = _stored(fhir, os.urandom(2_000_000))
    kind = {"Content-Type": "application/json-patch+json"}
    small = _stored(fhir, b"x")
    change = b'[{"op":"replace","path":"/contentType","value":"text/html"}]'
    test = b'[{"op":"test","path":"/_data/extension/0/url","value":"urn:salus:pieces"}]'

    assert fhir.patch(small, content=change, headers=kind).status_code == 200
    for body in (change, test):
        answer = fhir.patch(path, content=body, headers=kind)
        assert (answer.status_code, "not patched" in answer.text) == (422, True)
