"""What HTTP clients rely on: preconditions, preferences, formats, statuses and refusals."""

import gzip
import json
import uuid

import pytest

from tests.living import Living


def _patient(**more):
    return {"resourceType": "Patient", "name": [{"family": "Okonkwo"}], **more}


def _issue(answer):
    body = answer.json()
    assert body["resourceType"] == "OperationOutcome"
    return body["issue"][0]


def test_numbers_come_back_with_every_digit(fhir):
    body = (
        b'{"resourceType":"Observation","status":"final","code":{"text":"weight"},'
        b'"valueQuantity":{"value":72.50,"unit":"kg"},"component":[{"code":{"text":"a"},'
        b'"valueQuantity":{"value":0.10000000000000000001}}]}'
    )
    answer = fhir.post("/Observation", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 201
    again = fhir.get(f"/Observation/{answer.json()['id']}").text
    assert '"value":72.50,' in again
    assert '"value":0.10000000000000000001}' in again


def test_a_client_chooses_what_a_write_returns(fhir):
    def post(prefer):
        return fhir.post("/Patient", json=_patient(), headers={"Prefer": prefer})

    assert post("return=minimal").content == b""
    assert post("return=representation").json()["resourceType"] == "Patient"
    assert post("return=OperationOutcome").json()["resourceType"] == "OperationOutcome"


def test_update_as_create_answers_201_and_a_second_update_200(fhir):
    id = f"chosen-{uuid.uuid4().hex[:12]}"
    first = fhir.put(f"/Patient/{id}", json=_patient(id=id))
    second = fhir.put(f"/Patient/{id}", json=_patient(id=id))
    assert (first.status_code, second.status_code) == (201, 200)
    assert (first.headers["etag"], second.headers["etag"]) == ('W/"1"', 'W/"2"')


@pytest.mark.parametrize(
    ("id", "body"),
    [("abc", {"id": "abd"}), ("abc", {})],
    ids=["another id in the body", "no id in the body"],
)
def test_an_update_whose_body_has_not_the_id_of_its_url_is_refused(fhir, id, body):
    answer = fhir.put(f"/Patient/{id}", json=_patient(**body))
    assert answer.status_code == 400
    assert _issue(answer)["expression"] == ["Patient.id"]


def test_put_with_if_none_match_never_overwrites(fhir):
    id = uuid.uuid4().hex
    headers = {"If-None-Match": "*"}
    assert fhir.put(f"/Patient/{id}", json=_patient(id=id), headers=headers).status_code == 201
    assert fhir.put(f"/Patient/{id}", json=_patient(id=id), headers=headers).status_code == 412


def test_a_conditional_read_of_what_did_not_change_is_304(fhir):
    made = fhir.post("/Patient", json=_patient())
    url = f"/Patient/{made.json()['id']}"
    assert fhir.get(url, headers={"If-None-Match": 'W/"1"'}).status_code == 304
    assert fhir.get(url, headers={"If-None-Match": 'W/"2"'}).status_code == 200
    since = {"If-Modified-Since": made.headers["last-modified"]}
    assert fhir.get(url, headers=since).status_code == 304
    before = {"If-Modified-Since": "Mon, 01 Jan 2024 00:00:00 GMT"}
    assert fhir.get(url, headers=before).status_code == 200


def test_conditional_create_update_and_delete_select_by_search(fhir):
    value = uuid.uuid4().hex
    identified = _patient(identifier=[{"system": "urn:x", "value": value}])
    query = f"identifier=urn:x|{value}"
    first = fhir.post("/Patient", json=identified, headers={"If-None-Exist": query})
    again = fhir.post("/Patient", json=identified, headers={"If-None-Exist": query})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.headers["location"] == first.headers["location"]

    changed = fhir.put(f"/Patient?{query}", json={**identified, "gender": "male"})
    assert (changed.status_code, changed.headers["etag"]) == (200, 'W/"2"')
    assert changed.json()["id"] == first.json()["id"]

    other = fhir.post("/Patient", json=identified)
    assert fhir.put(f"/Patient?{query}", json=identified).status_code == 412
    assert (
        fhir.post("/Patient", json=identified, headers={"If-None-Exist": query}).status_code == 412
    )

    assert fhir.delete(f"/Patient?{query}").status_code == 204
    for made in (first, other):
        assert fhir.get(f"/Patient/{made.json()['id']}").status_code == 410


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_conditional_write_without_a_condition_is_refused(fhir, method):
    answer = fhir.request(method, "/Patient", json=_patient())
    assert answer.status_code == 412
    assert "search parameter" in _issue(answer)["diagnostics"]


def test_a_json_patch_changes_what_it_names(fhir):
    id = fhir.post("/Patient", json=_patient(gender="male")).json()["id"]
    patch = [
        {"op": "test", "path": "/gender", "value": "male"},
        {"op": "replace", "path": "/gender", "value": "female"},
        {"op": "add", "path": "/birthDate", "value": "1980-02-29"},
    ]
    headers = {"Content-Type": "application/json-patch+json"}
    answer = fhir.patch(f"/Patient/{id}", content=json.dumps(patch), headers=headers)
    assert answer.status_code == 200
    assert (answer.json()["gender"], answer.json()["birthDate"]) == ("female", "1980-02-29")

    for bad, status in (
        ([{"op": "test", "path": "/gender", "value": "male"}], 422),
        ([{"op": "replace", "path": "/gender", "value": "frog"}], 422),
        ([{"op": "replace", "path": "/id", "value": "other"}], 422),
        ([{"op": "remove", "path": "/photo"}], 422),
        ([{"op": "jump", "path": "/gender"}], 400),
        ({"op": "add"}, 400),
    ):
        answer = fhir.patch(f"/Patient/{id}", content=json.dumps(bad), headers=headers)
        assert (bad, answer.status_code) == (bad, status)
    assert fhir.get(f"/Patient/{id}").headers["etag"] == 'W/"2"'
    assert fhir.patch(f"/Patient/{id}", json=patch).status_code == 415


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/Patient/none-such", 404),
        ("GET", "/Nonsense", 404),
        ("GET", "/Patient/1/2/3", 404),
        ("GET", "/Patient/..%2F..%2Fetc", 404),
        ("GET", "/Patient/a%20b", 400),
        ("GET", "/Patient/1/_history/x", 404),
        ("DELETE", "/metadata", 405),
        ("PUT", "/", 405),
        ("POST", "/Patient/1", 405),
        ("GET", "/Patient/$nonsense", 404),
        ("GET", "/Patient?_format=xml", 406),
        ("GET", "/Patient?nonsense=1", 400),
        ("GET", "/Patient?birthdate=frog", 400),
        ("GET", "/Patient?name:nonsense=x", 400),
        ("GET", "/Patient?%ff=1", 400),
        ("GET", "/Patient?_page=forged", 404),
    ],
)
def test_what_cannot_be_answered_gets_its_status_and_an_outcome(fhir, method, path, status):
    answer = fhir.request(method, path)
    assert answer.status_code == status
    assert _issue(answer)["severity"] in ("error", "fatal")


def test_a_body_that_is_no_fhir_json_is_415_and_an_answer_nobody_takes_406(fhir):
    xml = fhir.post("/Patient", content="<Patient/>", headers={"Content-Type": "application/xml"})
    assert xml.status_code == 415
    assert fhir.get("/metadata", headers={"Accept": "application/fhir+xml"}).status_code == 406
    assert fhir.get("/metadata", headers={"Accept": "text/html, */*"}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"resourceType":"Patient"',
        b"[]",
        b'{"resourceType":"Patient","gender":"male","gender":"female"}',
        b'{"resourceType":"Patient","name":[{"family":"a\\u0000b"}]}',
        b'{"resourceType":"Patient","name":[{"family":"\xff\xfe"}]}',
        b'{"resourceType":"Patient","extension":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"resourceType":"Observation"}',
        b'{"multipleBirthInteger":1e999999999,"resourceType":"Patient"}',
        b"\x00\x01\x02",
    ],
    ids=range(11),
)
def test_a_malformed_body_is_refused_and_the_server_goes_on(fhir, body):
    answer = fhir.post("/Patient", content=body, headers={"Content-Type": "application/fhir+json"})
    assert answer.status_code == 400
    assert _issue(answer)["severity"] == "error"
    assert fhir.get("/metadata").status_code == 200


def test_an_invalid_resource_is_422_with_every_problem_and_where_it_is(fhir):
    bad = _patient(gender="frog", birthDate="2023-02-30", nonsense=1)
    answer = fhir.post("/Patient", json=bad)
    assert answer.status_code == 422
    found = {expression for issue in answer.json()["issue"] for expression in issue["expression"]}
    assert found == {"Patient.gender", "Patient.birthDate", "Patient"}


def test_a_body_above_the_limit_is_413_packed_or_not(fhir):
    huge = json.dumps(_patient(text={"status": "generated", "div": "x" * 17_000_000}))
    headers = {"Content-Type": "application/fhir+json"}
    assert fhir.post("/Patient", content=huge, headers=headers).status_code == 413
    packed = gzip.compress(huge.encode())
    assert len(packed) < 100_000
    answer = fhir.post("/Patient", content=packed, headers={**headers, "Content-Encoding": "gzip"})
    assert answer.status_code == 413
    small = gzip.compress(json.dumps(_patient()).encode())
    answer = fhir.post("/Patient", content=small, headers={**headers, "Content-Encoding": "gzip"})
    assert answer.status_code == 201


def test_summary_and_elements_show_a_part_and_say_so(fhir):
    whole = _patient(
        gender="female", contact=[{"name": {"family": "X"}}], text=_narrative(), birthDate="1990"
    )
    id = fhir.post("/Patient", json=whole).json()["id"]

    def shown(query):
        return fhir.get(f"/Patient/{id}?{query}").json()

    assert set(shown("_elements=gender")) == {"resourceType", "id", "meta", "gender"}
    summary = shown("_summary=true")
    assert set(summary) == {"resourceType", "id", "meta", "name", "gender", "birthDate"}
    assert summary["meta"]["tag"][0]["code"] == "SUBSETTED"
    assert set(shown("_summary=text")) == {"resourceType", "id", "meta", "text"}
    assert "text" not in shown("_summary=data")
    assert "contact" in shown("_summary=false")
    count = fhir.get("/Patient", params={"_id": id, "_summary": "count"}).json()
    assert (count["total"], "entry" in count) == (1, False)


def _narrative():
    return {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Hi</div>'}


def test_pretty_is_the_same_json_over_several_lines(fhir):
    id = fhir.post("/Patient", json=_patient()).json()["id"]
    plain, pretty = fhir.get(f"/Patient/{id}"), fhir.get(f"/Patient/{id}?_pretty=true")
    assert "\n" in pretty.text
    assert plain.json() == pretty.json()


def test_a_repeated_idempotency_key_gets_the_first_answer_and_makes_nothing(fhir):
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    first = fhir.post("/Patient", json=_patient(), headers=headers)
    again = fhir.post("/Patient", json=_patient(), headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.headers["location"] == again.headers["location"]


@pytest.mark.parametrize(
    ("resource", "expression"),
    [
        (
            {
                "resourceType": "Subscription",
                "status": "requested",
                "reason": "r",
                "criteria": "Observation?",
                "channel": {"type": "rest-hook"},
            },
            "Subscription.status",
        ),
    ],
    ids=["Subscription"],
)
def test_what_would_have_no_effect_yet_is_refused_rather_than_stored(fhir, resource, expression):
    answer = fhir.post(f"/{resource['resourceType']}", json=resource)
    assert answer.status_code == 422
    assert (_issue(answer)["code"], _issue(answer)["expression"]) == ("not-supported", [expression])


def test_the_capability_statement_is_valid_and_names_every_type(fhir):
    statement = fhir.get("/metadata").json()
    assert len(statement["rest"][0]["resource"]) == 146
    checked = fhir.post("/CapabilityStatement/$validate", json=statement)
    assert checked.status_code == 200
    severities = {issue["severity"] for issue in checked.json()["issue"]}
    assert severities <= {"information", "warning"}, checked.json()


def test_a_body_of_100_megabytes_is_refused_before_it_is_read(fhir):
    def pieces():
        for _ in range(100):
            yield b" " * 1024 * 1024

    headers = {"Content-Type": "application/fhir+json"}
    answer = fhir.post("/Patient", content=b" " * 100 * 1024 * 1024, headers=headers)
    assert (answer.status_code, _issue(answer)["code"]) == (413, "too-long")
    answer = fhir.post("/Patient", content=pieces(), headers=headers)
    assert (answer.status_code, _issue(answer)["code"]) == (413, "too-long")


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"family": "'; DROP TABLE resource; --"}, 200),
        ({"family": '" OR 1=1'}, 200),
        ({"identifier": "x|' UNION SELECT body FROM resource"}, 200),
        ({"family": "%"}, 200),
        ({"family": "_"}, 200),
        ([("family", "a")] * 101, 400),
        ({"family": ",".join(f"a{i}" for i in range(501))}, 400),
        ({"family": "a" * 20_000}, 414),
        ({"general-practitioner.organization.partof." * 20 + "name": "x"}, 400),
        ({"_has:Observation:patient:" * 20 + "code": "x"}, 400),
        ({"birthdate": "9" * 500}, 400),
        ({"_count": "-1"}, 400),
        ({"_count": "99999999999999999999"}, 400),
    ],
)
def test_hostile_parameters_find_nothing_or_are_refused(fhir, parameters, status):
    answer = fhir.get("/Patient", params=parameters)
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["total"] == 0
    else:
        assert _issue(answer)["severity"] == "error"


def test_links_use_the_base_url_and_never_the_host_header(fhir):
    headers = {"Host": "localhost:1"}  # another name of the machine, which --open answers to
    answer = fhir.post("/Patient", json=_patient(), headers=headers)
    assert answer.headers["location"].startswith(str(fhir.base_url).rstrip("/"))
    found = fhir.get("/Patient", params={"_count": "1"}, headers=headers).text
    assert "localhost" not in found


def test_a_page_belongs_to_the_search_that_it_was_made_for(fhir):
    for _ in range(3):
        fhir.post("/Patient", json=_patient())
    page = fhir.get("/Patient", params={"_count": "1"}).json()
    link = next(each["url"] for each in page["link"] if each["relation"] == "next")
    assert fhir.get(link).status_code == 200
    assert fhir.get(link.replace("/Patient?", "/Observation?")).status_code == 404
    assert fhir.get(link[:-2] + ("A" if link[-2] != "A" else "B") + link[-1]).status_code == 404
    assert fhir.get(link + "&_count=2").status_code == 404


def test_a_reference_to_nothing_is_accepted_and_metrics_do_not_tell_what_is_there(fhir, living):
    def told():
        text = fhir.get(living.url.removesuffix("/fhir") + "/metrics").text
        every = ("#", "salus_interaction", "salus_log")  # what each request moves
        numbers = [x for x in text.splitlines() if not x.startswith(every)]
        assert "salus_interactions_total" in text
        return numbers

    before = told()
    for id in (fhir.post("/Practitioner", json=_practitioner()).json()["id"], uuid.uuid4().hex):
        answer = fhir.post("/Patient", json=_patient(generalPractitioner=[_reference(id)]))
        assert answer.status_code == 201
        assert told() == before


def _practitioner():
    return {"resourceType": "Practitioner"}


def _reference(id):
    return {"reference": f"Practitioner/{id}"}


def test_a_server_that_checks_references_refuses_one_to_nothing(tmp_path):
    server = Living(tmp_path, SALUS_REFERENCES="check").start()
    with server.client() as fhir:
        bad = fhir.post("/Patient", json=_patient(generalPractitioner=[_reference("none")]))
        assert bad.status_code == 422
        assert "Practitioner" in _issue(bad)["diagnostics"]
        made = fhir.post("/Practitioner", json={"resourceType": "Practitioner"}).json()["id"]
        good = fhir.post("/Patient", json=_patient(generalPractitioner=[_reference(made)]))
        assert good.status_code == 201
        urn = f"urn:uuid:{uuid.uuid4()}"
        together = [
            _entry(_patient(generalPractitioner=[{"reference": urn}])),
            {**_entry({"resourceType": "Practitioner"}), "fullUrl": urn},
        ]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": together}
        assert fhir.post("/", json=bundle).status_code == 200
        bundle["entry"][0]["resource"] = _patient(generalPractitioner=[_reference("none")])
        assert fhir.post("/", json=bundle).status_code == 422
    assert server.stop() == 0


def _entry(resource):
    return {
        "resource": resource,
        "request": {"method": "POST", "url": resource["resourceType"]},
    }
