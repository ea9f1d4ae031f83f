"""Operations that gather many resources into one answer: $everything, $lastn, $docref and $meta show
a caller what its reads and searches would, and nothing besides.

Section 11.1 of the negative tests. https://hl7.org/fhir/R4/patient-operation-everything.html
"""

import json

import pytest

from fhir_server.limits import Limits
from fhir_server.operations import meta
from tests.security.clinic import BASE, EVERYBODY, Clinic, core, grant
from tests.security.people import CATEGORY, LAB, condition, observation, reference, resource

LABS = grant(
    f"patient/Observation.rs?category={CATEGORY}|{LAB} patient/Patient.rs", patient="a", id="pA"
)
OF_A = grant("patient/*.rs", patient="a")
SYSTEM = grant("system/*.rs")
TAG = {"system": "http://tags", "code": "only-on-b"}


def document(name, of, **more):
    return resource(
        name,
        status="current",
        type={"text": name},
        subject=reference(of),
        content=[{"attachment": {"url": "https://x.example"}}],
        **more,
    )


@pytest.fixture(scope="module", autouse=True)
def chart(clinic):
    """What the world of people lacks: documents, somebody named by one condition alone, a label."""
    clinic.put(
        document("DocumentReference/doc-a", "Patient/a"),
        document("DocumentReference/doc-b", "Patient/b"),
        condition("Condition/secret-a", "Patient/a", asserter=reference("Practitioner/nurse")),
        observation("Observation/tagged-b", "Patient/b", meta={"tag": [TAG]}),
    )


def events(clinic, operation):
    """What the audit has of an operation, newest first: the names that each event has."""
    found = clinic.ask(EVERYBODY, "GET", "AuditEvent?_sort=-date&_count=20").json["entry"]
    return [
        {each.get("what", {}).get("reference") for each in event["resource"].get("entity", ())}
        for event in found
        if f"${operation}" in json.dumps(event["resource"].get("subtype"))
    ]


# --- without a scope -----------------------------------------------------------------------------


@pytest.mark.requirement("17", "E5")
@pytest.mark.parametrize(
    ("scopes", "method", "url"),
    [
        ("patient/Observation.rs", "GET", "Patient/a/$everything"),
        ("patient/Patient.s", "GET", "Patient/a/$everything"),
        ("patient/Patient.s", "GET", "Patient/$everything"),
        ("patient/Observation.r", "GET", "Observation/$lastn?patient=a"),
        ("patient/Patient.rs", "GET", "Observation/$lastn?patient=a"),
        ("patient/DocumentReference.r", "GET", "DocumentReference/$docref?patient=a"),
        ("patient/Observation.s", "GET", "Observation/lab-a/$meta"),
        ("patient/Observation.r", "GET", "Observation/$meta"),
        ("patient/Observation.rs", "GET", "$meta"),
        ("patient/Observation.r", "POST", "Observation/lab-a/$meta-add"),
        ("patient/Observation.u", "POST", "Observation/lab-a/$meta-add"),
        ("patient/Observation.u", "POST", "Observation/lab-a/$meta-delete"),
    ],
)
def test_each_needs_the_letters_of_what_it_answers(clinic, scopes, method, url):
    caller = grant(scopes, patient="a", id=f"{scopes} {url}")
    answer = clinic.ask(caller, method, url)
    assert (answer.status, answer.code) == (403, "forbidden")
    assert clinic.ask(None, method, url).status == 401


@pytest.mark.requirement("17")
@pytest.mark.parametrize("url", ["Patient/a/$everything?_type=Condition",
                                 "Patient/$everything?_type=Patient,Condition",
                                 "Observation/$lastn?patient=a&encounter.type=x"])  # fmt: skip
def test_a_type_that_is_named_needs_a_scope_too(clinic, url):
    assert clinic.ask(LABS, "GET", url).status == 403


# --- another patient's ---------------------------------------------------------------------------


@pytest.mark.requirement("1", "M6", "F7")
def test_everything_of_another_patient_is_that_of_nobody(clinic):
    hidden = clinic.ask(OF_A, "GET", "Patient/b/$everything")
    absent = clinic.ask(OF_A, "GET", "Patient/z/$everything")
    assert (hidden.status, hidden.headers, hidden.body) == (404, absent.headers, absent.body)


@pytest.mark.requirement("1", "2", "M6")
@pytest.mark.parametrize(
    "url",
    [
        "Observation/$lastn?patient={}",
        "Observation/$lastn?subject=Patient/{}&max=9",
        "Observation/$lastn?patient={}&patient=a",
        f"Observation/$lastn?patient={BASE}/Patient/{{}}",
        "DocumentReference/$docref?patient={}",
        "DocumentReference/$docref?patient={}&start=2000",
        "DocumentReference/$docref?patient={}&on-demand=true",
    ],
)
def test_what_is_asked_of_another_patient_is_as_of_nobody(clinic, url):
    hidden = clinic.ask(OF_A, "GET", url.format("b"))
    absent = clinic.ask(OF_A, "GET", url.format("z"))
    bodies = [hidden.json, absent.json]
    for body in bodies:
        del body["link"]
    assert (hidden.status, bodies[0]) == (200, bodies[1])
    modes = [each["search"]["mode"] for each in hidden.json.get("entry", ())]
    assert modes == (["outcome"] if "on-demand" in url else [])


@pytest.mark.requirement("1", "2")
def test_what_gathers_from_all_patients_shows_a_patient_ones_own(clinic):
    found = clinic.names(OF_A, "Patient/$everything?_count=4")
    assert "Patient/a" in found and "Observation/vital-a" in found
    assert [each for each in found if each.endswith("-b") or each == "Patient/b"] == []
    assert sorted(found) == sorted(clinic.names(OF_A, "Patient/a/$everything"))
    both = clinic.names(SYSTEM, "Patient/$everything?_count=4")
    assert {"Patient/a", "Patient/b", "Observation/lab-a", "Observation/lab-b"} <= set(both)


# --- what is hidden is absent --------------------------------------------------------------------


@pytest.mark.requirement("1", "6", "M6")
def test_everything_has_what_the_scopes_show_and_no_more(clinic):
    assert clinic.names(LABS, "Patient/a/$everything") == ["Patient/a", "Observation/lab-a"]
    every = set(clinic.names(OF_A, "Patient/a/$everything"))
    for name in every:
        assert clinic.ask(OF_A, "GET", name).status == 200
    searched = {
        name
        for type in core().definitions.compartments["Patient"]
        if type not in ("AuditEvent", "Binary")
        for name in clinic.names(OF_A, f"Patient/a/{type}")
    }
    assert searched <= every
    assert {"Practitioner/doc", "Practitioner/nurse", "Device/pump-a", "Task/call-a"} <= every
    assert not any(each.startswith(("Binary/", "AuditEvent/")) for each in every)


@pytest.mark.requirement("1", "13")
def test_what_only_a_hidden_resource_refers_to_does_not_go_along(clinic):
    caller = grant("patient/Patient.rs patient/Practitioner.rs", patient="a", id="few")
    assert clinic.names(caller, "Patient/a/$everything") == ["Patient/a", "Practitioner/doc"]
    alone = clinic.names(caller, "Patient/a/$everything?_type=Practitioner")
    assert alone == ["Practitioner/doc"]


@pytest.mark.requirement("1", "6")
def test_the_newest_is_the_newest_that_may_be_seen(clinic):
    clinic.put(
        observation("Observation/now-a", "Patient/a", "vital-signs", effectiveDateTime="2024"),
        observation("Observation/then-a", "Patient/a", LAB, effectiveDateTime="2020"),
    )
    assert clinic.names(OF_A, "Observation/$lastn?patient=a") == ["Observation/now-a"]
    assert clinic.names(LABS, "Observation/$lastn?patient=a") == ["Observation/then-a"]
    assert clinic.ask(LABS, "GET", "Observation/$lastn?patient=a").json["total"] == 1


@pytest.mark.requirement("1", "M6")
def test_labels_are_those_of_what_may_be_seen(clinic):
    assert clinic.ask(SYSTEM, "GET", "Observation/$meta").json["parameter"][0]["valueMeta"]
    for url in ("Observation/$meta", "$meta"):
        answer = clinic.ask(OF_A, "GET", url)
        assert answer.status == 200 and TAG["code"].encode() not in answer.body
    hidden = clinic.ask(OF_A, "GET", "Observation/tagged-b/$meta")
    absent = clinic.ask(OF_A, "GET", "Observation/tagged-z/$meta")
    assert (hidden.status, hidden.body) == (404, absent.body)


@pytest.mark.requirement("11", "12", "M6")
@pytest.mark.parametrize("code", ["meta-add", "meta-delete"])
def test_labels_of_another_patients_are_not_changed(clinic, code):
    parameter = {"name": "meta", "valueMeta": {"tag": [TAG]}}
    sent = {"resourceType": "Parameters", "parameter": [parameter]}
    caller = grant("patient/*.cruds", patient="a")
    hidden = clinic.ask(caller, "POST", f"Observation/tagged-b/${code}", sent)
    absent = clinic.ask(caller, "POST", f"Observation/tagged-z/${code}", sent)
    assert (hidden.status, hidden.body) == (404, absent.body)
    shared = clinic.ask(caller, "POST", f"Organization/org/${code}", sent)
    assert shared.status in (403, 404)
    event = next(iter(clinic.names(EVERYBODY, "AuditEvent?_count=1&date=gt2000")))
    assert clinic.ask(EVERYBODY, "POST", f"{event}/${code}", sent).status == 405
    seen = clinic.ask(EVERYBODY, "GET", "Observation/tagged-b").json
    assert (seen["meta"]["tag"], seen["meta"]["versionId"]) == ([TAG], "1")


@pytest.mark.requirement("11", "12")
def test_a_label_that_takes_a_resource_out_of_the_scope_is_refused(clinic):
    clinic.put(observation("Observation/kept-a", "Patient/a", meta={"tag": [TAG]}))
    scoped = grant("patient/Observation.rus?_tag=http://tags|only-on-b", patient="a", id="tagged")
    parameter = {"name": "meta", "valueMeta": {"tag": [TAG]}}
    sent = {"resourceType": "Parameters", "parameter": [parameter]}
    answer = clinic.ask(scoped, "POST", "Observation/kept-a/$meta-delete", sent)
    assert (answer.status, answer.code) == (403, "forbidden")
    assert clinic.ask(EVERYBODY, "GET", "Observation/kept-a").json["meta"]["tag"] == [TAG]


# --- links ---------------------------------------------------------------------------------------


@pytest.mark.requirement("22", "E7")
def test_a_page_opens_for_its_grant_and_its_patient_alone(clinic):
    following = clinic.ask(OF_A, "GET", "Patient/a/$everything?_count=1").following
    path, _, sealed = following.partition("?_page=")
    assert clinic.ask(OF_A, "GET", following).names == ["Appointment/both"]
    for other in (SYSTEM, EVERYBODY, grant("patient/*.rs", patient="a", id="another")):
        assert clinic.ask(other, "GET", following).status == 404
    for url in ("Patient/$everything", "Patient/b/$everything", "Patient", "Observation/$lastn",
                "DocumentReference/$docref"):  # fmt: skip
        assert clinic.ask(OF_A, "GET", f"{url}?_page={sealed}").status in (400, 404)
    both = clinic.ask(OF_A, "GET", f"{path}?_page={sealed}&_type=Condition")
    assert both.status == 404


@pytest.mark.requirement("22", "E7")
def test_rights_are_those_of_now_on_every_page(clinic):
    following = clinic.ask(OF_A, "GET", "Patient/a/$everything?_count=1").following
    narrowed = grant("patient/Patient.rs patient/Observation.rs?category=laboratory",
                     patient="a", id="patient/*.rs")  # fmt: skip
    found = clinic.names(narrowed, following)
    assert found and {each.partition("/")[0] for each in found} == {"Observation"}
    assert "Observation/vital-a" not in found
    without = grant("patient/Observation.rs", patient="a", id="patient/*.rs")
    assert clinic.ask(without, "GET", following).status == 403


# --- audit ---------------------------------------------------------------------------------------


@pytest.mark.requirement("18", "B1")
def test_the_audit_names_whose_data_was_gathered(clinic):
    clinic.ask(OF_A, "GET", "Patient/a/$everything")
    assert "Patient/a" in events(clinic, "everything")[0]
    clinic.names(SYSTEM, "Patient/$everything?_count=1000")
    assert {"Patient/a", "Patient/b"} <= events(clinic, "everything")[0]
    clinic.ask(SYSTEM, "GET", "Observation/$lastn?patient=b")
    named = events(clinic, "lastn")[0]
    assert "Patient/b" in named and "Patient/a" not in named
    clinic.ask(SYSTEM, "GET", "DocumentReference/$docref?patient=a")
    assert "Patient/a" in events(clinic, "docref")[0]
    clinic.ask(SYSTEM, "GET", "Observation/lab-a/$meta")
    assert {"Patient/a", "Observation/lab-a"} <= events(clinic, "meta")[0]
    parameter = {"name": "meta", "valueMeta": {"tag": [{"system": "http://t", "code": "x"}]}}
    sent = {"resourceType": "Parameters", "parameter": [parameter]}
    clinic.ask(EVERYBODY, "POST", "Observation/vital-a/$meta-add", sent)
    assert "Patient/a" in events(clinic, "meta-add")[0]
    assert clinic.ask(OF_A, "GET", "Patient/b/$everything").status == 404
    assert "Patient/b" in events(clinic, "everything")[0]


# --- limits --------------------------------------------------------------------------------------


@pytest.fixture
def small(clinic, runner):
    """The same store behind a server with small pages."""
    return Clinic(clinic.store, runner, limits=Limits(page=3))


def test_a_page_of_everything_has_an_end(small):
    for url in ("Patient/a/$everything", "Patient/a/$everything?_count=1000"):
        answer = small.ask(OF_A, "GET", url)
        assert len(answer.names) == 3 and answer.following
    assert "Practitioner/doc" in small.names(OF_A, "Patient/a/$everything")


def test_large_resources_end_a_page_of_everything_earlier(clinic, runner):
    narrow = Clinic(clinic.store, runner, limits=Limits(page_bytes=1))
    answer = narrow.ask(OF_A, "GET", "Patient/a/$everything")
    assert answer.names == ["Patient/a"] and answer.following
    assert narrow.names(OF_A, "Patient/a/$everything") == clinic.names(
        OF_A, "Patient/a/$everything"
    )


def test_the_newest_of_too_many_codes_are_refused(small, clinic):
    for number in range(4):
        code = {"coding": [{"system": "http://codes", "code": f"c{number}"}]}
        made = {**observation(f"Observation/c{number}-b", "Patient/b"), "code": code}
        clinic.put(made)
    answer = small.ask(SYSTEM, "GET", "Observation/$lastn?patient=b")
    assert (answer.status, answer.code) == (413, "too-costly")
    one = small.names(SYSTEM, "Observation/$lastn?patient=b&code=http://codes|c1")
    assert one == ["Observation/c1-b"]


def test_labels_of_too_many_resources_are_refused(clinic, monkeypatch):
    monkeypatch.setattr(meta, "_MOST", 0)
    answer = clinic.ask(SYSTEM, "GET", "Observation/$meta")
    assert (answer.status, answer.code) == (413, "too-costly")
    assert clinic.ask(SYSTEM, "GET", "Observation/tagged-b/$meta").status == 200
