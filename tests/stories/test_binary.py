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
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"


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


def test_the_pieces_of_another_binary_cannot_be_claimed(fhir):
    path = _stored(fhir, os.urandom(2_000_000))
    inside = fhir.get("/Binary", params={"_id": path.rpartition("/")[2]}).json()
    stolen = inside["entry"][0]["resource"]
    assert "_data" in stolen
    answer = fhir.post("/Binary", json={k: v for k, v in stolen.items() if k != "id"})
    assert answer.status_code == 422
