"""Who gets what of an export, and of whose: negative tests of bulk data.

https://hl7.org/fhir/uv/bulkdata/authorization.html
"""

from __future__ import annotations

import pytest

from tests.bulk.world import (
    ASYNC,
    below,
    exported,
    group,
    kick_off,
    lines,
    manifest,
    names,
    of_type,
    work,
)
from tests.security import people
from tests.security.clinic import EVERYBODY, grant
from tests.security.people import CATEGORY, LAB, VITAL, observation, reference, resource

ALL = grant("system/*.rs", client="warehouse")


@pytest.mark.parametrize(
    ("scopes", "url", "status"),
    [
        ("system/Patient.rs", "$export", 202),
        ("system/Patient.rs", "$export?_type=Patient", 202),
        ("system/Patient.rs", "$export?_type=Patient,Observation", 403),
        ("system/Patient.r", "$export", 403),
        ("system/Patient.s", "$export", 403),
        ("system/*.cud", "$export", 403),
        ("system/Patient.rs", "Group/g/$export", 403),
        ("system/Patient.rs system/Group.rs", "Group/g/$export", 202),
        ("system/Patient.rs", "$export?_typeFilter=Observation%3Fstatus=final", 403),
        ("system/Patient.rs", "$export?_typeFilter=Patient%3F_has:Observation:patient:code=1", 403),
        ("", "$export", 403),
    ],
)
def test_what_no_scope_speaks_of_is_refused_when_it_is_named(clinic, scopes, url, status):
    clinic.put(group("g", "Patient/a"))
    asked = grant(scopes, client="app")
    assert clinic.ask(asked, "GET", url, headers=[ASYNC]).status == status


def test_nobody_unknown_begins_or_sees_anything(clinic):
    status = kick_off(clinic, ALL)
    work(clinic)
    file = below(manifest(clinic, ALL, status)["output"][0]["url"])
    for method, url in (("GET", "$export"), ("GET", status), ("DELETE", status), ("GET", file)):
        answer = clinic.ask(None, method, url, headers=[ASYNC])
        assert (answer.status, answer.code) == (401, "login"), url


def test_only_types_within_the_scopes_come_when_none_is_named(clinic):
    asked = grant("system/Patient.rs system/Condition.rs system/Task.r", client="app")
    assert exported(clinic, asked) == {
        "Patient/a",
        "Patient/b",
        "Condition/flu-a",
        "Condition/flu-b",
    }


def test_granular_scopes_hold(clinic):
    asked = grant(f"system/Observation.rs?category={CATEGORY}|{LAB}", client="app")
    clinic.put(observation("Observation/other", "Patient/a", VITAL))
    found = exported(clinic, asked)
    assert {"Observation/lab-a", "Observation/lab-b"} <= found
    assert not found & {"Observation/other", "Observation/vital-a"}


def test_a_different_condition_for_reading_and_for_searching_must_both_hold(clinic):
    asked = grant(
        f"system/Observation.r?category={CATEGORY}|{LAB} system/Observation.s?subject=Patient/a",
        client="app",
    )
    assert of_type(exported(clinic, asked), "Observation") >= {"Observation/lab-a"}
    assert "Observation/lab-b" not in exported(clinic, asked)
    assert "Observation/vital-a" not in exported(clinic, asked)


@pytest.mark.parametrize(
    "caller",
    [
        grant("user/*.rs", reach=frozenset({"a"}), agent="RelatedPerson/r", client="family"),
        grant("patient/*.rs", patient="a", client="app"),
    ],
    ids=["family", "patient"],
)
def test_who_is_limited_to_a_patient_exports_that_patient(clinic, caller):
    clinic.put(group("g", "Patient/a", "Patient/b"))
    for url in ("$export", "Patient/$export"):
        found = exported(clinic, caller, url)
        visible = {
            name
            for name in clinic.names(caller, "?_count=100")
            if not name.startswith(("AuditEvent/", "Binary/"))
        }
        assert found <= visible
        assert not {name for name in found if name.endswith("-b") or name == "Patient/b"}
        assert {"Patient/a", "Observation/lab-a"} <= found
    assert clinic.ask(caller, "GET", "Group/g/$export", headers=[ASYNC]).status == 404


def test_a_patient_who_is_hidden_is_named_like_one_who_is_not_there(clinic):
    family = grant("user/*.rs", reach=frozenset({"a"}), client="family")

    def answer(id):
        part = {"name": "patient", "valueReference": reference(f"Patient/{id}")}
        body = {"resourceType": "Parameters", "parameter": [part]}
        told = clinic.ask(family, "POST", "Patient/$export", body, [ASYNC])
        return told.status, told.headers, told.body

    assert answer("b") == answer("z")
    assert answer("b")[0] == 400


@pytest.mark.parametrize(
    "other",
    [
        grant("system/*.cruds", client="other"),
        grant("user/*.cruds", client="warehouse", agent="Practitioner/p", reach=None),
        grant("user/*.cruds", client="warehouse", account="somebody", reach=None),
    ],
    ids=["another client", "a user of the client", "an account of the client"],
)
def test_the_job_of_somebody_else_is_like_one_that_never_was(clinic, other):
    status = kick_off(clinic, ALL)
    work(clinic)
    file = below(manifest(clinic, ALL, status)["output"][0]["url"])
    unknown = "_bulk/" + "0" * 32
    for method, theirs, never in (
        ("GET", status, unknown),
        ("DELETE", status, unknown),
        ("GET", file, f"{unknown}/Patient-1.ndjson"),
    ):
        one, two = clinic.ask(other, method, theirs), clinic.ask(other, method, never)
        assert (one.status, one.headers, one.body) == (two.status, two.headers, two.body)
        assert one.status == 404
    assert clinic.ask(ALL, "GET", status).status == 200


@pytest.mark.parametrize(
    "file", ["Patient-2.ndjson", "named-1.ndjson", "-named-1.ndjson", "x", "..", "Patient-1"]
)
def test_guessed_names_of_files_lead_nowhere(clinic, file):
    status = kick_off(clinic, ALL)
    assert clinic.ask(ALL, "GET", f"{status}/Patient-1.ndjson").status == 404  # not done yet
    work(clinic)
    assert clinic.ask(ALL, "GET", f"{status}/{file}").status in (400, 404)
    assert clinic.ask(ALL, "GET", f"Patient/{status.split('/')[1]}/$bulk-status").status == 404
    assert clinic.ask(ALL, "GET", f"Patient/{status.split('/')[1]}/$bulk-file").status == 404
    assert clinic.ask(ALL, "POST", f"Patient/{status.split('/')[1]}/$bulk-delete").status == 404


@pytest.mark.parametrize(
    ("now", "status"),
    [
        ("system/*.rs", 200),
        ("system/*.cruds", 200),
        ("system/*.rs system/Patient.r", 200),
        ("system/Patient.rs", 403),
        ("system/*.r", 403),
        ("system/*.rs?_lastUpdated=gt2020", 403),
        ("user/*.rs", 403),
        ("", 403),
    ],
)
def test_a_token_that_opens_less_than_the_one_that_asked_gets_nothing(clinic, now, status):
    place = kick_off(clinic, ALL)
    work(clinic)
    file = below(manifest(clinic, ALL, place)["output"][0]["url"])
    later = grant(now, client="warehouse", reach=None)
    assert clinic.ask(later, "GET", place).status == status
    assert clinic.ask(later, "GET", file).status == status
    assert clinic.ask(later, "DELETE", place).status == (202 if status == 200 else status)
    assert clinic.ask(ALL, "GET", place).status == (404 if status == 200 else 200)


def test_patients_whom_a_user_reaches_no_longer_are_left_out(clinic):
    then = grant("user/*.rs", reach=frozenset("ab"), agent="Practitioner/p", client="desk")
    status = kick_off(clinic, then)
    work(clinic)
    assert "Observation/lab-b" in names(clinic, then, manifest(clinic, then, status))

    now = grant("user/*.rs", reach=frozenset("a"), agent="Practitioner/p", client="desk")
    told = manifest(clinic, now, status)
    left = {
        f"{line['resourceType']}/{line['id']}"
        for each in told["output"]
        for line in lines(clinic, now, each["url"])
    }
    assert "Observation/lab-a" in left
    assert not {name for name in left if name.endswith("-b")} | (left & {"Patient/b"})


def test_a_granular_scope_hides_what_has_left_it_since(clinic):
    asked = grant(f"system/Observation.rs?category={CATEGORY}|{LAB}", client="app")
    status = kick_off(clinic, asked)
    work(clinic)
    clinic.put(observation("Observation/lab-b", "Patient/b", VITAL))
    told = manifest(clinic, asked, status)
    (each,) = told["output"]
    left = {line["id"] for line in lines(clinic, asked, each["url"])}
    assert "lab-a" in left and "lab-b" not in left


def test_what_a_provenance_names_is_cut_as_everywhere(clinic):
    both = people.provenance("Provenance/mixed", "Observation/lab-a", "Observation/lab-b")
    clinic.put(both)
    family = grant("user/*.rs", reach=frozenset({"a"}), client="family")
    status = kick_off(clinic, family, "$export?_type=Provenance")
    work(clinic)
    (each,) = manifest(clinic, family, status)["output"]
    text = str(lines(clinic, family, each["url"]))
    assert "lab-a" in text
    assert "lab-b" not in text


def test_a_filter_does_not_find_out_what_is_hidden(clinic):
    family = grant("user/*.rs", reach=frozenset({"a"}), client="family")
    query = "Patient%3F_has:Observation:subject:_id=lab-b"
    assert exported(clinic, family, f"$export?_type=Patient&_typeFilter={query}") == set()


def test_the_deleted_of_others_are_not_told(clinic):
    clinic.put(
        observation("Observation/x-a", "Patient/a"), observation("Observation/x-b", "Patient/b")
    )
    for id in "ab":
        clinic.ask(EVERYBODY, "DELETE", f"Observation/x-{id}")
    family = grant("user/*.rs", reach=frozenset({"a"}), client="family")
    url = "$export?_since=2001-01-01T00:00:00Z&_type=Observation,Patient"
    status = kick_off(clinic, family, url)
    work(clinic)
    (told,) = manifest(clinic, family, status)["deleted"]
    urls = [e["request"]["url"] for b in lines(clinic, family, told["url"]) for e in b["entry"]]
    assert "Observation/x-a" in urls
    assert not [each for each in urls if each.endswith("-b")]


def test_an_app_of_a_group_needs_to_read_the_group(clinic):
    clinic.put(group("g", "Patient/a"), resource("Patient/c"))
    asked = grant("system/*.rs system/Group.rs?_id=other", client="app")
    assert exported(clinic, asked, "Group/g/$export")
    narrow = grant("system/Patient.rs system/Group.rs?_id=other", client="app")
    assert clinic.ask(narrow, "GET", "Group/g/$export", headers=[ASYNC]).status == 404
    assert clinic.ask(narrow, "GET", "Group/z/$export", headers=[ASYNC]).status == 404


def test_how_many_were_hidden_since_is_not_told_to_who_is_limited(clinic):
    mine = grant(f"system/Observation.rs?category={CATEGORY}|{LAB}", client="lab")
    told = {}
    for who in (mine, ALL):
        status = kick_off(clinic, who, "$export?_type=Observation")
        work(clinic)
        clinic.put(observation("Observation/lab-b", "Patient/b", VITAL))
        told[who] = manifest(clinic, who, status)
        clinic.put(observation("Observation/lab-b", "Patient/b", LAB))

    (item,) = told[mine]["output"]
    assert set(item) == {"type", "url"} and told[mine]["error"] == []
    (item,) = told[ALL]["output"]
    assert item["count"] == len(lines(clinic, ALL, item["url"]))
