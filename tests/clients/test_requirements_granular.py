"""Scopes by category: results of the wider scope, filtered, by GET and POST, page by page.

https://hl7.org/fhir/us/core/scopes.html
"""

import itertools

import pytest

from tests.clients.forms import forms
from tests.clients.smart import REDIRECT, launched
from tests.clients.us_core import CATEGORIES, SCOPES, about, in_category

BASE = "launch/patient openid fhirUser offline_access"
# The two launches of the official kits: which of the eight each asks for.
FIRST = [SCOPES[0], SCOPES[1], SCOPES[3], SCOPES[4]]
SECOND = [SCOPES[2], SCOPES[5], SCOPES[6], SCOPES[7]]
WIDE = ["patient/Condition.rs", "patient/Observation.rs", "patient/Patient.rs"]


@pytest.fixture(scope="module")
def patient(demo, patients):
    """A patient with something of every category; another has the same."""
    demo.register("granular", "--redirect-uri", REDIRECT)
    with demo.fhir(demo.token("system/*.cruds")) as fhir:
        for id in patients[:2]:
            for each in about(id):
                answer = fhir.post(f"/{each['resourceType']}", json=each)
                assert answer.status_code == 201, answer.text
    return patients[0]


@pytest.fixture(scope="module")
def wide(demo, patient):
    """Somebody with the wider scopes, on the same patient."""
    token = launched(demo, "granular", f"{BASE} {' '.join(WIDE)}", patient=patient)
    with demo.fhir(token["access_token"]) as fhir:
        yield fhir


def categories(scopes, type):
    """What scopes of a type are limited to."""
    return [each.partition("category=")[2] for each in scopes if f"/{type}." in each]


def searched(fhir, type, query, post=False):
    """Every resource that a search gives, by all of its pages."""
    if post:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        page = fhir.post(f"/{type}/_search", content=query, headers=form)
    else:
        page = fhir.get(f"/{type}?{query}")
    found = []
    while True:
        assert page.status_code == 200, page.text
        bundle = page.json()
        found += [entry["resource"] for entry in bundle.get("entry", ())]
        following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
        if not following:
            return found, bundle.get("total")
        page = fhir.get(following[0])


def queries(patient):
    """The searches of the kits on either type, with categories that are granted and that are not."""
    yield "Condition", f"patient={patient}"
    yield "Condition", f"patient=Patient/{patient}&recorded-date=gt2026-02-02"
    yield "Condition", f"patient={patient}&clinical-status=active&_total=accurate&_count=2"
    yield "Observation", f"patient={patient}&date=ge2026-02-03&date=le2026-02-28"
    yield "Observation", f"patient={patient}&status=final&_sort=-date&_count=3"
    yield "Observation", f"patient={patient}&code=http://loinc.org|8100-0,8300-0"
    for type, codes in CATEGORIES.items():
        for category in codes:
            yield type, f"patient={patient}&category={category}"
            yield type, f"patient={patient}&category={category.partition('|')[2]}"


@pytest.mark.parametrize("scopes", [FIRST, SECOND, *([each] for each in SCOPES)])
@pytest.mark.requirement("G1", "G2", "G6", "M5", "P2", "S5", "10", "59")
def test_results_are_those_of_the_wider_scope_filtered(demo, patient, wide, scopes):
    asked = f"{BASE} {' '.join(scopes)}"
    token = launched(demo, "granular", asked, patient=patient)
    assert token["scope"].split() == asked.split()

    with demo.fhir(token["access_token"]) as fhir:
        for type, query in queries(patient):
            codes = categories(scopes, type)
            if not codes:
                assert fhir.get(f"/{type}?{query}").status_code == 403
                continue
            everything, _ = searched(wide, type, query)
            wanted = [r for r in everything if any(in_category(r, code) for code in codes)]
            for post in (False, True):
                found, total = searched(fhir, type, query, post)
                assert found == wanted, (query, post)
                assert total in (None, len(wanted))


@pytest.mark.requirement("G3", "M6", "10")
def test_a_read_of_what_matches_is_answered_and_of_nothing_else(demo, patient, wide):
    token = launched(demo, "granular", f"{BASE} {' '.join(FIRST)}", patient=patient)
    with demo.fhir(token["access_token"]) as fhir:
        absent = fhir.get("/Observation/none")
        for type in CATEGORIES:
            codes = categories(FIRST, type)
            for each in searched(wide, type, f"patient={patient}")[0]:
                answer = fhir.get(f"/{type}/{each['id']}")
                if any(in_category(each, code) for code in codes):
                    assert (answer.status_code, answer.json()) == (200, each)
                else:
                    assert answer.status_code == absent.status_code == 404
                    assert answer.json()["resourceType"] == "OperationOutcome"


@pytest.mark.requirement("G1", "59", "T9")
def test_a_refresh_keeps_the_limit(demo, patient):
    token = launched(demo, "granular", f"{BASE} {SCOPES[3]}", patient=patient)
    sent = {
        "grant_type": "refresh_token",
        "refresh_token": token["refresh_token"],
        "client_id": "granular",
    }
    with demo.fhir("") as nobody:
        again = nobody.post(f"{demo.base}/oauth/token", data=sent).json()

    assert again["scope"] == token["scope"]
    with demo.fhir(again["access_token"]) as fhir:
        found, _ = searched(fhir, "Observation", f"patient={patient}")
        assert found
        assert all(in_category(each, categories(SCOPES[3:4], "Observation")[0]) for each in found)


KINDS = {  # the ticks of the consent page, and the scopes that they make
    "see.Condition.encounter-diagnosis": SCOPES[0],
    "see.Condition.health-concern": SCOPES[1],
    "see.Condition.problem-list-item": SCOPES[2],
    "see.Observation.laboratory": SCOPES[3],
    "see.Observation.social-history": SCOPES[4],
    "see.Observation.vital-signs": SCOPES[5],
    "see.Observation.survey": SCOPES[6],
    "see.Observation.sdoh": SCOPES[7],
}


@pytest.mark.parametrize(
    "ticks",
    list(itertools.product(list(KINDS)[:3], list(KINDS)[3:]))[::4],
    ids=" ".join,
)
@pytest.mark.requirement("G4", "A8", "P4")
def test_a_wider_scope_is_narrowed_on_the_consent_page(demo, patient, ticks):
    token = launched(
        demo, "granular", f"{BASE} {' '.join(WIDE)}", patient=patient, tick=tuple(ticks)
    )

    clinical = [each for each in token["scope"].split() if each.startswith("patient/")]
    assert clinical == [*(KINDS[tick] for tick in ticks), "patient/Patient.rs"]


@pytest.mark.requirement("G5", "A8")
def test_every_category_of_us_core_is_offered_by_name(demo, patient):
    person = demo.browser("doctor")
    launched(demo, "granular", f"{BASE} {' '.join(WIDE)}", patient=patient)

    offered = {name for form in forms(person.pages[-1]) for name in form.names}
    assert {*KINDS, "see.Observation.clinical-test"} <= offered
    for words in ("Clinical test", "Laboratory", "Social history", "Vital signs", "Problem list"):
        assert words.lower() in person.pages[-1].text.lower()
