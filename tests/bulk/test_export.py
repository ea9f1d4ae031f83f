"""What an export gives: its levels and parameters, and the one moment that it is of.

https://hl7.org/fhir/uv/bulkdata/export.html
"""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from fhir_server.bulk.state import Bulk
from tests.bulk.world import (
    ASYNC,
    LENIENT,
    below,
    exported,
    file,
    group,
    kick_off,
    lines,
    manifest,
    names,
    of_type,
    work,
)
from tests.security import people
from tests.security.clinic import EVERYBODY, Clinic, grant, opened
from tests.security.people import CATEGORY, LAB, observation, reference, resource

ALL = grant("system/*.rs", client="warehouse")
PATIENT_A = next(e for e in people.ALL if (e["resourceType"], e["id"]) == ("Patient", "a"))


def stored(clinic) -> set[str]:
    return {
        name
        for name in clinic.names(EVERYBODY, "?_count=100")
        if not name.startswith(("AuditEvent/", "Binary/"))
    }


def test_the_server_exports_everything_but_its_audit_and_attachments(clinic):
    there = stored(clinic)

    assert exported(clinic, ALL) == there
    assert exported(clinic, ALL, "$export?_type=Binary,Patient") == {
        "Patient/a",
        "Patient/b",
        *(f"Binary/{each}" for each in ("scan-a", "scan-b", "report-a", "report-b", "open")),
    }


def test_all_patients_come_with_what_is_theirs_and_what_that_refers_to(clinic):
    clinic.put(resource("Practitioner/stranger"), resource("Location/nowhere"))
    found = exported(clinic, ALL, "Patient/$export")

    assert {
        "Patient/a",
        "Patient/b",
        "Device/pump-a",
        "Task/call-b",
        "Provenance/of-a",
    } - found <= {"Provenance/of-a"}
    assert {"Practitioner/doc", "Observation/lab-a", "Encounter/visit-b"} <= found
    assert not found & {"Practitioner/stranger", "Location/nowhere"}
    assert not of_type(found, "Group")


def test_a_group_exports_its_members_of_that_moment(clinic):
    past, future = {"end": "2001-01-01"}, {"start": "2999-01-01"}
    clinic.put(resource("Patient/c"), resource("Patient/d"), resource("Patient/e"))
    clinic.put(
        group(
            "ward",
            "Patient/a",
            {"entity": reference("Patient/b"), "inactive": True},
            {"entity": reference("Patient/c"), "period": past},
            {"entity": reference("Patient/d"), "period": future},
            {"entity": reference("Patient/e"), "period": {"start": "2001-01-01"}},
        )
    )
    found = exported(clinic, ALL, "Group/ward/$export")

    assert of_type(found, "Patient") == {"Patient/a", "Patient/e"}
    assert of_type(found, "Group") == {"Group/ward"}
    assert {"Observation/lab-a", "Practitioner/doc"} <= found
    assert "Observation/lab-b" not in found


def test_a_group_of_nobody_gives_no_file(clinic):
    clinic.put(group("empty", active=True))
    assert exported(clinic, ALL, "Group/empty/$export") == {"Group/empty"}
    clinic.put(group("off", "Patient/a", active=False))
    assert exported(clinic, ALL, "Group/off/$export") == {"Group/off"}


def test_what_is_of_two_members_comes_once(clinic, monkeypatch):
    monkeypatch.setattr("fhir_server.bulk.members.CHUNK", 1)
    both = resource(
        "Appointment/both",
        status="booked",
        start="2026-01-01T08:00:00Z",
        end="2026-01-01T09:00:00Z",
        participant=[
            {"actor": reference(f"Patient/{each}"), "status": "accepted"} for each in "ab"
        ],
    )
    clinic.put(both, group("g", "Patient/a", "Patient/b"))

    found = exported(clinic, ALL, "Group/g/$export")
    assert "Appointment/both" in found
    monkeypatch.setattr("fhir_server.bulk.members.MANY", 1)
    assert exported(clinic, ALL, "Group/g/$export") == found


def test_an_export_is_of_the_moment_when_it_began(clinic):
    was = file_of(clinic, "Patient/a")
    status = kick_off(clinic, ALL)
    before = stored(clinic)
    work(clinic, rounds=1)
    clinic.put({**PATIENT_A, "gender": "other"})
    assert clinic.ask(EVERYBODY, "DELETE", "Observation/lab-b").status in (200, 204)
    clinic.put(resource("Patient/later"), observation("Observation/later", "Patient/a"))
    work(clinic)
    told = manifest(clinic, ALL, status)
    clinic.put({**PATIENT_A, "gender": "unknown"})
    clinic.ask(EVERYBODY, "DELETE", "Condition/flu-a")

    assert names(clinic, ALL, told) == before
    assert was in [line for each in told["output"] for line in raw(clinic, each["url"])]


def test_what_was_changed_before_it_was_looked_at_comes_as_it_was(clinic):
    was = file_of(clinic, "Patient/a")
    before = stored(clinic)
    status = kick_off(clinic, ALL, "$export?_type=" + ",".join({n.split("/")[0] for n in before}))
    clinic.put({**PATIENT_A, "gender": "other"})
    clinic.ask(EVERYBODY, "DELETE", "Observation/lab-b")
    clinic.put(resource("Patient/later"))
    work(clinic)

    told = manifest(clinic, ALL, status)
    assert names(clinic, ALL, told) == before
    assert was in [line for each in told["output"] for line in raw(clinic, each["url"])]


def raw(clinic, url) -> list[bytes]:
    return file(clinic, ALL, url).body.splitlines()


def file_of(clinic, name) -> bytes:
    return clinic.ask(EVERYBODY, "GET", name).body


def test_lines_are_the_stored_bytes(clinic):
    (told,) = exported_files(clinic, "$export?_type=Patient")
    assert raw(clinic, told["url"]) == [file_of(clinic, "Patient/a"), file_of(clinic, "Patient/b")]


def exported_files(clinic, url, **more):
    status = kick_off(clinic, ALL, url, **more)
    work(clinic)
    return manifest(clinic, ALL, status)["output"]


def test_elements_leaves_the_others_out_and_says_so(clinic):
    (told,) = exported_files(clinic, "$export?_type=Patient&_elements=Patient.gender,id")
    (first, _) = lines(clinic, ALL, told["url"])
    assert first.keys() == {"resourceType", "id", "meta", "gender"}
    assert first["meta"]["tag"][0]["code"] == "SUBSETTED"

    url = "$export?_type=Patient&_elements=Observation.status,Observation.value"
    (told,) = exported_files(clinic, url)
    assert raw(clinic, told["url"])[0] == file_of(clinic, "Patient/a")


def test_a_misspelt_element_is_refused_with_what_may_be_meant_and_ignored_for_the_lenient(clinic):
    url = "$export?_type=Patient&_elements=Patient.gender,Patient.nme"
    answer = clinic.ask(ALL, "GET", url, headers=[ASYNC])
    assert answer.json["issue"][0]["diagnostics"] == (
        "`Patient.nme` in _elements is no element of a resource; did you mean `name`?"
    )
    status = kick_off(clinic, ALL, url, headers=[LENIENT])
    work(clinic)
    (told,) = manifest(clinic, ALL, status)["output"]
    (first, _) = lines(clinic, ALL, told["url"])
    assert first.keys() == {"resourceType", "id", "meta", "gender"}


def test_attachments_have_absolute_addresses(clinic):
    attachment = {"contentType": "text/plain", "url": "Binary/scan-a"}
    clinic.put(
        resource("DocumentReference/d", status="current", content=[{"attachment": attachment}])
    )
    (told,) = exported_files(clinic, "$export?_type=DocumentReference")
    (line,) = lines(clinic, ALL, told["url"])
    url = line["content"][0]["attachment"]["url"]
    assert clinic.ask(ALL, "GET", below(url)).status == 200


def test_a_large_attachment_comes_whole(runner, tmp_path):
    store = runner.run(opened(tmp_path / "data"))
    made = Clinic(store, runner)
    data = b"0123456789" * 250_000
    made.ask(EVERYBODY, "PUT", "Binary/large", data, [("Content-Type", "text/plain")])
    (told,) = exported_files(made, "$export?_type=Binary")
    (line,) = lines(made, ALL, told["url"])
    assert len(line["data"]) > 3_300_000
    assert line["data"] == base64.b64encode(data).decode()
    runner.run(store.close())


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (f"Observation?category={CATEGORY}|{LAB}", {"Observation/lab-a", "Observation/lab-b"}),
        (
            "Observation?subject=Patient/a&status=final,Observation?_id=lab-b",
            {"Observation/lab-a", "Observation/vital-a", "Observation/lab-b"},
        ),
        ("Observation?_id=lab-a,lab-b", {"Observation/lab-a", "Observation/lab-b"}),
        ("Observation?_id=lab-a%2Clab-b", {"Observation/lab-a", "Observation/lab-b"}),
        (
            "Observation?subject:Patient._id=a&code=718-7",
            {"Observation/lab-a", "Observation/vital-a"},
        ),
    ],
)
def test_type_filters_are_searches_of_which_one_must_hold(clinic, query, found):
    clinic.ask(EVERYBODY, "DELETE", "Observation/both")
    filtered = exported(
        clinic, ALL, f"$export?_type=Observation,Patient&_typeFilter={quote(query)}"
    )
    assert filtered == {"Patient/a", "Patient/b", *found}


def test_since_gives_what_changed_and_tells_what_was_deleted(clinic):
    first = kick_off(clinic, ALL)
    work(clinic)
    since = manifest(clinic, ALL, first)["transactionTime"]
    clinic.put(resource("Patient/new"), {**PATIENT_A, "gender": "other"})
    clinic.ask(EVERYBODY, "DELETE", "Observation/lab-b")
    clinic.put(resource("Location/back"))
    clinic.ask(EVERYBODY, "DELETE", "Location/back")
    clinic.put(resource("Location/back"))

    status = kick_off(clinic, ALL, f"$export?_since={quote(since)}")
    clinic.ask(EVERYBODY, "DELETE", "Condition/flu-a")
    work(clinic)
    told = manifest(clinic, ALL, status)
    recent = names(clinic, ALL, told)
    assert {"Patient/new", "Patient/a", "Location/back"} <= recent
    assert len(recent) < len(stored(clinic))
    (gone,) = told["deleted"]
    (bundle,) = lines(clinic, ALL, gone["url"])
    assert (gone["type"], bundle["resourceType"], bundle["type"]) == (
        "Bundle",
        "Bundle",
        "transaction",
    )
    urls = {each["request"]["url"] for each in bundle["entry"]}
    assert "Observation/lab-b" in urls
    assert not urls & {"Condition/flu-a", "Location/back"}
    until = exported(clinic, ALL, f"$export?_until={quote(since)}&_type=Patient")
    assert until == {"Patient/b"}


def test_files_have_no_more_lines_than_the_operator_says(runner, tmp_path):
    store = runner.run(opened(tmp_path / "data"))
    made = Clinic(store, runner, bulk=Bulk(lines=3))
    made.put(*(resource(f"Patient/{n}") for n in range(8)))
    files = exported_files(made, "$export?_type=Patient")
    assert [each["count"] for each in files] == [3, 3, 2]
    assert len(names(made, ALL, {"output": files})) == 8
    runner.run(store.close())


def test_parameters_may_be_posted(clinic):
    clinic.put(resource("Patient/c"), group("g", "Patient/a", "Patient/c"))

    def parameters(*pairs):
        made = [{"name": name, kind: value} for name, kind, value in pairs]
        return {"resourceType": "Parameters", "parameter": made}

    asked = parameters(
        ("_type", "valueString", "Patient,Observation"),
        ("_outputFormat", "valueString", "ndjson"),
        ("_since", "valueInstant", "2001-01-01T00:00:00Z"),
        ("patient", "valueReference", {"reference": "Patient/c"}),
    )
    assert exported(clinic, ALL, "Group/g/$export", asked) == {"Patient/c"}
    assert exported(clinic, ALL, "Patient/$export", asked) == {"Patient/c"}
    other = parameters(("patient", "valueReference", {"reference": "Patient/b"}))
    assert clinic.ask(ALL, "POST", "Group/g/$export", other, [ASYNC]).status == 400
    assert exported(clinic, ALL, "Group/g/$export", other, [LENIENT]) == {"Group/g"}
    absent = parameters(("patient", "valueReference", {"reference": "Patient/z"}))
    assert clinic.ask(ALL, "POST", "Patient/$export", absent, [ASYNC]).status == 400


def test_more_searches_than_anybody_means_are_refused(clinic):
    def filtered(number):
        part = {"name": "_typeFilter", "valueString": "Patient?active=true"}
        return {"resourceType": "Parameters", "parameter": [part] * number}

    answer = clinic.ask(ALL, "POST", "$export", filtered(101), [ASYNC])
    assert (answer.status, answer.code) == (413, "too-costly")
    assert clinic.ask(ALL, "POST", "$export", filtered(100), [ASYNC]).status == 202


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("$export?_outputFormat=text/csv", 400, "not-supported"),
        ("$export?_since=yesterday", 400, "value"),
        ("$export?_since=2024-01-01", 400, "value"),
        ("$export?_type=Nothing", 400, "value"),
        ("$export?_type=AuditEvent", 400, "value"),
        ("Patient/$export?_type=Questionnaire", 400, "value"),
        ("$export?_typeFilter=active=true", 400, "value"),
        ("$export?_typeFilter=Patient%3F_sort=name", 400, "not-supported"),
        ("$export?_typeFilter=Patient%3Fnothing=1", 400, "not-supported"),
        ("$export?_type=Observation&_typeFilter=Patient%3Factive=true", 400, "value"),
        ("$export?_elements=Patient.*", 400, "value"),
        ("$export?_elements=Patient.nme", 400, "value"),
        ("$export?_elements=id,statsu", 400, "value"),
        ("$export?_elements=Patient.status", 400, "value"),
        ("$export?_elements=" + ",".join(["id"] * 501), 413, "too-costly"),
        ("$export?includeAssociatedData=LatestProvenanceResources", 400, "not-supported"),
        ("$export?organizeOutputBy=Encounter", 400, "not-supported"),
        ("Patient/$export?patient=Patient/a", 400, "not-supported"),
        ("$export?something=else", 400, "not-supported"),
        ("Patient/a/$export", 404, "not-found"),
        ("Group/$export", 400, "required"),
        ("Observation/$export", 404, "not-found"),
        ("Group/none/$export", 404, "not-found"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_reason(clinic, url, status, code):
    answer = clinic.ask(ALL, "GET", url, headers=[ASYNC])
    assert (answer.status, answer.code) == (status, code), answer.body


def test_a_lenient_client_has_ignored_what_is_not_supported(clinic):
    url = "$export?_type=Patient,Nothing,Location&includeAssociatedData=x&organizeOutputBy=Group"
    assert clinic.ask(ALL, "GET", url, headers=[LENIENT]).status == 400
    url = url.replace("Nothing,", "")
    assert of_type(exported(clinic, ALL, url, headers=[LENIENT]), "Patient") == {
        "Patient/a",
        "Patient/b",
    }


def test_who_would_wait_is_told_to_come_back(clinic):
    answer = clinic.ask(ALL, "GET", "$export")
    assert (answer.status, answer.code) == (400, "invalid")


def test_erased_patients_are_left_out_and_that_is_told(clinic):
    status = kick_off(clinic, ALL)
    work(clinic)
    told = manifest(clinic, ALL, status)
    assert told["error"] == []

    async def erase(tx):
        await tx.erase("Patient/a")
        await tx.note(b"{}")

    clinic._runner.run(clinic.store.transaction(erase, write=True))
    told = manifest(clinic, ALL, status)
    assert not {"Patient/a", "Observation/lab-a"} & names(clinic, ALL, told)
    (error,) = told["error"]
    issues = lines(clinic, ALL, error["url"])
    assert len(issues) == error["count"]
    assert {each["issue"][0]["code"] for each in issues} == {"deleted"}


def test_a_job_that_names_an_erased_patient_goes(clinic):
    from fhir_server.bulk import job as jobs

    clinic.put(resource("Patient/erased-soon"))
    body = {
        "resourceType": "Parameters",
        "parameter": [{"name": "patient", "valueReference": reference("Patient/erased-soon")}],
    }
    names_it = kick_off(clinic, ALL, "Patient/$export", body)
    other = kick_off(clinic, ALL)

    async def forget(tx):
        return await jobs.forget(tx, ["Patient/erased-soon"])

    assert clinic._runner.run(clinic.store.transaction(forget, write=True)) == 1
    assert clinic.ask(ALL, "GET", names_it).status == 404
    assert clinic.ask(ALL, "GET", other).status == 202


def test_what_goes_wrong_with_a_type_is_told_and_the_others_come(clinic, monkeypatch):
    from fhir_server.bulk.collect import Collecting
    from fhir_server.storage.store import TooCostly

    page = Collecting._page

    async def slow(self, type, progress, size, step):
        if type == "Observation":
            raise TooCostly
        return await page(self, type, progress, size, step)

    monkeypatch.setattr(Collecting, "_page", slow)
    status = kick_off(clinic, ALL, "$export?_type=Observation,Patient")
    work(clinic)
    told = manifest(clinic, ALL, status)
    assert names(clinic, ALL, told) == {"Patient/a", "Patient/b"}
    (issue,) = lines(clinic, ALL, told["error"][0]["url"])
    assert issue["issue"][0]["code"] == "too-costly"


def test_a_job_that_fails_says_so(clinic, monkeypatch):
    from fhir_server.bulk.collect import Collecting

    async def broken(self):
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(Collecting, "advance", broken)
    status = kick_off(clinic, ALL)
    work(clinic)
    with pytest.raises(RuntimeError):  # the harness takes a 500 for a failure of its own
        clinic.ask(ALL, "GET", status)


def test_an_export_is_in_the_audit_from_its_beginning_to_each_file(clinic):
    status = kick_off(clinic, ALL, "$export?_type=Patient,Location")
    work(clinic)
    (told,) = [e for e in manifest(clinic, ALL, status)["output"] if e["type"] == "Patient"]
    lines(clinic, ALL, told["url"])
    clinic.ask(ALL, "DELETE", status)

    found = clinic.ask(EVERYBODY, "GET", "AuditEvent?_sort=-date&_count=20").json["entry"]
    ours = [e["resource"] for e in found if "bulk" in str(e) or "export" in str(e)]
    assert {each["subtype"][0]["display"] for each in ours} == {
        "$export",
        "$bulk-status",
        "$bulk-file",
        "$bulk-delete",
    }
    (event,) = [e for e in ours if e["subtype"][0]["display"] == "$bulk-file"]
    assert event["outcomeDesc"] == "2 Patient exported"
    named = {e["what"].get("reference") for e in event["entity"] if "what" in e}
    assert {"Patient/a", "Patient/b"} <= named
    assert {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "110106"} in event[
        "subtype"
    ]


def test_the_statement_names_the_operations_of_the_guide():
    from fhir_server.surface import surface
    from tests.security.clinic import core

    found = surface(core().index, core().guides.current)
    guide = "http://hl7.org/fhir/uv/bulkdata"
    assert f"{guide}/CapabilityStatement/bulk-data" in found.guides.instantiates
    definitions = {each.definition for each in found.operations if each.name == "export"}
    assert definitions == {
        f"{guide}/OperationDefinition/{each}"
        for each in ("export", "patient-export", "group-export")
    }
    assert not [each for each in found.operations if "bulk" in each.name]


def test_a_kick_off_that_is_sent_twice_under_a_key_is_one_job(clinic):
    key = ("Idempotency-Key", "export-1")
    one, two = (clinic.ask(ALL, "GET", "$export", headers=[ASYNC, key]) for _ in range(2))
    assert (one.status, two.status) == (202, 202)
    assert one.header("content-location") == two.header("content-location") is not None
    assert one.header("location") is None
