"""Links to pages, tokens, paths, methods and bodies that try to confuse who asks for what.

Section 11.1 of the negative tests, 22 and 23; the status codes of section 1.5.
"""

import base64

import pytest

from fhir_server.links import Link, Links
from smart_auth.grant import Grant
from tests.security.clinic import EVERYBODY, KEY, grant

OF_A = grant("patient/*.rs", patient="a", id="grant of a")
FORM = [("content-type", "application/x-www-form-urlencoded")]


# --- 22: links -----------------------------------------------------------------------------------


@pytest.mark.requirement("22", "E7")
@pytest.mark.parametrize(
    "url", ["Observation?_count=1", "Patient/a/Observation?_count=1", "?_type=Observation&_count=1"]
)
def test_a_page_opens_for_the_grant_that_it_was_made_for(clinic, url):
    following = clinic.ask(OF_A, "GET", url).following
    assert clinic.ask(OF_A, "GET", following).names == ["Observation/vital-a"]
    same_patient = grant("patient/*.rs", patient="a", id="another grant of a")
    for other in (
        same_patient,
        grant("system/*.rs"),
        EVERYBODY,
        grant("patient/*.rs", patient="b"),
    ):
        answer = clinic.ask(other, "GET", following)
        assert (answer.status, answer.code) == (404, "not-found")
    refused = clinic.ask(grant("patient/Patient.rs", patient="a"), "GET", following)
    assert refused.status in (403, 404)


@pytest.mark.requirement("22", "E7")
def test_rights_are_those_of_now_on_every_page(clinic):
    """The same grant, narrowed meanwhile, as a new token of it would be."""
    following = clinic.ask(OF_A, "GET", "Observation?_count=1").following
    narrowed = grant("patient/Observation.rs?category=laboratory", patient="a", id="grant of a")
    assert clinic.ask(narrowed, "GET", following).names == []
    without = grant("patient/Patient.rs", patient="a", id="grant of a")
    assert clinic.ask(without, "GET", following).status == 403
    history = clinic.ask(OF_A, "GET", "_history?_count=1").following
    assert (
        clinic.ask(grant("patient/Patient.rs", id="grant of a", patient="a"), "GET", history).status
        == 403
    )


@pytest.mark.requirement("22")
def test_a_link_that_was_altered_or_made_elsewhere_opens_nothing(clinic):
    following = clinic.ask(OF_A, "GET", "Observation?_count=1").following
    path, _, sealed = following.partition("_page=")
    raw = bytearray(base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)))
    for place in (0, 13, len(raw) - 1):
        altered = bytes([*raw[:place], raw[place] ^ 1, *raw[place + 1 :]])
        text = base64.urlsafe_b64encode(altered).rstrip(b"=").decode()
        assert clinic.ask(OF_A, "GET", f"{path}_page={text}").status == 404
    forged = Links(bytes(32)).seal(
        Link("search-type", "Observation", None, (), (1, 9, 9, 0), 2**60), "grant grant of a"
    )
    for text in (forged, "", "x", sealed[:-4], f"{sealed}&_count=50", f"{sealed}&patient=b"):
        assert clinic.ask(OF_A, "GET", f"{path}_page={text}").status in (400, 404)
    for elsewhere in ("Patient", "Observation/_history", "", "Patient/b/Observation"):
        assert clinic.ask(OF_A, "GET", f"{elsewhere}?_page={sealed}").status == 404
    real = Links(KEY).seal(
        Link("search-type", "Observation", None, (), (1, 2**40, 2**40, 0), 2**60),
        "grant grant of a",
    )
    assert clinic.ask(OF_A, "GET", f"Observation?_page={real}").names == [
        "Observation/lab-a",
        "Observation/vital-a",
    ]


# --- 23: forms, paths, methods -------------------------------------------------------------------


@pytest.mark.requirement("23", "2")
def test_body_and_query_of_a_posted_search_are_both_asked(clinic):
    answer = clinic.ask(OF_A, "POST", "Observation/_search?patient=a", b"patient=b", FORM)
    assert (answer.status, answer.names) == (200, [])
    both = clinic.ask(OF_A, "POST", "Observation/_search?_id=lab-a", b"patient=a", FORM)
    assert both.names == ["Observation/lab-a"]
    json = clinic.ask(OF_A, "POST", "Observation/_search", {"patient": "b"})
    assert json.status == 415


@pytest.mark.requirement("23")
@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/Patient/b", 404),
        ("Patient//b", 404),
        ("Patient/b/", 404),
        ("Patient/b/.", 404),
        ("Patient/a/../b", 404),
        ("Patient/a;b", 400),
        ("Patient/a%2F..%2Fb", 400),
        ("patient/b", 404),
        ("PATIENT/b", 404),
        ("Patient/b.", 404),
        ("Patient/b/_history/../_history", 404),
        ("Patient/b?_format=html", 406),
        ("Patient/b?_format=<script>", 406),
        ("Patient/b?_pretty=true", 404),
        ("Observation?patient=b&access_token=x", 400),
    ],
)
def test_a_path_that_confuses_leads_to_nothing(clinic, url, status):
    answer = clinic.ask(OF_A, "GET", url)
    assert answer.status == status
    assert answer.header("content-type").startswith("application/fhir+json")
    assert b"Birch" not in answer.body and b"<script>" not in answer.body


@pytest.mark.requirement("23")
def test_a_header_does_not_make_another_method_of_a_request(clinic):
    for name in ("x-http-method-override", "x-http-method", "x-method-override"):
        answer = clinic.ask(OF_A, "GET", "Observation/lab-a", headers=[(name, "DELETE")])
        assert answer.status == 200
    assert clinic.ask(OF_A, "GET", "Observation/lab-a?_method=DELETE").status == 400
    assert clinic.ask(EVERYBODY, "GET", "Observation/lab-a").status == 200


# --- who asks ------------------------------------------------------------------------------------


@pytest.mark.requirement("F1", "M1", "F7")
@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "Patient/a"),
        ("GET", "Patient"),
        ("POST", ""),
        ("DELETE", "Patient/a"),
        ("GET", "nonsense"),
    ],
)
def test_without_a_token_nothing_is_answered(clinic, method, url):
    answer = clinic.ask(None, method, url)
    assert (answer.status, answer.code) == (401, "login")
    assert answer.header("www-authenticate") == 'Bearer realm="clinic"'


def test_what_the_server_can_do_is_told_to_anybody(clinic):
    assert clinic.ask(None, "GET", "metadata").json["resourceType"] == "CapabilityStatement"
    assert clinic.ask(grant(id="nothing"), "GET", "metadata").status == 200
    unknown = clinic.ask(None, "GET", "metadata", headers=[("authorization", "Bearer never")])
    assert unknown.status == 401


@pytest.mark.requirement("M3", "41")
def test_two_authorization_headers_are_refused(clinic):
    clinic.ask(OF_A, "GET", "Patient/a")
    token = f"Bearer {id(OF_A)}"
    answer = clinic.ask(None, "GET", "Patient/a", headers=[("authorization", token)] * 2)
    assert (answer.status, answer.code) == (400, "invalid")
    assert clinic.ask(None, "GET", "Patient/a", headers=[("authorization", token)]).status == 200


@pytest.mark.requirement("M4", "F7", "42")
def test_a_missing_scope_is_told_by_a_challenge_and_an_outcome(clinic):
    answer = clinic.ask(grant("patient/Patient.rs", patient="a"), "GET", "Observation")
    assert (answer.status, answer.code) == (403, "forbidden")
    assert answer.header("www-authenticate") == 'Bearer error="insufficient_scope"'
    issue = answer.json["issue"][0]
    assert issue["diagnostics"] == "This grant does not allow search-type on Observation"


def test_a_key_of_a_request_is_its_grants(clinic):
    """What was answered once is answered again to whom it was answered, and to nobody else."""
    made = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": "Patient/a"},
    }
    key = [("idempotency-key", "k")]
    one = grant("patient/Observation.cruds", patient="a", id="one", agent="Patient/a")
    first = clinic.ask(one, "POST", "Observation", made, key)
    again = clinic.ask(one, "POST", "Observation", made, key)
    assert (first.status, first.body) == (again.status, again.body)
    two = grant("patient/Observation.cruds", patient="a", id="two", agent="Patient/a")
    other = clinic.ask(two, "POST", "Observation", made, key)
    assert other.status == 201 and other.json["id"] != first.json["id"]
    backend = [
        Grant("loader", client="loader", id=id, scopes=grant("system/*.cruds").scopes)
        for id in ("x", "y")
    ]
    bodies = {clinic.ask(each, "POST", "Observation", made, key).body for each in backend}
    assert len(bodies) == 1
    for answer in (first, other):
        clinic.ask(EVERYBODY, "DELETE", f"Observation/{answer.json['id']}")


def test_what_was_answered_once_is_not_answered_again_to_other_rights(clinic):
    """The same app and user with fewer scopes, for a narrower patient, or beyond another reach."""
    key = [("idempotency-key", "rights")]
    made = {"request": {"method": "POST", "url": "Observation"}, "resource": _OF_B}
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [made, {"request": {"method": "GET", "url": "Patient/b"}}],
    }

    def of(scopes, **more):
        return grant(scopes, **{"client": "app", "agent": "Practitioner/d", "reach": None, **more})

    whole = of("user/*.cruds", id="1")
    first = clinic.ask(whole, "POST", "", bundle, key)
    same = of("user/*.cruds", id="2")
    assert clinic.ask(same, "POST", "", bundle, key).body == first.body
    assert b"Birch" in first.body
    for other in (
        of("user/Patient.rs?gender=male user/Observation.c", id="3"),
        of("user/*.cruds", id="4", reach=frozenset("a")),
        of("user/*.cruds patient/*.cruds", id="5", patient="a"),
        of("user/Observation.c", id="1"),  # the same grant, its scopes narrowed by a refresh
        of("user/*.cruds", id="6", client="another"),
    ):
        assert clinic.ask(other, "POST", "", bundle, key).body != first.body
    for each in clinic.names(EVERYBODY, "Observation?code:text=rights"):
        clinic.ask(EVERYBODY, "DELETE", each)


def test_a_users_key_under_narrowed_patient_scopes_is_another(clinic):
    key = [("idempotency-key", "narrowed")]
    made = {**_OF_B, "subject": {"reference": "Patient/a"}}
    entry = {"request": {"method": "GET", "url": "Patient/a"}}
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"request": {"method": "POST", "url": "Observation"}, "resource": made}, entry],
    }
    whole = grant("patient/*.cruds", patient="a", id="one")
    again = grant("patient/*.cruds", patient="a", id="one")
    less = grant("patient/Patient.rs?gender=other patient/Observation.c", patient="a", id="one")

    first = clinic.ask(whole, "POST", "", bundle, key)

    assert clinic.ask(again, "POST", "", bundle, key).body == first.body
    assert clinic.ask(less, "POST", "", bundle, key).status == 404
    for each in clinic.names(EVERYBODY, "Observation?code:text=rights"):
        clinic.ask(EVERYBODY, "DELETE", each)


_OF_B = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"text": "rights"},
    "subject": {"reference": "Patient/b"},
}
