"""Batch and transaction over HTTP: together or not at all, with references that end up right."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest


def _bundle(*entries, type="transaction"):
    return {"resourceType": "Bundle", "type": type, "entry": list(entries)}


def _post(resource, full_url=None, **request):
    entry = {
        "resource": resource,
        "request": {"method": "POST", "url": resource["resourceType"], **request},
    }
    return {"fullUrl": full_url, **entry} if full_url else entry


def _patient(value=None, **more):
    identifier = [{"system": "urn:x", "value": value}] if value else []
    return {"resourceType": "Patient", **({"identifier": identifier} if value else {}), **more}


def _observation(reference, **more):
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "pulse"},
        "subject": {"reference": reference},
        **more,
    }


def _urn():
    return f"urn:uuid:{uuid.uuid4()}"


def _count(fhir, value):
    return fhir.get("/Patient", params={"identifier": f"urn:x|{value}"}).json()["total"]


def _id(location):
    return location.split("/_history")[0].split("/")[-1]


def test_urns_become_the_ids_that_the_server_gave_whatever_the_order(fhir):
    urn, value = _urn(), uuid.uuid4().hex
    contained = {
        "resourceType": "Group",
        "id": "g",
        "type": "person",
        "actual": True,
        "member": [{"entity": {"reference": urn}}],
    }
    observation = _observation(
        urn,
        identifier=[{"system": urn, "value": urn}],
        contained=[contained],
        focus=[{"reference": "#g"}],
        extension=[{"url": "http://example.org/about", "valueUri": urn}],
    )
    answer = fhir.post("/", json=_bundle(_post(observation), _post(_patient(value), urn)))
    assert answer.status_code == 200
    entries = answer.json()["entry"]
    assert [each["response"]["status"] for each in entries] == ["201 Created", "201 Created"]
    patient = f"Patient/{_id(entries[1]['response']['location'])}"
    stored = fhir.get(f"/Observation/{_id(entries[0]['response']['location'])}").json()
    assert stored["subject"]["reference"] == patient
    assert stored["contained"][0]["member"][0]["entity"]["reference"] == patient
    assert stored["extension"][0]["valueUri"] == patient
    assert stored["identifier"] == [{"system": urn, "value": urn}]


def test_one_bad_entry_undoes_all_and_is_named(fhir):
    value = uuid.uuid4().hex
    bad = _observation("Patient/1", status="frog")
    answer = fhir.post("/", json=_bundle(_post(_patient(value)), _post(bad)))
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["expression"] == ["Bundle.entry[1].resource.status"]
    assert _count(fhir, value) == 0


def test_a_urn_that_no_entry_has_is_refused(fhir):
    answer = fhir.post("/", json=_bundle(_post(_observation(_urn()))))
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["expression"] == ["Bundle.entry[0].resource.subject.reference"]


def test_conditional_references_select_exactly_one_or_fail(fhir):
    one, two = uuid.uuid4().hex, uuid.uuid4().hex
    made = [fhir.post("/Patient", json=_patient(v)).json() for v in (one, two, two)]
    good = fhir.post("/", json=_bundle(_post(_observation(f"Patient?identifier=urn:x|{one}"))))
    location = good.json()["entry"][0]["response"]["location"]
    stored = fhir.get(f"/Observation/{_id(location)}").json()
    assert stored["subject"]["reference"] == f"Patient/{made[0]['id']}"
    for value, status in ((two, 412), (uuid.uuid4().hex, 412)):
        bad = _bundle(_post(_observation(f"Patient?identifier=urn:x|{value}")))
        assert fhir.post("/", json=bad).status_code == status


def test_entries_are_performed_in_the_order_of_the_standard(fhir):
    gone = fhir.post("/Patient", json=_patient()).json()["id"]
    kept = fhir.post("/Patient", json=_patient(gender="male")).json()["id"]
    value = uuid.uuid4().hex
    answer = fhir.post(
        "/",
        json=_bundle(
            {"request": {"method": "GET", "url": f"Patient?identifier=urn:x|{value}"}},
            {"request": {"method": "GET", "url": f"Patient/{kept}"}},
            {
                "resource": _patient(id=kept, gender="female"),
                "request": {"method": "PUT", "url": f"Patient/{kept}"},
            },
            _post(_patient(value)),
            {"request": {"method": "DELETE", "url": f"Patient/{gone}"}},
        ),
    ).json()["entry"]
    assert [each["response"]["status"][:3] for each in answer] == [
        "200",
        "200",
        "200",
        "201",
        "204",
    ]
    assert answer[0]["resource"]["total"] == 1
    assert answer[1]["resource"]["gender"] == "female"
    assert fhir.get(f"/Patient/{gone}").status_code == 410


def test_two_entries_of_one_identity_are_refused(fhir):
    id, urn = uuid.uuid4().hex, _urn()
    put = {"resource": _patient(id=id), "request": {"method": "PUT", "url": f"Patient/{id}"}}
    delete = {"request": {"method": "DELETE", "url": f"Patient/{id}"}}
    for entries in ((put, put), (put, delete), (_post(_patient(), urn), _post(_patient(), urn))):
        answer = fhir.post("/", json=_bundle(*entries))
        assert answer.status_code == 400
        assert answer.json()["issue"][0]["code"] == "duplicate"
    assert fhir.get(f"/Patient/{id}").status_code == 404


def test_a_conditional_create_in_a_transaction_stands_for_what_it_finds(fhir):
    value, urn = uuid.uuid4().hex, _urn()
    there = fhir.post("/Patient", json=_patient(value)).json()["id"]
    create = _post(_patient(value), urn, ifNoneExist=f"identifier=urn:x|{value}")
    entries = fhir.post("/", json=_bundle(create, _post(_observation(urn)))).json()["entry"]
    assert [each["response"]["status"][:3] for each in entries] == ["200", "201"]
    stored = fhir.get(f"/Observation/{_id(entries[1]['response']['location'])}").json()
    assert stored["subject"]["reference"] == f"Patient/{there}"
    assert _count(fhir, value) == 1


def test_a_batch_does_what_it_can(fhir):
    value = uuid.uuid4().hex
    entries = fhir.post(
        "/",
        json=_bundle(
            _post(_patient(value)),
            _post(_observation("Patient/1", status="frog")),
            {"request": {"method": "GET", "url": "Patient/none-such"}},
            {"request": {"method": "BREW", "url": "Patient"}},
            {"nonsense": 1},
            type="batch",
        ),
    ).json()["entry"]
    assert [each["response"]["status"][:3] for each in entries] == [
        "201",
        "422",
        "404",
        "400",
        "400",
    ]
    assert entries[1]["response"]["outcome"]["issue"][0]["expression"] == [
        "Bundle.entry[1].resource.status"
    ]
    assert _count(fhir, value) == 1


def test_one_event_names_every_version_that_a_transaction_wrote(fhir):
    sent = _bundle(*(_post(_patient()) for _ in range(201)))
    entries = fhir.post("/", json=sent).json()["entry"]
    ids = [_id(each["response"]["location"]) for each in entries]
    events = {}
    for id in (ids[0], ids[1], ids[200]):
        found = fhir.get("/AuditEvent", params={"entity": f"Patient/{id}"}).json()
        event = found["entry"][0]["resource"]
        events[event["id"]] = [
            entity["what"]["reference"]
            for entity in event["entity"]
            if "reference" in entity["what"]
        ]
    assert sorted(len(named) for named in events.values()) == [1, 200]
    assert {each for named in events.values() for each in named} == {
        f"Patient/{id}/_history/1" for id in ids
    }


@pytest.mark.parametrize(
    ("bundle", "status"),
    [
        ({"resourceType": "Patient"}, 400),
        ({"resourceType": "Bundle", "type": "collection"}, 400),
        ({"resourceType": "Bundle", "type": "transaction", "entry": {}}, 400),
        (_bundle(_bundle()), 400),
        (
            _bundle(*({"request": {"method": "GET", "url": "Patient/1"}} for _ in range(10_000))),
            413,
        ),
    ],
    ids=["no Bundle", "collection", "entry no array", "entry no request", "10,000 entries"],
)
def test_what_is_no_transaction_is_refused(fhir, bundle, status):
    assert fhir.post("/", json=bundle).status_code == status


def test_64_conditional_creates_at_once_make_one_resource(living, fhir):
    value = uuid.uuid4().hex
    start = threading.Barrier(64)

    def create(_):
        with living.client() as client:
            start.wait()
            return client.post(
                "/Patient",
                json=_patient(value),
                headers={"If-None-Exist": f"identifier=urn:x|{value}"},
            ).status_code

    with ThreadPoolExecutor(64) as pool:
        statuses = sorted(pool.map(create, range(64)))
    assert statuses == [200] * 63 + [201]
    assert _count(fhir, value) == 1


def test_64_updates_at_once_lose_none(living, fhir):
    made = fhir.post("/Patient", json=_patient()).json()
    start = threading.Barrier(64)

    def update(number):
        with living.client() as client:
            start.wait()
            while True:
                read = client.get(f"/Patient/{made['id']}")
                names = [*read.json().get("name", []), {"family": f"n{number}"}]
                answer = client.put(
                    f"/Patient/{made['id']}",
                    json={**read.json(), "name": names},
                    headers={"If-Match": read.headers["etag"]},
                )
                if answer.status_code == 200:
                    return
                assert answer.status_code in (409, 412)

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(update, range(64)))
    last = fhir.get(f"/Patient/{made['id']}")
    assert last.headers["etag"] == 'W/"65"'
    assert {name["family"] for name in last.json()["name"]} == {f"n{i}" for i in range(64)}
