"""What a hostile tester once got away with, each the first time as a failing test."""

import base64
import gzip
import uuid
import zlib

import pytest

_JSON = {"Content-Type": "application/fhir+json"}


def _patient(**more):
    return {"resourceType": "Patient", **more}


def _bundle(*entries, type="transaction"):
    return {"resourceType": "Bundle", "type": type, "entry": list(entries)}


def _request(method, url, resource=None, **more):
    entry = {"request": {"method": method, "url": url, **more}}
    return {**entry, "resource": resource} if resource is not None else entry


def _text(answer):
    return answer.json()["issue"][0]["diagnostics"]


# --- conditions that select nothing in particular ------------------------------------------------


@pytest.mark.parametrize(
    "query", ["_count=1", "_sort=_id", "_summary=true", "_elements=id", "_total=none", "", "&"]
)
@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH"])
def test_a_condition_that_selects_nothing_in_particular_selects_nothing(fhir, method, query):
    kept = fhir.post("/Device", json={"resourceType": "Device"}).json()["id"]
    refused = (412,) if method != "PATCH" else (400, 412, 415)  # a Device is no patch
    answer = fhir.request(method, f"/Device?{query}", json={"resourceType": "Device"})
    assert answer.status_code in refused
    for type in ("transaction", "batch"):
        entry = _request(method, f"Device?{query}", {"resourceType": "Device"})
        answer = fhir.post("/", json=_bundle(entry, type=type))
        status = answer.json().get("entry", [{}])[0].get("response", {}).get("status", "")
        assert answer.status_code in refused or int(status[:3]) in refused
    assert fhir.get(f"/Device/{kept}").status_code == 200


@pytest.mark.parametrize("query", ["_count=1", "", "?", "&"])
def test_a_create_that_is_conditional_on_nothing_is_refused(fhir, query):
    entry = _request("POST", "Device", {"resourceType": "Device"}, ifNoneExist=query)
    assert fhir.post("/", json=_bundle(entry)).status_code == 412
    headers = {"If-None-Exist": query}
    answer = fhir.post("/Device", json={"resourceType": "Device"}, headers=headers)
    assert answer.status_code == 412


# --- compressed bodies ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packed", "status"),
    [
        (gzip.compress(b"a" * 1000) + gzip.compress(b"b" * 1000), 201),
        (zlib.compress(b"a" * 1000 + b"b" * 1000), 201),
        (gzip.compress(b"a" * 1000 + b"b" * 1000)[:20], 400),
        (gzip.compress(b"a" * 1000)[:-8], 400),
        (gzip.compress(b"a" * 1000) + b"junk", 400),
        (b"junk", 400),
    ],
    ids=["two members", "deflate", "half", "no trailer", "junk behind", "junk"],
)
def test_a_packed_body_is_unpacked_whole_or_refused(fhir, packed, status):
    encoding = "deflate" if packed[:1] == b"x" else "gzip"
    headers = {"Content-Type": "application/pdf", "Content-Encoding": encoding}
    answer = fhir.post("/Binary", content=packed, headers=headers)
    assert answer.status_code == status
    if status == 201:
        path = f"/Binary/{answer.headers['location'].split('/')[-3]}"
        assert fhir.get(path, headers={"Accept": "*/*"}).content == b"a" * 1000 + b"b" * 1000


# --- keys ----------------------------------------------------------------------------------------


def test_a_key_belongs_to_the_request_that_it_came_with(fhir):
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    made = fhir.post("/Patient", json=_patient(), headers=headers)
    assert made.status_code == 201
    victim = fhir.post("/Patient", json=_patient()).json()["id"]
    for method, path, body in (
        ("DELETE", f"/Patient/{victim}", None),
        ("POST", "/Patient", _patient(gender="male")),
        ("POST", "/", _bundle(_request("POST", "Patient", _patient()))),
    ):
        answer = fhir.request(method, path, json=body, headers=headers)
        assert answer.status_code == 422
        assert "Idempotency-Key" in _text(answer)
    assert fhir.delete("/AuditEvent/1", headers=headers).status_code == 405
    assert fhir.get(f"/Patient/{victim}", headers=headers).json()["id"] == victim
    assert fhir.get(f"/Patient/{victim}").status_code == 200


def test_a_batch_with_a_key_repeats_nothing_and_answers_as_before(fhir):
    value = uuid.uuid4().hex
    headers = {"Idempotency-Key": value}
    identifier = [{"system": "urn:x", "value": value}]
    batch = _bundle(
        *(_request("POST", "Patient", _patient(identifier=identifier)) for _ in range(250)),
        _request("GET", "Patient/none"),
        type="batch",
    )
    first = fhir.post("/", json=batch, headers=headers).json()
    again = fhir.post("/", json=batch, headers=headers).json()
    assert len(first["entry"]) == 251
    assert first == again
    found = fhir.get("/Patient", params={"identifier": f"urn:x|{value}", "_summary": "count"})
    assert found.json()["total"] == 250


# --- 500s ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        {"request": {"method": ["GET"], "url": "Patient"}},
        {"request": {"method": {"a": 1}, "url": "Patient"}},
        {"request": {"method": "GET", "url": 1}},
        {"request": {"method": "GET", "url": "Patient", "ifMatch": []}},
        _request("PATCH", "Patient/1", {"resourceType": "Binary", "data": "é"}),
        _request("PUT", "Patient", _patient()),
        _request(
            "POST", "Patient", _patient(contained=[{"resourceType": ["x"], "a": "urn:uuid:1"}])
        ),
        {"fullUrl": "Patient/abc", **_request("POST", "Patient", _patient())},
        {"fullUrl": 1, **_request("POST", "Patient", _patient())},
        _request("GET", "Patient/1", ifModifiedSince="frog"),
        _request("POST", "$validate"),
        _request("POST", ""),
        1,
        None,
    ],
    ids=range(14),
)
def test_an_odd_entry_is_refused_and_the_others_of_its_batch_are_not(fhir, entry):
    good = _request("POST", "Patient", _patient())
    done = fhir.post("/", json=_bundle(entry, good, type="batch")).json()["entry"]
    assert done[0]["response"]["status"][0] == "4"
    assert done[1]["response"]["status"] == "201 Created"
    answer = fhir.post("/", json=_bundle(entry, good))
    assert 400 <= answer.status_code < 500


def test_an_event_in_a_leap_second_is_kept(fhir):
    event = {
        "resourceType": "AuditEvent",
        "type": {"code": "rest"},
        "recorded": "2016-12-31T23:59:60Z",
        "agent": [{"requestor": True}],
        "source": {"observer": {"display": "x"}},
    }
    assert fhir.post("/AuditEvent", json=event).status_code == 201


def test_a_large_binary_that_is_no_base64_is_refused(fhir):
    body = {"resourceType": "Binary", "contentType": "a/b", "data": "é" * 1_500_000}
    assert fhir.post("/Binary", json=body).status_code == 422


def test_a_security_context_never_breaks_a_header(fhir):
    context = {"reference": "Patient/p1\r\nX-Evil: 1"}
    body = {
        "resourceType": "Binary",
        "contentType": "a/b",
        "data": "YQ==",
        "securityContext": context,
    }
    made = fhir.post("/Binary", json=body)
    if made.status_code == 201:
        answer = fhir.get(f"/Binary/{made.json()['id']}", headers={"Accept": "*/*"})
        assert (answer.status_code, answer.content) == (200, b"a")
        assert "x-evil" not in answer.headers


def test_a_raw_binary_keeps_its_whole_content_type(fhir):
    media = "multipart/related; boundary=ABC"
    made = fhir.post("/Binary", content=b"x", headers={"Content-Type": media})
    path = f"/Binary/{made.headers['location'].split('/')[-3]}"
    assert fhir.get(path, headers={"Accept": "*/*"}).headers["content-type"] == media


# --- what one request may cost -------------------------------------------------------------------


def test_a_batch_of_large_pages_is_refused_beyond_its_budget(fhir):
    tag = uuid.uuid4().hex
    big = _patient(
        identifier=[{"system": "urn:big", "value": tag}],
        photo=[{"contentType": "image/png", "data": base64.b64encode(b"x" * 6_000_000).decode()}],
    )
    for _ in range(6):
        assert fhir.post("/Patient", json=big, headers={"Prefer": "return=minimal"}).is_success
    page = fhir.get("/Patient", params={"identifier": f"urn:big|{tag}", "_count": "1000"})
    assert len(page.json()["entry"]) <= 6
    assert len(page.content) < 80_000_000
    entries = [_request("GET", f"Patient?identifier=urn:big|{tag}&_count=1000")] * 20
    answer = fhir.post("/", json=_bundle(*entries, type="batch"))
    statuses = [each["response"]["status"] for each in answer.json()["entry"]]
    assert statuses[0] == "200 OK"
    assert statuses[-1].startswith("413")
    assert len(answer.content) < 150_000_000


def test_a_refused_binary_leaves_nothing_behind(fhir, living):
    def size():
        return sum(file.stat().st_size for file in living.data.rglob("*") if file.is_file())

    id = uuid.uuid4().hex
    path, headers = f"/Binary/{id}", {"Content-Type": "application/pdf"}
    assert fhir.put(path, content=b"x", headers=headers).status_code == 201
    fhir.put(path, content=b"y" * 8_000_000, headers={**headers, "If-Match": 'W/"9"'})
    before = size()
    for _ in range(5):
        answer = fhir.put(path, content=b"y" * 8_000_000, headers={**headers, "If-Match": 'W/"9"'})
        assert answer.status_code == 412
    assert size() < before + 20_000_000


# --- the audit of what was refused ---------------------------------------------------------------


def _newest(fhir, count=5):
    events = fhir.get("/AuditEvent", params={"_sort": "-date", "_count": str(count)}).json()
    return [entry["resource"] for entry in events["entry"]]


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/Patient", {"Accept": "application/fhir+xml"}),
        ("PUT", "/AuditEvent/1/_history/1", {}),
        ("GET", "/Nonsense", {}),
        ("POST", "/Patient/1", {}),
        ("GET", "/metadata?_format=%ff", {}),
    ],
)
def test_what_is_refused_before_it_is_an_interaction_is_audited_too(fhir, method, path, headers):
    status = fhir.request(method, path, headers=headers).status_code
    assert 400 <= status < 500
    assert "4" in [event["outcome"] for event in _newest(fhir, 1)]


def test_refused_and_reading_entries_of_a_batch_have_events_of_their_own(fhir):
    made = fhir.post("/Patient", json=_patient()).json()["id"]
    unknown = uuid.uuid4().hex
    fhir.post(
        "/",
        json=_bundle(
            _request("GET", f"Patient/{unknown}"),
            _request("GET", f"Patient/{made}"),
            _request("DELETE", "AuditEvent/1"),
            _request("POST", "Patient", _patient()),
            type="batch",
        ),
    )
    told = {
        (event["subtype"][0]["code"], event["outcome"], entity["what"]["reference"])
        for event in _newest(fhir, 6)
        for entity in event.get("entity", ())
        if "reference" in entity.get("what", {})
    }
    assert ("read", "4", f"Patient/{unknown}") in told
    assert ("read", "0", f"Patient/{made}") in told
    assert ("batch", "0") in {(code, outcome) for code, outcome, _ in told}
    codes = {(event["subtype"][0]["code"], event["outcome"]) for event in _newest(fhir, 7)}
    assert ("delete", "4") in codes


def test_a_further_page_is_audited_with_what_was_searched(fhir):
    tag = uuid.uuid4().hex
    for _ in range(2):
        fhir.post("/Patient", json=_patient(identifier=[{"system": "urn:p", "value": tag}]))
    page = fhir.get("/Patient", params={"identifier": f"urn:p|{tag}", "_count": "1"}).json()
    fhir.get(next(each["url"] for each in page["link"] if each["relation"] == "next"))
    queries = [
        base64.b64decode(entity["query"]).decode()
        for event in _newest(fhir, 1)
        for entity in event["entity"]
        if "query" in entity
    ]
    assert queries == [f"Patient?identifier=urn:p|{tag}&_count=1"]


# --- Bundles by the standard's rules -------------------------------------------------------------


def test_a_conditional_delete_and_a_write_of_the_same_resource_are_refused(fhir):
    id = fhir.post("/Patient", json=_patient()).json()["id"]
    delete = _request("DELETE", f"Patient?_id={id}")
    put = _request("PUT", f"Patient/{id}", _patient(id=id))
    answer = fhir.post("/", json=_bundle(delete, put))
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (400, "duplicate")
    assert fhir.get(f"/Patient/{id}").headers["etag"] == 'W/"1"'


def test_history_tells_how_each_version_came_to_be(fhir):
    id = f"chosen-{uuid.uuid4().hex[:8]}"
    fhir.put(f"/Patient/{id}", json=_patient(id=id))
    fhir.delete(f"/Patient/{id}")
    fhir.put(f"/Patient/{id}", json=_patient(id=id))
    fhir.put(f"/Patient/{id}", json=_patient(id=id, gender="male"))
    history = fhir.get(f"/Patient/{id}/_history").json()["entry"]
    assert [(e["request"]["method"], e["response"]["status"]) for e in history] == [
        ("PUT", "200"),
        ("PUT", "201"),
        ("DELETE", "204"),
        ("PUT", "201"),
    ]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Accept": "application/fhir+json;q=0, application/xml"}, 406),
        ({"Accept": "application/fhir+json; fhirVersion=3.0"}, 406),
        ({"Accept": "application/fhir+json; fhirVersion=4.0"}, 200),
        ({"If-None-Match": '"abc"'}, 200),
    ],
)
def test_headers_mean_what_they_say(fhir, headers, status):
    id = fhir.post("/Patient", json=_patient()).json()["id"]
    assert fhir.get(f"/Patient/{id}", headers=headers).status_code == status
    assert fhir.get(f"/Patient/{id}/_history/01").status_code == 404
