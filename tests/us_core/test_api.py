"""What the kits ask of the API beyond single searches, a test a number (UC1 to UC9 of docs/smart.md).

https://hl7.org/fhir/us/core/general-requirements.html
"""

import json

import pytest

from conformance import definitions
from conformance.validator import Validator
from tests.us_core import clinic, driver, must_support, rows
from tests.us_core.test_us_core import failures

ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
ABSENT_CODES = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
NOTES = {"11488-4", "18842-5", "34117-2", "28570-0", "11506-3", "18748-4", "11502-2", "11526-1"}
REPORTS = {"LP29708-2", "LP7839-6", "LP29684-5"}
JSON = "application/fhir+json"
# Types that are in no patient's compartment, or need not be, and that must be read all the same.
BESIDE = ("Organization", "Practitioner", "PractitionerRole", "Location", "Medication", "Specimen")


@pytest.fixture(scope="module")
def world(worlds):
    return worlds["6.1.0"]


@pytest.mark.requirement("UC1")
def test_the_statement_is_valid_and_told_to_anybody(server):
    with server.client() as stranger:
        answer = stranger.get("/metadata")
    statement = answer.json()
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(JSON)
    assert Validator(definitions.load()).validate(statement, warnings=False) == []
    assert statement["fhirVersion"] == "4.0.1"
    assert {"json", JSON} & set(statement["format"])
    assert f"{clinic.SERVER}|6.1.0" in statement["instantiates"]
    supported = {
        each["type"]: {url.partition("|")[0] for url in each.get("supportedProfile", ())}
        for each in statement["rest"][0]["resource"]
    }
    asked = {(row.type, row.profile) for row in rows.of_table("6.1.0")}
    named = {(type, url) for type, url in asked if "/us/core/" in url}
    assert {(type, url) for type, url in named if url not in supported[type]} == set()


@pytest.mark.requirement("UC2")
def test_a_search_says_the_same_by_get_and_post_with_and_without_system_and_type(world):
    varied = [row for row in rows.of_table("6.1.0") if row.posted and row.systems and row.required]
    assert len(varied) > 20
    assert failures(world, varied) == ({}, [])
    nobody = world.client.get("/CareTeam", params={"patient": "85", "status": "suspended"})
    assert (nobody.status_code, nobody.json().get("entry")) == (200, None)


@pytest.mark.requirement("UC3")
def test_dates_are_compared_as_the_kit_writes_them(world):
    dated = [row for row in rows.of_table("6.1.0") if any(row.comparators.values())]
    assert len(dated) > 40
    assert failures(world, dated) == ({}, [])
    of_patient = {"patient": "85", "date": "ge2900-01-01"}
    found, _ = world.search("CareTeam", [("patient", "85")])
    open_ended = [each for each in found if "period" in each and "end" not in each["period"]]
    late, _ = world.search("CareTeam", list(of_patient.items()))
    assert {each["id"] for each in open_ended} <= {each["id"] for each in late}


@pytest.mark.requirement("UC4")
def test_what_is_found_bears_what_was_asked_in_any_case(world):
    patient = next(each for each in world.all("Patient") if each["id"] == "85")
    family = patient["name"][0]["family"]
    for text in (family, family.upper(), family.lower(), family[:3]):
        found, _ = world.search("Patient", [("name", text)])
        assert "85" in {each["id"] for each in found}
        assert all(driver.holds(world, each, "name", text) for each in found)
    assert world.search("Patient", [("name", family[1:] + "zz")]) == ([], [])


@pytest.mark.requirement("UC5")
def test_medications_and_provenance_come_along_and_nothing_else(world):
    joined = [row for row in rows.of_table("6.1.0") if row.revinclude or row.include]
    assert len(joined) > 40
    assert failures(world, joined) == ({}, [])


@pytest.mark.requirement("UC6")
def test_everything_is_read_and_comes_in_few_pages(world):
    pages, link = 0, "/Observation?patient=85"
    while link:
        page = world.client.get(link).json()
        pages += 1
        assert len(page["entry"]) >= 50 or pages > 1
        link = next((each["url"] for each in page["link"] if each["relation"] == "next"), None)
    assert pages <= 20
    assert world.client.get("/Observation/there-is-none").status_code == 404
    for row in {each.type: each for each in rows.of_table("6.1.0")}.values():
        one = world.all(row.type)[0]
        assert world.client.get(f"/{row.type}/{one['id']}").json() == one


@pytest.mark.requirement("UC7")
def test_what_is_absent_says_why_and_provenance_has_its_agents(world):
    every = json.dumps([each for type in _types() for each in world.all(type)])
    assert ABSENT in every
    assert ABSENT_CODES in every
    group = next(each for each in rows.metadata() if each[":resource"] == "Provenance")
    paths = {each[":path"] for each in group[":must_supports"][":elements"]}
    slices = {each[":slice_name"] for each in group[":must_supports"][":slices"]}
    assert "agent.onBehalfOf" in paths
    assert {"ProvenanceAuthor", "ProvenanceTransmitter"} <= slices
    assert must_support.missing(group, world.all("Provenance")) == []


def _types():
    return sorted({row.type for row in rows.of_table("6.1.0")})


@pytest.mark.requirement("UC8")
def test_clinical_notes_are_found_by_type_and_reports_by_category(world):
    documents, urls = set(), set()
    for code in NOTES:
        found, _ = world.search(
            "DocumentReference", [("patient", "85,355,907,908"), ("type", code)]
        )
        documents |= {code} if found else set()
    assert documents == NOTES
    for each in world.all("DocumentReference"):
        urls |= {content["attachment"].get("url") for content in each["content"]}
    for category in REPORTS:
        found, _ = world.search("DiagnosticReport", [("patient", "85"), ("category", category)])
        assert found
        forms = {form.get("url") for each in found for form in each.get("presentedForm", ())}
        assert forms - {None} <= urls


@pytest.mark.requirement("UC9")
def test_a_patients_token_reads_what_their_record_refers_to(server, world):
    server.app("record", "patient/*.rs")
    server.user("of-85", "Patient/85")
    token = server.token("patient/*.rs", client="record", user="of-85", patient="85")
    with server.client(token) as client:
        for type in BESIDE:
            for id in sorted(_referred(world, type))[:5]:
                known = world.client.get(f"/{type}/{id}").status_code
                assert client.get(f"/{type}/{id}").status_code == known == 200, (type, id)
        other = next(
            e for e in world.all("Observation") if e["subject"]["reference"] != "Patient/85"
        )
        assert client.get(f"/Observation/{other['id']}").status_code == 404


def _referred(world, type):
    """The ids of a type that resources of patient 85 refer to and the server has."""
    everything = world.client.get("/Patient/85/$everything", params={"_count": 1000}).text
    ids = {each["id"] for each in world.all(type)}
    return {id for id in ids if f'"{type}/{id}"' in everything}
