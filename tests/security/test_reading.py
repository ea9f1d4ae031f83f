"""What a caller who is limited to one patient reads, and what no form of search shows it.

Section 11.1 of the negative tests: reads, searches, compartments, includes, chains, oracles.
"""

import pytest

from tests.security.clinic import grant
from tests.security.people import CATEGORY, LAB

# The token pA of the notes: laboratory results and the patient's own record.
LABS = grant(
    f"patient/Observation.rs?category={CATEGORY}|{LAB} patient/Patient.rs", patient="a", id="pA"
)
ALL_OF_A = grant("patient/*.rs", patient="a")
NOBODYS = grant("patient/*.rs", id="no patient in context")
DOCTOR = grant("user/*.cruds", agent="Practitioner/doc", reach=None)
SYSTEM = grant("system/*.rs")


# --- 1: other people's resources -----------------------------------------------------------------


@pytest.mark.requirement("1", "M6", "F7")
@pytest.mark.parametrize("path", ["", "/_history/1", "/_history", "?_elements=id", "/$validate"])
@pytest.mark.parametrize("name", ["Patient/b", "Observation/lab-b", "Observation/vital-a"])
def test_what_is_another_patients_is_not_there(clinic, name, path):
    answer = clinic.ask(LABS, "GET", name + path)
    assert (answer.status, answer.code) == (404, "not-found")
    assert clinic.ask(LABS, "GET", f"Observation/lab-a{path}").status == 200


@pytest.mark.requirement("1")
def test_a_history_of_a_type_shows_the_versions_of_ones_own(clinic):
    assert clinic.names(LABS, "Observation/_history") == ["Observation/lab-a"]
    assert clinic.names(LABS, "Patient/_history?_count=1") == ["Patient/a"]
    assert clinic.ask(LABS, "GET", "_history").status == 403
    found = clinic.names(ALL_OF_A, "_history?_count=3")
    assert "Observation/vital-a" in found
    assert [each for each in found if each.endswith("-b") or each == "Patient/b"] == []


# --- 2, 3: naming another patient ----------------------------------------------------------------


@pytest.mark.requirement("2", "F6", "M5")
@pytest.mark.parametrize(
    "query",
    [
        "patient=b",
        "subject=Patient/b",
        "patient=Patient/b&category=laboratory",
        "patient=a&patient=b",
        "subject=http://clinic.example/fhir/Patient/b",
        "patient.name=Birch",
        "patient:Patient.name=Birch",
        "subject:Patient._id=b",
        "subject:Patient=b",
        "_id=lab-b",
        "_id=vital-a",
        "category=vital-signs",
        "encounter=Encounter/visit-b",
        "_lastUpdated=lt2000-01-01",
    ],
)
def test_a_search_for_another_patient_finds_nothing_and_says_no_more(clinic, query):
    for form in (query, f"{query}&_total=accurate", f"{query}&_summary=count"):
        answer = clinic.ask(LABS, "GET", f"Observation?{form}")
        assert (answer.status, answer.names) == (200, [])
        assert answer.json.get("total", 0) == 0
    assert (
        clinic.names(SYSTEM, f"Observation?{query}") != []
        or "2000" in query
        or "patient=a&" in query
    )


@pytest.mark.requirement("2")
@pytest.mark.parametrize(
    "query", ["", "patient=a,b", "subject=Patient/a,Patient/b", "_id=lab-a,lab-b", "_sort=subject"]
)
def test_a_search_for_more_finds_ones_own(clinic, query):
    assert clinic.names(LABS, f"Observation?{query}") == ["Observation/lab-a"]


@pytest.mark.requirement("3")
@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("Patient/a/Observation", ["Observation/lab-a"]),
        ("Patient/a/Patient", ["Patient/a"]),
        ("Patient/a/*", ["Observation/lab-a", "Patient/a"]),
        ("Patient/a/*?_type=Patient", ["Patient/a"]),
        ("Patient/b/Observation", []),
        ("Patient/b/*", []),
        ("Practitioner/doc/Observation", ["Observation/lab-a"]),
        ("Encounter/visit-a/Observation", ["Observation/lab-a"]),
        ("Encounter/visit-b/Observation", []),
        ("Encounter/never/Observation", []),
    ],
)
def test_a_compartment_is_searched_like_anything_else(clinic, url, found):
    assert clinic.names(LABS, url) == found
    if "?" not in url:
        path = f"{url}/_search"
        assert clinic.ask(LABS, "POST", path, b"_count=50", [_FORM]).names == found


_FORM = ("content-type", "application/x-www-form-urlencoded")


@pytest.mark.requirement("3", "M4")
def test_a_compartment_of_a_type_without_a_scope_is_refused(clinic):
    for url in ("Patient/a/Condition", "Patient/a/*?_type=Condition", "Practitioner/doc/Encounter"):
        answer = clinic.ask(LABS, "GET", url)
        assert (answer.status, answer.code) == (403, "forbidden")
    assert clinic.ask(ALL_OF_A, "GET", "Patient/a/Medication").status == 404
    assert clinic.ask(ALL_OF_A, "GET", "Organization/org/Patient").status == 404


@pytest.mark.requirement("3", "21")
def test_the_events_of_a_compartment_are_those_of_its_patient(clinic):
    assert clinic.ask(DOCTOR, "GET", "Observation/lab-a").status == 200
    for caller in (ALL_OF_A, SYSTEM):
        found = clinic.names(caller, "Patient/a/AuditEvent")
        assert found and {each.partition("/")[0] for each in found} == {"AuditEvent"}
    assert clinic.names(ALL_OF_A, "Patient/b/AuditEvent?_count=5") == []
    assert clinic.names(SYSTEM, "Patient/b/AuditEvent?_count=5") != []


def test_a_compartment_links_to_itself_and_on(clinic):
    answer = clinic.ask(ALL_OF_A, "GET", "Patient/a/Observation?_count=1&_sort=_id")
    links = {each["relation"]: each["url"] for each in answer.json["link"]}
    assert links["self"] == ("http://clinic.example/fhir/Patient/a/Observation?_count=1&_sort=_id")
    assert answer.following.startswith("Patient/a/Observation?_page=")
    assert clinic.ask(ALL_OF_A, "GET", answer.following).names == ["Observation/vital-a"]
    elsewhere = answer.following.replace("Patient/a/", "Patient/b/")
    assert clinic.ask(ALL_OF_A, "GET", elsewhere).status == 404


# --- 4, 5: includes ------------------------------------------------------------------------------


@pytest.mark.requirement("4", "5")
@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("Observation?_include=Observation:subject", ["Observation/lab-a", "Patient/a"]),
        ("Observation?_include=Observation:patient", ["Observation/lab-a", "Patient/a"]),
        ("Observation?_include=*", ["Observation/lab-a", "Patient/a"]),
        ("Observation?_include:iterate=*", ["Observation/lab-a", "Patient/a"]),
        ("Patient?_revinclude=*", ["Patient/a", "Observation/lab-a"]),
        ("Patient?_revinclude=Observation:subject", ["Patient/a", "Observation/lab-a"]),
        ("Patient?_revinclude:iterate=*&_include:iterate=*", ["Patient/a", "Observation/lab-a"]),
    ],
)
def test_what_is_included_is_only_what_could_be_searched_for(clinic, url, found):
    assert clinic.names(LABS, url) == found


@pytest.mark.requirement("4", "58", "M4", "E4")
@pytest.mark.parametrize(
    "url",
    [
        "Observation?_include=Observation:encounter",
        "Observation?_include=Observation:performer:Practitioner",
        "Observation?_include=Observation:device",
        "Observation?_revinclude=Provenance:target",
        "Observation?_include:iterate=Encounter:subject",
        "Patient?_revinclude=Condition:subject",
        "Patient?_revinclude=AuditEvent:entity",
    ],
)
def test_an_include_that_names_a_type_without_a_scope_is_refused(clinic, url):
    answer = clinic.ask(LABS, "GET", url)
    assert (answer.status, answer.code) == (403, "forbidden")
    entry = {"request": {"method": "GET", "url": url}}
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}
    inside = clinic.ask(LABS, "POST", "", bundle).json["entry"][0]["response"]
    assert inside["status"].startswith("403")
    assert inside["outcome"]["issue"][0]["code"] == "forbidden"


@pytest.mark.requirement("4")
def test_a_page_is_full_of_what_may_be_seen_though_others_lie_between(clinic):
    answer = clinic.ask(ALL_OF_A, "GET", "Observation?_count=1&_revinclude=Provenance:target")
    assert answer.names == ["Observation/lab-a", "Provenance/of-a", "Provenance/both"]
    following = clinic.ask(ALL_OF_A, "GET", answer.following)
    assert following.names == ["Observation/vital-a"]


# --- 6, 7: chains and _has -----------------------------------------------------------------------


@pytest.mark.requirement("6", "7", "E2")
@pytest.mark.parametrize(
    "url",
    [
        "Observation?subject:Patient.general-practitioner.name=House",
        "Observation?encounter.status=finished",
        "Observation?performer:Practitioner.name=House",
        "Patient?general-practitioner:Practitioner.family=House",
        "Patient?_has:Condition:patient:code=x",
        "Patient?_has:Observation:patient:_has:Provenance:target:_id=both",
        "Patient?_has:Observation:patient:encounter.status=finished",
        "Patient?_has:AuditEvent:entity:date=2024",
    ],
)
def test_a_chain_that_names_a_type_without_a_scope_is_refused(clinic, url):
    answer = clinic.ask(LABS, "GET", url)
    assert (answer.status, answer.code) == (403, "forbidden")


@pytest.mark.requirement("6", "7", "E2")
@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("Observation?subject:Patient.family=Ash", ["Observation/lab-a"]),
        ("Observation?subject:Patient.family=Birch", []),
        ("Patient?_has:Observation:patient:category=laboratory", ["Patient/a"]),
        ("Patient?_has:Observation:patient:category=vital-signs", []),
        ("Patient?_has:Observation:patient:_id=lab-b", []),
        ("Patient?_has:Observation:subject:subject:Patient.family=Ash", ["Patient/a"]),
    ],
)
def test_a_chain_goes_only_over_what_may_be_seen(clinic, url, found):
    assert clinic.names(LABS, url) == found


# --- 8, 9: oracles -------------------------------------------------------------------------------


@pytest.mark.requirement("8")
def test_what_is_counted_is_what_may_be_seen(clinic):
    for query in ("_summary=count", "_count=0", "_total=accurate", "_total=estimate&_count=1"):
        assert clinic.ask(LABS, "GET", f"Observation?{query}").json["total"] == 1
        assert clinic.ask(NOBODYS, "GET", f"Observation?{query}").json["total"] == 0
        assert clinic.ask(SYSTEM, "GET", f"Observation?{query}").json["total"] == 4


@pytest.mark.requirement("8", "M8")
@pytest.mark.parametrize("name", ["_filter", "_text", "_content", "_query", "_list", "nonsense"])
def test_a_parameter_that_is_not_supported_is_refused(clinic, name):
    answer = clinic.ask(LABS, "GET", f"Observation?{name}=x")
    assert (answer.status, answer.code) == (400, "not-supported")
    lenient = clinic.ask(
        LABS, "GET", f"Observation?{name}=x", headers=[("prefer", "handling=lenient")]
    )
    modes = [each["search"]["mode"] for each in lenient.json["entry"]]
    assert modes == ["match", "outcome"]


@pytest.mark.requirement("8")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("encounter:missing=false", ["Observation/lab-a"]),
        ("category:not=laboratory", []),
        ("subject:identifier=x", []),
        ("_sort=-subject,_lastUpdated", ["Observation/lab-a"]),
    ],
)
def test_a_modifier_asks_only_of_what_may_be_seen(clinic, query, found):
    assert clinic.names(LABS, f"Observation?{query}") == found


@pytest.mark.requirement("8")
@pytest.mark.parametrize(
    "header",
    [
        ("if-none-match", 'W/"1"'),
        ("if-modified-since", "Sun, 01 Jan 2034 00:00:00 GMT"),
    ],
)
def test_a_precondition_tells_nothing_of_what_is_hidden(clinic, header):
    assert clinic.ask(LABS, "GET", "Observation/lab-a", headers=[header]).status == 304
    hidden = clinic.ask(LABS, "GET", "Observation/lab-b", headers=[header])
    assert (hidden.status, hidden.header("etag"), hidden.header("last-modified")) == (
        404,
        None,
        None,
    )


@pytest.mark.requirement("9")
@pytest.mark.parametrize(
    "query", ["_elements=subject", "_summary=text", "_summary=data", "_contained=false"]
)
def test_the_form_of_an_answer_adds_nothing(clinic, query):
    assert clinic.names(LABS, f"Observation?{query}") == ["Observation/lab-a"]
    assert clinic.ask(LABS, "GET", "Observation?_contained=both").status == 400


@pytest.mark.requirement("9")
def test_what_is_contained_is_no_resource_of_its_own(clinic):
    contained = {"resourceType": "Patient", "id": "p", "name": [{"family": "Inner"}]}
    made = {
        "resourceType": "Observation",
        "id": "held",
        "status": "final",
        "contained": [contained],
        "code": {"text": "x"},
        "subject": {"reference": "#p"},
    }
    clinic.put(made)
    assert clinic.names(ALL_OF_A, "Observation?_id=held") == []
    assert clinic.names(ALL_OF_A, "Patient?family=Inner") == []
    assert clinic.names(SYSTEM, "Observation?_id=held") == ["Observation/held"]
    assert clinic.ask(grant("system/*.d"), "DELETE", "Observation/held").status == 204


# --- who is not limited --------------------------------------------------------------------------


@pytest.mark.requirement("F2")
def test_who_is_not_limited_to_patients_sees_both(clinic):
    for caller in (DOCTOR, SYSTEM):
        assert clinic.names(caller, "Patient") == ["Patient/a", "Patient/b"]
        assert clinic.ask(caller, "GET", "Group/study").status == 200
        assert clinic.ask(caller, "GET", "Binary/open").status == 200


_US_CORE = (
    "AllergyIntolerance CarePlan CareTeam Condition Coverage Device DiagnosticReport"
    " DocumentReference Encounter Goal Immunization MedicationDispense MedicationRequest"
    " Observation Procedure QuestionnaireResponse RelatedPerson ServiceRequest Specimen"
).split()


@pytest.mark.requirement("F2", "F3", "F4")
@pytest.mark.parametrize("type", _US_CORE)
def test_a_type_of_us_core_is_searched_by_patient_with_a_scope_and_refused_without(clinic, type):
    one = grant(f"patient/{type}.rs", patient="a")
    assert clinic.ask(one, "GET", f"{type}?patient=a").status == 200
    assert clinic.ask(one, "GET", f"{type}?patient=Patient/a&_id=x").status == 200
    assert clinic.ask(ALL_OF_A, "GET", f"{type}?patient=a").status == 200
    assert (
        clinic.ask(grant("patient/Patient.rs", patient="a"), "GET", f"{type}?patient=a").status
        == 403
    )


@pytest.mark.requirement("E1", "E3")
def test_without_a_patient_in_context_a_patients_scope_opens_nothing(clinic):
    for type in ("Patient", "Observation", "Practitioner", "Binary", "Provenance"):
        assert clinic.names(NOBODYS, type) == []
    assert clinic.ask(NOBODYS, "GET", "Practitioner/doc").status == 404
