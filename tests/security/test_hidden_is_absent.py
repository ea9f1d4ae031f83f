"""What a caller may not see is answered as what does not exist: every byte, headers included.

Each shape of request is sent for a thing that is hidden and for one that never was; the two answers
are equal once the one id is written for the other. Section 11.1 of the negative tests.
"""

from __future__ import annotations

import re

import pytest

from conformance.json import parse
from fhir_server import sight
from fhir_server.storage.sqlite.transaction import SqliteTransaction
from tests.security import people
from tests.security.clinic import Clinic, grant, opened
from tests.security.people import CATEGORY, LAB, observation, provenance, reference

EVERYTHING_OF_A = grant("patient/*.cruds", patient="a")
LAB_OF_A = grant(
    f"patient/Observation.cruds?category={CATEGORY}|{LAB} patient/Provenance.cruds"
    " patient/Patient.rs patient/Binary.cruds patient/Condition.cruds patient/Task.cruds"
    " patient/Encounter.cruds patient/Practitioner.rs",
    patient="a",
)
FAMILY = grant("user/*.cruds", reach=frozenset({"a"}), agent="RelatedPerson/r")
READER = grant("patient/*.r patient/*.s", patient="a", id="reader")

# What is hidden, and a name of the same length that nothing has.
HIDDEN = {
    "Patient/b": "Patient/z",
    "Observation/lab-b": "Observation/lab-z",
    "Observation/gone-b": "Observation/gone-z",
    "Observation/moved-b": "Observation/moved-z",
    "Condition/flu-b": "Condition/flu-z",
    "Task/call-b": "Task/call-z",
    "Encounter/visit-b": "Encounter/visit-z",
    "Provenance/of-b": "Provenance/of-z",
    "Binary/scan-b": "Binary/scan-z",
    "Binary/report-b": "Binary/report-z",
    "Binary/open": "Binary/ofen",
}
LIMITED = {"a patient's app": EVERYTHING_OF_A, "granular": LAB_OF_A, "family": FAMILY}


@pytest.fixture(scope="module", params=["accept", "check"])
def clinic(request, runner, tmp_path_factory):
    """The two patients, with something of b that was deleted and something that was a's once."""
    store = runner.run(opened(tmp_path_factory.mktemp("hidden") / "data"))
    made = Clinic(store, runner, references=request.param)
    # What a may see does name b: an appointment of both.
    told = [each for each in people.ALL if each["resourceType"] != "Appointment"]
    made.put(*told, observation("Observation/gone-b", "Patient/b"))
    made.put(observation("Observation/moved-b", "Patient/a"))
    made.put(observation("Observation/moved-b", "Patient/b"))
    assert made.ask(people_grant(), "DELETE", "Observation/gone-b").status == 204
    yield made
    runner.run(store.close())


def people_grant():
    return grant("system/*.cruds")


def _minimal(name):
    """A valid resource of the type, about a."""
    type, _, id = name.partition("/")
    if type == "Binary":
        return people.binary(name, "Patient/a")
    if type == "Provenance":
        return provenance(name, "Observation/lab-a")
    (model,) = [
        each
        for each in people.of_patient("a", "Ash")
        if each["resourceType"] == type
        and each["id"] in ("a", "lab-a", "flu-a", "call-a", "visit-a")
    ]
    return {**model, "id": id}


_IF = [
    (),
    (("if-match", 'W/"1"'),),
    (("if-match", 'W/"9"'),),
    (("if-none-match", 'W/"1"'),),
    (("if-none-match", "*"),),
    (("if-modified-since", "Sun, 01 Jan 2034 00:00:00 GMT"),),
]
_PATCH = [{"op": "add", "path": "/language", "value": "en"}]


def _bundle(type, method, url, body=None, **more):
    request = {"method": method, "url": url, **more}
    entry = {"request": request, **({"resource": body} if body is not None else {})}
    return {"resourceType": "Bundle", "type": type, "entry": [entry]}


def _plain(name):
    """GET and its like, with every precondition."""
    for headers in _IF:
        yield "GET", name, None, headers
        yield "HEAD", name, None, headers
        yield "DELETE", name, None, headers
        yield "PUT", name, _minimal(name), headers
        yield "PATCH", name, _PATCH, headers
        yield "GET", f"{name}/_history/1", None, headers
    yield "PUT", name, {**_minimal(name), "resourceType": name.partition("/")[0], "bad": 1}, ()
    yield "PATCH", name, [{"op": "test", "path": "/id", "value": "x"}], ()
    yield "GET", f"{name}/_history/2", None, ()
    yield "GET", f"{name}/_history/99", None, ()
    yield "GET", f"{name}/_history", None, ()
    yield "GET", f"{name}/_history?_count=1&_since=2020-01-01T00:00:00Z", None, ()
    yield "GET", f"{name}/$validate", None, ()
    yield "POST", f"{name}/$validate?mode=delete", None, ()
    yield "GET", f"{name}?_summary=true", None, ()
    yield "GET", f"{name}?_elements=id", None, ()


def _searches(name):
    type, _, id = name.partition("/")
    yield "GET", f"{type}?_id={id}", None, ()
    yield "GET", f"{type}?_id={id}&_summary=count", None, ()
    yield "GET", f"{type}?_id={id}&_total=accurate&_count=1", None, ()
    yield "GET", f"{type}?_id={id}&_revinclude=*&_include=*&_include:iterate=*", None, ()
    yield "GET", f"{type}?_id={id}&_sort=-_lastUpdated&_elements=id", None, ()
    yield "POST", f"{type}/_search", f"_id={id}".encode(), (_FORM,)
    yield "GET", f"Provenance?target={name}", None, ()
    yield "GET", f"Provenance?target={name}&_summary=count", None, ()
    yield "GET", f"Provenance?entity={name}", None, ()
    yield "GET", f"Provenance?target:missing=false&entity={name}", None, ()
    yield "GET", f"Patient?_has:Provenance:target:entity={name}", None, ()
    yield "GET", f"Observation?_has:Provenance:target:target={name}", None, ()
    yield "GET", f"{type}?_has:Provenance:target:_id=both&_id={id}", None, ()
    yield "GET", f"Provenance?target:{type}._id={id}", None, ()
    if type == "Patient":
        for of in ("Observation", "Condition", "*"):
            yield "GET", f"Patient/{id}/{of}", None, ()
        yield "GET", f"Observation?patient={id}", None, ()
        yield "GET", f"Observation?patient=a,{id}&_total=accurate", None, ()
        yield "GET", f"Observation?subject:Patient._id={id}", None, ()
        yield "GET", f"Observation?performer:Patient=Patient/{id}", None, ()
    if type == "Encounter":
        yield "GET", f"Encounter/{id}/Observation", None, ()
        yield "GET", f"Observation?encounter=Encounter/{id}", None, ()
        yield "GET", f"Observation?encounter:Encounter.status=finished&encounter={id}", None, ()


_FORM = ("content-type", "application/x-www-form-urlencoded")


def _conditions(name):
    """Conditional interactions whose condition selects the thing."""
    type, _, id = name.partition("/")
    body = {n: v for n, v in _minimal(name).items() if n != "id"}
    yield "PUT", f"{type}?_id={id}", body, ()
    yield "PUT", f"{type}?_id={id}", _minimal(name), ()
    yield "PATCH", f"{type}?_id={id}", _PATCH, ()
    yield "DELETE", f"{type}?_id={id}", None, ()
    for kind in ("batch", "transaction"):
        yield "POST", "", _bundle(kind, "GET", name), ()
        yield "POST", "", _bundle(kind, "GET", f"{type}?_id={id}"), ()
        yield "POST", "", _bundle(kind, "GET", f"{name}/_history"), ()
        yield "POST", "", _bundle(kind, "PUT", name, _minimal(name), ifMatch='W/"1"'), ()
        yield "POST", "", _bundle(kind, "PUT", f"{type}?_id={id}", _minimal(name)), ()
        yield "POST", "", _bundle(kind, "DELETE", name), ()
        yield "POST", "", _bundle(kind, "DELETE", f"{type}?_id={id}"), ()
        patch = people.resource("Binary/x", contentType="application/json-patch+json", data="W10=")
        yield "POST", "", _bundle(kind, "PATCH", name, patch), ()
        reading = _bundle(kind, "POST", "Task", {**people.task("Task/x", f"{type}?_id={id}")})
        yield "POST", "", reading, ()


def _creations(name):
    """New resources that refer to the thing."""
    about = observation("Observation/x", "Patient/a", hasMember=[reference(name)])
    yield "POST", "Observation", about, ()
    yield "POST", "Provenance", provenance("Provenance/x", name), ()
    yield "POST", "Provenance", provenance("Provenance/x", "Observation/lab-a", name), ()
    entity = [{"role": "source", "what": reference(name)}]
    yield "POST", "Provenance", provenance("Provenance/x", "Observation/lab-a", entity=entity), ()
    yield "POST", "Binary", people.binary("Binary/x", name), ()
    if name.startswith("Patient"):
        yield "POST", "Observation", observation("Observation/x", name), ()
        performed = observation("Observation/x", "Patient/a", performer=[reference(name)])
        yield "POST", "Observation", performed, ()


SHAPES = {"plain": _plain, "search": _searches, "condition": _conditions, "creation": _creations}


@pytest.mark.parametrize("caller", LIMITED.values(), ids=LIMITED)
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.requirement("M6", "8")
def test_hidden_and_absent_differ_in_no_byte(clinic, caller, shapes, name):
    if clinic.server.core.references == "check" and shapes is not _creations:
        return  # the setting is asked for new references only
    absent = HIDDEN[name]
    for one, other in zip(shapes(name), shapes(absent), strict=True):
        hidden = clinic.ask(caller, *one)
        never = clinic.ask(caller, *other)
        id, no_id = name.partition("/")[2], absent.partition("/")[2]
        told = (never.status, never.headers, _bare(never.body.replace(no_id.encode(), id.encode())))
        assert (hidden.status, _bare_headers(hidden), _bare(hidden.body)) == (
            told[0],
            _bare_headers(never),
            told[2],
        ), one


_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z|\w{3}, \d\d \w{3} \d{4} [\d:]+ GMT")
_MADE = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_NUMBER = re.compile(rb'(W/\\?"|_history/|"versionId":")\d+')


def _bare(body: bytes) -> bytes:
    """Without what two equal creations one after the other differ in: id, time and version."""
    return _NUMBER.sub(rb"\g<1>N", _STAMP.sub(b"T", _MADE.sub(b"I", body)))


def _bare_headers(answer):
    made = [(name, _bare(value)) for name, value in answer.headers]
    return [pair for pair in made if pair[0] != b"content-length"]


def test_what_is_the_callers_own_is_told_apart_from_what_is_absent(clinic):
    """The fair case: the comparison would notice."""
    here = clinic.ask(EVERYTHING_OF_A, "GET", "Observation/lab-a")
    there = clinic.ask(EVERYTHING_OF_A, "GET", "Observation/lab-z")
    assert (here.status, there.status) == (200, 404)
    assert here.json["subject"] == reference("Patient/a")


@pytest.mark.requirement("20")
@pytest.mark.parametrize("path", ["", "/_history", "/_history/1"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_borrows_its_rights_is_not_read_to_find_out_that_it_is_hidden(
    clinic, monkeypatch, method, path
):
    """Else the time of an answer would tell that something is there, and how large it is."""
    looked: list[str] = []
    real = SqliteTransaction.get

    async def get(tx, type, id, number=None):
        found = await real(tx, type, id, number)
        looked.extend([f"{type}/{id}"] if found else [])
        return found

    def parsed(body, *rest):
        looked.append("a body")
        return parse(body, *rest)

    monkeypatch.setattr(SqliteTransaction, "get", get)
    monkeypatch.setattr(sight, "parse", parsed)
    if method == "GET":
        assert clinic.ask(READER, "GET", f"Binary/report-a{path}").status == 200
        assert "Binary/report-a" in looked
    looked.clear()
    for name in ("Binary/report-b", "Binary/report-z", "Provenance/of-b", "Provenance/of-z"):
        caller = READER if method == "GET" else EVERYTHING_OF_A
        status = 405 if method == "DELETE" and path else 404
        assert clinic.ask(caller, method, f"{name}{path}").status == status
    assert looked == []


def test_a_deleted_resource_of_ones_own_is_gone_and_of_others_absent(clinic):
    clinic.put(observation("Observation/gone-a", "Patient/a"))
    clinic.ask(people_grant(), "DELETE", "Observation/gone-a")
    assert clinic.ask(READER, "GET", "Observation/gone-a").status == 410
    assert clinic.ask(READER, "GET", "Observation/gone-a/_history/1").status == 200
    assert clinic.ask(READER, "GET", "Observation/gone-a/_history").status == 200
    for path in ("", "/_history/1", "/_history/2", "/_history"):
        assert clinic.ask(READER, "GET", f"Observation/gone-b{path}").status == 404


def test_what_moved_away_is_hidden_with_all_its_past(clinic):
    for path in ("", "/_history/1", "/_history/2", "/_history"):
        assert clinic.ask(READER, "GET", f"Observation/moved-b{path}").status == 404
    b = grant("patient/*.rs", patient="b")
    found = clinic.ask(b, "GET", "Observation/moved-b/_history").json["entry"]
    assert [each["resource"]["subject"] for each in found] == [reference("Patient/b")]
    assert clinic.ask(b, "GET", "Observation/moved-b/_history/1").status == 404


@pytest.mark.requirement("E4", "M4")
def test_a_refusal_for_want_of_a_scope_is_decided_before_anything_is_looked_for(clinic):
    caller = grant("patient/Patient.rs", patient="a")
    for method, path in [("GET", ""), ("DELETE", ""), ("GET", "/_history"), ("GET", "/_history/1")]:
        answers = [
            clinic.ask(caller, method, f"Observation/{id}{path}")
            for id in ("lab-a", "lab-b", "gone-b", "never")
        ]
        assert {(each.status, each.body) for each in answers} == {(403, answers[0].body)}
        assert answers[0].header("www-authenticate") == 'Bearer error="insufficient_scope"'
