"""What a scope means: its letters, its type, its parameters, and several of them together.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

import pytest

from fhir_server import access, operations
from smart_auth.grant import Grant, Scope
from tests.security import people
from tests.security.clinic import EVERYBODY, Clinic, core, grant, opened
from tests.security.people import CATEGORY, LAB, VITAL, observation

NOW = 1_700_000_000_000_000
SCOPED = {code for code, each in operations.ALL.items() if each.letters}


# --- letters -------------------------------------------------------------------------------------

_BODY = observation("Observation/x", "Patient/a")
_PATCH = [{"op": "replace", "path": "/status", "value": "amended"}]
_LETTERS = [
    ("r", "GET", "Observation/lab-a", None),
    ("r", "GET", "Observation/lab-a/_history/1", None),
    ("r", "GET", "Observation/lab-a/_history", None),
    ("r", "POST", "Observation/lab-a/$validate?mode=delete", None),
    ("s", "GET", "Observation", None),
    ("s", "GET", "Observation/_history", None),
    ("s", "GET", "Patient/a/Observation", None),
    ("s", "GET", "?_type=Observation", None),
    ("c", "POST", "Observation", _BODY),
    ("u", "PUT", "Observation/lab-a", {**_BODY, "id": "lab-a"}),
    ("u", "PATCH", "Observation/lab-a", _PATCH),
    ("d", "DELETE", "Observation/none", None),
]


@pytest.mark.requirement("11", "12", "M4", "E4", "S2")
@pytest.mark.parametrize(("letter", "method", "url", "body"), _LETTERS)
def test_an_interaction_needs_its_letter_and_no_other(clinic, letter, method, url, body):
    with_it = grant(f"patient/Observation.{letter}", patient="a")
    others = "".join(each for each in "cruds" if each != letter)
    without = grant(f"patient/Observation.{others}", patient="a")
    assert clinic.ask(with_it, method, url, body).status != 403
    refused = clinic.ask(without, method, url, body)
    assert (refused.status, refused.code) == (403, "forbidden")
    assert refused.header("www-authenticate") == 'Bearer error="insufficient_scope"'


@pytest.mark.requirement("11")
@pytest.mark.parametrize(
    ("letters", "method", "url", "headers"),
    [
        ("c", "POST", "Observation", [("if-none-exist", "_id=lab-a")]),
        ("u", "PUT", "Observation?_id=lab-a", []),
        ("u", "PATCH", "Observation?_id=lab-a", []),
        ("d", "DELETE", "Observation?_id=lab-a", []),
    ],
)
def test_a_conditional_interaction_needs_to_search_too(clinic, letters, method, url, headers):
    body = None if method == "DELETE" else _PATCH if method == "PATCH" else _BODY
    alone = grant(f"patient/Observation.{letters}", patient="a")
    refused = clinic.ask(alone, method, url, body, headers)
    assert (refused.status, refused.code) == (403, "forbidden")
    entry = {"request": {"method": method, "url": url}, "resource": _BODY}
    if headers:
        entry["request"]["ifNoneExist"] = headers[0][1]
    if method != "PATCH":
        for kind in ("batch", "transaction"):
            bundle = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
            answer = clinic.ask(alone, "POST", "", bundle)
            told = answer.json.get("entry", [{"response": {"status": str(answer.status)}}])
            assert told[0]["response"]["status"].startswith("403")


@pytest.mark.requirement("12")
def test_a_scope_to_read_never_writes(clinic):
    reader = grant("patient/*.rs user/*.rs", patient="a", reach=None)
    for method, url, body in [
        ("POST", "Observation", _BODY),
        ("PUT", "Observation/lab-a", {**_BODY, "id": "lab-a"}),
        ("PATCH", "Observation/lab-a", _PATCH),
        ("DELETE", "Observation/lab-a", None),
    ]:
        assert clinic.ask(reader, method, url, body).status == 403


def test_a_patch_without_the_right_to_read_returns_nothing(clinic):
    clinic.put(observation("Observation/patched", "Patient/a"))
    blind = grant("patient/Observation.u", patient="a")
    answer = clinic.ask(blind, "PATCH", "Observation/patched", _PATCH)
    assert (answer.status, answer.body) == (200, b"")
    seeing = grant("patient/Observation.ru", patient="a")
    assert clinic.ask(seeing, "PATCH", "Observation/patched", _PATCH).json["status"] == "amended"


@pytest.mark.requirement("58")
@pytest.mark.parametrize("method", ["search-system", "history-system"])
def test_the_whole_system_needs_a_scope_for_every_type(clinic, method):
    url = "" if method == "search-system" else "_history"
    few = grant("system/Patient.rs system/Observation.rs")
    assert clinic.ask(few, "GET", url).status == 403
    assert clinic.ask(grant("system/*.s"), "GET", url).status == 200
    assert clinic.ask(grant("system/*.r"), "GET", url).status == 403
    assert clinic.names(few, "?_type=Patient") == ["Patient/a", "Patient/b"]
    assert clinic.ask(few, "GET", "?_type=Patient,Condition").status == 403


# --- types ---------------------------------------------------------------------------------------


@pytest.mark.requirement("57")
@pytest.mark.parametrize(
    ("granted", "other"),
    [
        ("Medication", "MedicationRequest"),
        ("Device", "DeviceRequest"),
        ("Observation", "ObservationDefinition"),
        ("MedicationRequest", "Medication"),
    ],
)
def test_a_type_is_not_another_whose_name_begins_like_it(clinic, granted, other):
    caller = grant(f"patient/{granted}.rs", patient="a")
    assert clinic.ask(caller, "GET", granted).status == 200
    assert clinic.ask(caller, "GET", other).status == 403
    assert clinic.ask(caller, "GET", f"{other}/x").status == 403


@pytest.mark.requirement("58", "F3", "15")
@pytest.mark.parametrize(
    "url",
    [
        "Condition",
        "Condition/flu-a",
        "Condition/never",
        "Condition/_history",
        "Patient?_revinclude=Condition:subject",
        "Patient?_has:Condition:subject:_id=flu-a",
        "Patient/a/Condition",
        "?_type=Condition",
        "Condition/flu-a/$validate",
    ],
)
def test_a_refused_type_is_refused_whether_there_is_something_or_not(clinic, url):
    caller = grant("patient/Patient.cruds patient/Observation.cruds", patient="a")
    alone = clinic.ask(caller, "GET", url)
    assert (alone.status, alone.code) == (403, "forbidden")
    entry = {"request": {"method": "GET", "url": url}}
    good = {"request": {"method": "GET", "url": "Patient/a"}}
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry, good]}
    statuses = [
        each["response"]["status"][:3]
        for each in clinic.ask(caller, "POST", "", bundle).json["entry"]
    ]
    assert statuses == ["403", "200"]
    whole = clinic.ask(caller, "POST", "", {**bundle, "type": "transaction"})
    assert (whole.status, whole.code) == (403, "forbidden")


# --- several scopes ------------------------------------------------------------------------------


@pytest.mark.requirement("11", "13", "E3", "S5", "S9")
@pytest.mark.parametrize(
    ("scopes", "more", "found"),
    [
        ("patient/Observation.s patient/Observation.rs", {}, ["lab-a", "vital-a"]),
        (f"patient/Observation.s?category={VITAL} patient/Observation.s?category={LAB}", {}, ["lab-a", "vital-a"]),
        (f"patient/Observation.s?category={VITAL} patient/Observation.r?category={LAB}", {}, ["vital-a"]),
        (f"patient/Observation.s?category={VITAL}&category={LAB}", {}, []),
        (f"patient/Observation.s?category={VITAL} patient/*.s", {}, ["lab-a", "vital-a"]),
        ("patient/Observation.s system/Observation.s", {}, ["lab-a", "vital-a"]),
        ("patient/Observation.s user/Observation.s", {"reach": None}, ["lab-a", "vital-a"]),
        ("user/Observation.s system/Observation.s", {"reach": frozenset("b")}, ["lab-b", "vital-b"]),
        ("user/Observation.s", {"reach": frozenset("ab")}, ["lab-a", "vital-a", "lab-b", "vital-b"]),
        ("user/Observation.s patient/Patient.r", {"reach": frozenset("ab")}, ["lab-a", "vital-a"]),
        ("user/Observation.s patient/Patient.r", {"reach": frozenset("b")}, []),
        ("user/Observation.s", {}, []),
        ("system/Observation.s", {}, ["lab-a", "vital-a", "lab-b", "vital-b"]),
        (f"system/Observation.s?category={LAB}", {}, ["lab-a", "lab-b"]),
        (f"system/Observation.s?category={LAB},{VITAL}&subject=Patient/b", {}, ["lab-b", "vital-b"]),
    ],
)  # fmt: skip
def test_scopes_of_one_type_add_up_and_contexts_never_widen(clinic, scopes, more, found):
    caller = grant(scopes, patient="a" if "patient/" in scopes else None, **more)
    names = clinic.names(caller, "Observation?_id=lab-a,vital-a,lab-b,vital-b")
    assert sorted(names) == sorted(f"Observation/{each}" for each in found)


@pytest.mark.requirement("14")
def test_openid_alone_opens_ones_own_resource(clinic):
    doctor = grant(identity=True, agent="Practitioner/doc", id="openid")
    assert clinic.ask(doctor, "GET", "Practitioner/doc").json["id"] == "doc"
    assert clinic.ask(doctor, "GET", "Practitioner/doc/_history/1").status == 200
    for url in (
        "Practitioner/nurse",
        "Practitioner",
        "Patient/a",
        "Practitioner?_id=doc",
        "_history",
    ):
        assert clinic.ask(doctor, "GET", url).status == 403
    silent = grant(agent="Practitioner/doc", id="no openid")
    assert clinic.ask(silent, "GET", "Practitioner/doc").status == 403
    app = grant("patient/Observation.rs", patient="a", identity=True, agent="Practitioner/doc")
    assert clinic.ask(app, "GET", "Practitioner/doc").status == 200
    assert clinic.ask(app, "GET", "Practitioner/nurse").status == 403
    both = grant("patient/Patient.rs", patient="a", identity=True, agent="Patient/b")
    assert clinic.ask(both, "GET", "Patient/b").status == 200
    assert clinic.names(both, "Patient") == ["Patient/a"]


# --- granular ------------------------------------------------------------------------------------


@pytest.mark.requirement("10", "G3")
def test_a_resource_of_two_categories_is_seen_by_either(clinic):
    clinic.put(observation("Observation/two-a", "Patient/a", (LAB, VITAL)))
    for category in (LAB, VITAL):
        caller = grant(f"patient/Observation.rs?category={CATEGORY}|{category}", patient="a")
        assert clinic.ask(caller, "GET", "Observation/two-a").status == 200
        assert clinic.names(caller, "Observation?_id=two-a") == ["Observation/two-a"]
    social = grant(f"patient/Observation.rs?category={CATEGORY}|social-history", patient="a")
    assert clinic.ask(social, "GET", "Observation/two-a").status == 404
    assert clinic.names(social, "Observation") == []


@pytest.mark.requirement("10", "59")
@pytest.mark.parametrize(
    "query",
    [
        (("category:not", LAB),),
        (("category:in", "http://x"),),
        (("category:missing", "false"),),
        (("subject.name", "x"),),
        (("subject:Patient.name", "x"),),
        (("_has:Provenance:target:_id", "x"),),
        (("code-value-quantity", "x$gt1"),),
        (("nonsense", "x"),),
        (("_filter", "x"),),
        (("_text", "x"),),
        (("_include", "Observation:subject"),),
        (("_sort", "date"),),
        (("_count", "1"),),
        (("_salus:context", "x"),),
        (("category", ""),),
        (("date", "not a date"),),
        (("", "x"),),
        (("category", LAB), ("nonsense", "x")),
        (("?category", LAB),),
    ],
)
def test_a_scope_with_a_parameter_that_is_none_is_refused_and_opens_nothing(clinic, query):
    scope = Scope("patient", "Observation", "rs", query)
    assert access.grantable(scope, core().index, NOW)
    caller = Grant("an app", id=str(query), scopes=(scope,), patient="a")
    assert clinic.names(caller, "Observation") == []
    assert clinic.ask(caller, "GET", "Observation/lab-a").status == 404


@pytest.mark.requirement("10")
@pytest.mark.parametrize(
    ("type", "query"),
    [
        ("Observation", ()),
        ("Observation", (("category", f"{CATEGORY}|{LAB}"),)),
        ("Observation", (("category", LAB), ("date", "ge2020"))),
        ("Observation", (("_security", "urn:s|R"), ("_tag", "x"), ("code", "a,b"))),
        ("Patient", (("birthdate", "lt2000"), ("family", "A"))),
        ("*", (("_security", "urn:s|R"),)),
        ("*", ()),
    ],
)
def test_a_scope_of_plain_parameters_can_be_granted(type, query):
    assert access.grantable(Scope("patient", type, "rs", query), core().index, NOW) is None


@pytest.mark.requirement("10")
def test_a_scope_of_all_types_takes_what_all_types_have():
    refused = access.grantable(Scope("patient", "*", "rs", (("category", LAB),)), core().index, NOW)
    assert refused is not None
    unknown = access.grantable(Scope("patient", "Obs", "rs"), core().index, NOW)
    assert unknown == "The scope names a resource type that R4 does not have"


@pytest.mark.requirement("10")
def test_a_value_is_taken_as_it_was_granted_and_separates_nothing(clinic):
    """What was %26, %7C or a semicolon in the scope is part of the value."""
    for value in (f"{LAB}&category={VITAL}", f"{LAB};{VITAL}", f"{LAB}\\,{VITAL}", f"{LAB}%2C"):
        scope = Scope("patient", "Observation", "rs", (("category", value),))
        caller = Grant("an app", id=value, scopes=(scope,), patient="a")
        assert clinic.names(caller, "Observation") == []


@pytest.mark.requirement("10")
def test_a_label_can_be_what_is_granted(clinic):
    label = {"system": "urn:labels", "code": "N"}
    clinic.put({**observation("Observation/labelled", "Patient/a"), "meta": {"security": [label]}})
    caller = grant("patient/*.rs?_security=urn:labels|N", patient="a")
    assert clinic.names(caller, "Observation") == ["Observation/labelled"]
    assert clinic.ask(caller, "GET", "Observation/lab-a").status == 404
    assert clinic.ask(EVERYBODY, "DELETE", "Observation/labelled").status == 204


# --- the categories of US Core -------------------------------------------------------------------

_CONDITION = "http://terminology.hl7.org/CodeSystem/condition-category"
_US = "http://hl7.org/fhir/us/core/CodeSystem"
EIGHT = [
    ("Condition", f"{_CONDITION}|encounter-diagnosis"),
    ("Condition", f"{_CONDITION}|problem-list-item"),
    ("Condition", f"{_US}/condition-category|health-concern"),
    ("Observation", f"{CATEGORY}|laboratory"),
    ("Observation", f"{CATEGORY}|social-history"),
    ("Observation", f"{CATEGORY}|vital-signs"),
    ("Observation", f"{CATEGORY}|survey"),
    ("Observation", f"{_US}/us-core-category|sdoh"),
]


@pytest.fixture(scope="module")
def categories(runner, tmp_path_factory):
    """Two patients with resources of every category, of two at once, and of none."""
    store = runner.run(opened(tmp_path_factory.mktemp("categories") / "data"))
    made = Clinic(store, runner)
    made.put(people.resource("Patient/a"), people.resource("Patient/b"))
    for number, (type, value) in enumerate(EIGHT):
        for whose in "ab":
            for other in (None, number + 1, number + 2):
                values = [value] if other is None else [value, EIGHT[other % 8][1]]
                made.put(
                    _categorised(type, f"{type[0].lower()}{number}-{other}-{whose}", whose, values)
                )
    made.put(
        _categorised("Observation", "none", "a", []), _categorised("Condition", "none", "a", [])
    )
    yield made
    runner.run(store.close())


def _categorised(type, id, whose, values):
    category = [
        {"coding": [dict(zip(("system", "code"), value.split("|"), strict=True))]}
        for value in values
    ]
    made = {
        "resourceType": type,
        "id": id,
        "subject": {"reference": f"Patient/{whose}"},
        "code": {"text": "x"},
    }
    return {
        **made,
        **({"status": "final"} if type == "Observation" else {}),
        **({"category": category} if category else {}),
    }


@pytest.mark.requirement("G2", "G3", "G6", "P2")
@pytest.mark.parametrize(("type", "value"), EIGHT)
def test_a_category_gives_exactly_what_the_whole_type_gives_filtered_by_it(categories, type, value):
    whole = grant(f"patient/{type}.rs", patient="a")
    part = grant(f"patient/{type}.rs?category={value}", patient="a")
    form = [("content-type", "application/x-www-form-urlencoded")]
    searches = ["patient=a", "patient=Patient/a&_sort=-_id", "patient=a&_count=2"]
    searches += [f"patient=a&category={each}" for kind, each in EIGHT if kind == type]
    for query in searches:
        query = query.replace("|", "%7C")
        both = categories.names(whole, f"{type}?{query}")
        kept = [name for name in both if _has(categories, name, value)]
        assert categories.names(part, f"{type}?{query}") == kept
        posted = categories.ask(part, "POST", f"{type}/_search", query.encode(), form)
        assert set(posted.names) <= set(kept)
        total = f"{type}?{query}&_total=accurate"
        assert categories.ask(part, "GET", total).json["total"] == len(kept)
        for name in both:
            status = categories.ask(part, "GET", name).status
            assert status == (200 if name in kept else 404)


def _has(clinic, name, value):
    resource = clinic.ask(EVERYBODY, "GET", name).json
    return any(
        f"{coding['system']}|{coding['code']}" == value
        for each in resource.get("category", [])
        for coding in each["coding"]
    )


# --- operations ----------------------------------------------------------------------------------


@pytest.mark.requirement("17", "E5")
@pytest.mark.parametrize("code", sorted(SCOPED))
def test_an_operation_says_what_it_needs_and_is_refused_without(clinic, code):
    known = operations.ALL[code]
    assert set(known.letters) <= set("cruds")
    type = next(iter(sorted(known.types)), "Observation")
    places = {"system": f"${code}", "type": f"{type}/${code}", "instance": f"{type}/lab-a/${code}"}
    others = "".join(each for each in "cruds" if each not in known.letters)
    for level in known.levels:
        other = "Encounter" if type == "Patient" else "Patient"
        for scopes in ("", f"patient/{other}.cruds", f"patient/{type}.{others}"):
            caller = grant(scopes, patient="a", id=scopes or "none")
            answer = clinic.ask(caller, "POST", places[level])
            assert (answer.status, answer.code) == (403, "forbidden")


@pytest.mark.requirement("17", "M6")
@pytest.mark.parametrize("code", sorted(SCOPED))
def test_an_operation_on_what_is_hidden_answers_as_on_what_is_absent(clinic, code):
    known = operations.ALL[code]
    if "instance" not in known.levels:
        pytest.skip("it is not for instances")
    type = next(iter(sorted(known.types)), "Observation")
    hidden = {"Patient": "b", "Encounter": "visit-b", "Observation": "lab-b"}.get(type, "lab-b")
    caller = grant("patient/*.cruds", patient="a")
    for method in ("GET", "POST"):
        one = clinic.ask(caller, method, f"{type}/{hidden}/${code}")
        other = clinic.ask(caller, method, f"{type}/{hidden[:-1]}z/${code}")
        assert (one.status, one.headers) == (other.status, other.headers)
        assert one.body == other.body.replace(f"{hidden[:-1]}z".encode(), hidden.encode())
        assert one.status in (404, 405)


@pytest.mark.requirement("17", "M6")
def test_what_no_scope_grants_is_purging_alone_and_for_nobody_with_a_scope(clinic):
    judged = {code for code, each in operations.ALL.items() if each.own}  # by themselves
    assert operations.ALL.keys() - SCOPED - judged == {"purge"}
    for caller in (
        grant("system/*.cruds"),
        grant("patient/*.cruds", patient="a"),
        grant("user/*.cruds"),
    ):
        for id in ("a", "b", "z"):
            answer = clinic.ask(caller, "POST", f"Patient/{id}/$purge")
            assert (answer.status, answer.code) == (403, "forbidden")


@pytest.mark.requirement("17")
@pytest.mark.parametrize("type", ["Binary", "Observation"])
def test_an_operation_that_there_is_not_is_absent_for_everybody(clinic, type):
    for caller in (grant("patient/*.cruds", patient="a"), grant(id="nothing"), EVERYBODY):
        for method in ("GET", "POST"):
            assert clinic.ask(caller, method, f"{type}/$everything-else").status == 404


@pytest.mark.requirement("17", "E5")
def test_an_operation_without_a_declaration_is_refused(clinic):
    silent = operations.ALL["validate"]
    silent = type(silent)(
        "silent", silent.levels, silent.types, silent.writes, silent.definition, silent.run
    )
    open_to = Clinic(clinic.store, clinic._runner, operations={"silent": silent})
    assert open_to.ask(grant("system/*.cruds"), "POST", "Observation/lab-a/$silent").status == 403
    assert open_to.ask(Grant.open(), "GET", "Observation/lab-a/$silent").status == 200
