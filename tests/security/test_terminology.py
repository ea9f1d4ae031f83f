"""The operations of terminology: bundled content for whoever has a token, stored content by the
ordinary access, what is sent along for nobody else, and no question without an end."""

import json

import pytest

from tests.security.clinic import EVERYBODY, grant

SYSTEM = "http://clinic.example/colours"
RED = "http://clinic.example/red"
GENDER = "http://hl7.org/fhir/ValueSet/administrative-gender"
GENDERS = "http://hl7.org/fhir/administrative-gender"


def code_system(id="colours", url=SYSTEM, **more):
    return {
        "resourceType": "CodeSystem",
        "id": id,
        "url": url,
        "status": "active",
        "content": "complete",
        "caseSensitive": True,
        "concept": [{"code": "red", "display": "Red", "concept": [{"code": "crimson"}]}],
        **more,
    }


def value_set(id, url, *include, **more):
    include = include or ({"system": SYSTEM},)
    compose = {"include": list(include)}
    return {
        "resourceType": "ValueSet",
        "id": id,
        "url": url,
        "status": "active",
        "compose": compose,
        **more,
    }


MAP = {
    "resourceType": "ConceptMap",
    "id": "map",
    "url": "http://clinic.example/map",
    "status": "active",
    "group": [
        {
            "source": SYSTEM,
            "target": GENDERS,
            "element": [{"code": "red", "target": [{"code": "other", "equivalence": "wider"}]}],
        }
    ],
}
NOBODYS = grant("patient/Observation.rs", patient="a")
READS_ONLY = grant("user/ValueSet.r user/CodeSystem.r user/ConceptMap.r", reach=None)
FINDS_ONLY = grant("user/ValueSet.s user/CodeSystem.s user/ConceptMap.s", reach=None)
READER = grant(
    "user/ValueSet.rs user/CodeSystem.rs user/ConceptMap.rs user/Observation.rs", reach=None
)
ACTIVE = grant("user/ValueSet.rs?status=active user/CodeSystem.rs", reach=None)
LIMITED = {"no scope": NOBODYS, "reads only": READS_ONLY, "finds only": FINDS_ONLY}


@pytest.fixture(scope="module", autouse=True)
def stored(clinic):
    clinic.put(
        code_system(),
        value_set("red", RED),
        value_set("draft", "http://clinic.example/draft", status="draft"),
        MAP,
    )


def parameters(**given):
    """Parameters of simple values, their types by their looks."""
    made = []
    for name, value in given.items():
        type = {bool: "Boolean", int: "Integer"}.get(value.__class__, "String")
        made.append({"name": name.replace("_", "-"), f"value{type}": value})
    return {"resourceType": "Parameters", "parameter": made}


def sent(name, *resources, **given):
    made = parameters(**given)
    made["parameter"] += [{"name": name, "resource": each} for each in resources]
    return made


QUESTIONS = [
    ("ValueSet/$expand", parameters(url=RED)),
    ("ValueSet/red/$expand", parameters()),
    ("ValueSet/$validate-code", parameters(url=RED, system=SYSTEM, code="red")),
    ("ValueSet/red/$validate-code", parameters(system=SYSTEM, code="red")),
    ("CodeSystem/$validate-code", parameters(url=SYSTEM, code="red")),
    ("CodeSystem/colours/$validate-code", parameters(code="red")),
    ("CodeSystem/$lookup", parameters(system=SYSTEM, code="red")),
    ("CodeSystem/$subsumes", parameters(system=SYSTEM, codeA="red", codeB="crimson")),
    ("CodeSystem/colours/$subsumes", parameters(codeA="red", codeB="crimson")),
    ("ConceptMap/$translate", parameters(url=MAP["url"], system=SYSTEM, code="red")),
    ("ConceptMap/map/$translate", parameters(system=SYSTEM, code="red")),
]


@pytest.mark.parametrize(("url", "body"), [*QUESTIONS, ("$closure", parameters(name="mine"))])
def test_without_a_token_nothing_is_answered(clinic, url, body):
    assert clinic.ask(None, "POST", url, body).status == 401


@pytest.mark.parametrize(("url", "body"), QUESTIONS)
def test_what_is_stored_answers_whoever_may_read_and_search_it(clinic, url, body):
    answer = clinic.ask(READER, "POST", url, body)
    assert answer.status == 200
    assert (
        "red" in answer.body.decode()
        or "subsumes" in answer.body.decode()
        or "true" in str(answer.json).lower()
    )


@pytest.mark.parametrize("caller", LIMITED.values(), ids=LIMITED)
@pytest.mark.parametrize(("url", "body"), QUESTIONS)
def test_what_is_stored_is_absent_for_all_others(clinic, caller, url, body):
    """Every byte is as for a name that nothing has; a reader may still ask an instance."""
    if "/$" in url and url.count("/") == 2 and caller is READS_ONLY:
        return
    hidden = clinic.ask(caller, "POST", url, body)
    text = json.dumps(body)
    for have, lack in (
        ("colours", "coloura"),
        ("clinic.example/red", "clinic.example/rex"),
        ("example/map", "example/mab"),
    ):
        text = text.replace(have, lack)
    for have, lack in (("/red/", "/rex/"), ("/colours/", "/coloura/"), ("/map/", "/mab/")):
        url = url.replace(have, lack)
    absent = clinic.ask(caller, "POST", url, text.encode())
    assert absent.status == hidden.status
    told = absent.body.decode()
    for have, lack in (
        ("colours", "coloura"),
        ("clinic.example/red", "clinic.example/rex"),
        ("example/map", "example/mab"),
    ):
        told = told.replace(lack, have)
    assert told == hidden.body.decode()


def test_what_is_bundled_answers_every_token(clinic):
    for caller in (*LIMITED.values(), READER, EVERYBODY):
        answer = clinic.ask(caller, "GET", f"ValueSet/$expand?url={GENDER}")
        assert answer.json["expansion"]["total"] == 4
        url = f"ValueSet/$validate-code?url={GENDER}&system={GENDERS}&code=male"
        assert clinic.ask(caller, "GET", url).json["parameter"][0]["valueBoolean"] is True
        url = f"CodeSystem/$lookup?system={GENDERS}&code=male"
        assert clinic.ask(caller, "GET", url).status == 200


def test_a_stored_map_is_found_by_the_systems_that_it_is_between(clinic):
    url = f"ConceptMap/$translate?system={SYSTEM}&code=red"
    back = f"ConceptMap/$translate?system={GENDERS}&code=other&reverse=true"
    for one, told in ((url, "other"), (back, "red")):
        answer = clinic.ask(READER, "GET", one)
        assert f'"code":"{told}"' in answer.body.decode()
        for caller in LIMITED.values():
            assert "map" not in clinic.ask(caller, "GET", one).body.decode()


def test_the_language_of_the_request_is_that_of_the_display(clinic):
    designation = [{"language": "de", "value": "Rot"}]
    german = code_system(concept=[{"code": "red", "display": "Red", "designation": designation}])
    body = sent("tx-resource", german, system=SYSTEM, code="red")
    headers = [("Accept-Language", "de-CH, en;q=0.5")]
    answer = clinic.ask(READER, "POST", "CodeSystem/$lookup", body, headers)
    told = {each["name"]: each.get("valueString") for each in answer.json["parameter"]}
    assert told["display"] == "Rot"
    body["parameter"].append({"name": "displayLanguage", "valueCode": "en"})
    answer = clinic.ask(READER, "POST", "CodeSystem/$lookup", body, headers)
    told = {each["name"]: each.get("valueString") for each in answer.json["parameter"]}
    assert told["display"] == "Red"


def test_questions_are_entries_of_a_batch(clinic):
    url = f"ValueSet/$validate-code?url={GENDER}&system={GENDERS}&code="
    entries = [{"request": {"method": "GET", "url": url + code}} for code in ("male", "man")]
    entries.append(
        {
            "resource": parameters(system=GENDERS, code="male"),
            "request": {"method": "POST", "url": "CodeSystem/$lookup"},
        }
    )
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    found = clinic.ask(NOBODYS, "POST", "", bundle).json["entry"]
    assert [each["resource"]["parameter"][0] for each in found] == [
        {"name": "result", "valueBoolean": True},
        {"name": "result", "valueBoolean": False},
        {"name": "name", "valueString": "AdministrativeGender"},
    ]


def test_a_granular_scope_lets_its_value_sets_take_part_and_no_others(clinic):
    def asked(caller, url):
        return clinic.ask(caller, "GET", f"ValueSet/$expand?url={url}").status

    assert asked(READER, "http://clinic.example/draft") == 200
    assert asked(ACTIVE, "http://clinic.example/draft") == 404
    assert asked(ACTIVE, RED) == 200


def test_what_a_set_draws_in_is_hidden_too(clinic):
    """Also where the set itself is sent along, or is seen."""
    importing = value_set("x", "http://clinic.example/x", {"valueSet": [RED]})
    body = sent("valueSet", importing)
    assert clinic.ask(READER, "POST", "ValueSet/$expand", body).json["expansion"]["total"] == 2
    assert clinic.ask(NOBODYS, "POST", "ValueSet/$expand", body).status == 404
    system_only = grant("user/ValueSet.rs", reach=None)
    answer = clinic.ask(system_only, "GET", f"ValueSet/$expand?url={RED}")
    assert (answer.status, answer.code) == (404, "not-found")


def test_a_value_set_may_be_posted_by_itself(clinic):
    own = value_set("own", "http://own.example", {"system": GENDERS, "concept": [{"code": "male"}]})
    answer = clinic.ask(NOBODYS, "POST", "ValueSet/$expand?includeDefinition=true", own)
    assert answer.json["compose"] == own["compose"]
    assert [each["display"] for each in answer.json["expansion"]["contains"]] == ["Male"]


def test_what_is_sent_along_is_private_to_its_request(clinic):
    body = sent(
        "tx-resource",
        value_set("p", "http://private.example/p"),
        code_system(),
        url="http://private.example/p",
    )
    assert clinic.ask(NOBODYS, "POST", "ValueSet/$expand", body).status == 200
    for caller in (NOBODYS, EVERYBODY):
        url = "ValueSet/$expand?url=http://private.example/p"
        assert clinic.ask(caller, "GET", url).status == 404
        assert clinic.names(EVERYBODY, "ValueSet?url=http://private.example/p") == []


def test_a_search_knows_only_the_value_sets_that_its_caller_may_use(clinic):
    observing = grant("user/Observation.rs", reach=None)
    red = f"Observation?code:in={RED}"
    assert clinic.ask(READER, "GET", red).status == 200
    hidden = clinic.ask(observing, "GET", red)
    absent = clinic.ask(observing, "GET", red.replace("/red", "/rex"))
    assert (hidden.status, hidden.body) == (404, absent.body.replace(b"/rex", b"/red"))
    assert clinic.ask(READER, "GET", "Observation?code:in=ValueSet/red").status == 200
    assert clinic.ask(READER, "GET", "Observation?code:in=ValueSet/rex").status == 404
    assert clinic.ask(observing, "GET", "Observation?code:in=ValueSet/red").status == 403
    granular = grant("user/Observation.rs user/ValueSet.rs?status=draft", reach=None)
    hidden = clinic.ask(granular, "GET", "Observation?code:not-in=ValueSet/red")
    absent = clinic.ask(granular, "GET", "Observation?code:not-in=ValueSet/rex")
    assert (hidden.status, hidden.body) == (absent.status, absent.body) == (404, hidden.body)


def test_a_closure_table_is_its_callers_alone(clinic):
    one, other = (
        grant("user/CodeSystem.rs", client="one", reach=None),
        grant("user/CodeSystem.rs", client="two", reach=None),
    )
    begun = parameters(name="t")
    coding = [
        {"name": "concept", "valueCoding": {"system": SYSTEM, "code": code}}
        for code in ("red", "crimson")
    ]
    asked = {**begun, "parameter": [*begun["parameter"], *coding]}
    assert clinic.ask(one, "POST", "$closure", begun).status == 200
    told = clinic.ask(one, "POST", "$closure", asked).json
    assert told["group"][0]["element"] == [
        {"code": "crimson", "target": [{"code": "red", "equivalence": "subsumes"}]}
    ]
    assert clinic.ask(other, "POST", "$closure", asked).status == 404
    replay = parameters(name="t", version="0")
    assert clinic.ask(one, "POST", "$closure", replay).json["group"] == told["group"]
    assert clinic.ask(other, "POST", "$closure", replay).status == 404
    assert clinic.ask(one, "GET", "$closure?name=t").status == 400
    blind = grant("patient/Observation.rs", client="one", patient="a")
    assert clinic.ask(blind, "POST", "$closure", replay).status == 404


def test_the_audit_tells_the_operation_and_the_stored_resources_in_its_answer(clinic):
    auditor = grant("user/ValueSet.rs user/CodeSystem.rs", client="watched", reach=None)
    clinic.put(value_set("seen", "http://clinic.example/seen"))
    assert (
        clinic.ask(auditor, "GET", "ValueSet/$expand?url=http://clinic.example/seen").status == 200
    )
    found = clinic.ask(
        EVERYBODY, "GET", "AuditEvent?entity=ValueSet/seen&_sort=-date&_count=1"
    ).json
    event = found["entry"][0]["resource"]
    assert event["action"] == "E"
    names = [
        each["what"]["reference"] for each in event["entity"] if "reference" in each.get("what", {})
    ]
    assert any(each.startswith("ValueSet/seen") for each in names)
    assert any(each.startswith("CodeSystem/colours") for each in names)


@pytest.mark.parametrize(
    ("url", "body", "code"),
    [
        pytest.param(
            "ValueSet/$expand",
            sent(
                "tx-resource",
                *(value_set(str(n), f"http://x.example/{n}") for n in range(501)),
                url=GENDER,
            ),
            "too-costly",
            id="resources sent along",
        ),
        pytest.param(
            "ValueSet/$expand",
            sent(
                "tx-resource",
                value_set("a", "http://x.example/a", {"valueSet": ["http://x.example/b"]}),
                value_set("b", "http://x.example/b", {"valueSet": ["http://x.example/a"]}),
                url="http://x.example/a",
            ),
            "invalid",
            id="a circle",
        ),
        pytest.param(
            "ValueSet/$expand",
            sent(
                "tx-resource",
                *(
                    value_set(str(n), f"http://x.example/{n}", {"valueSet": [f"http://x.example/{n + 1}"]})
                    for n in range(40)
                ),
                url="http://x.example/0",
            ),
            "too-costly",
            id="depth of imports",
        ),
        pytest.param(
            "ValueSet/$expand",
            sent(
                "tx-resource",
                *(
                    value_set(str(n), f"http://x.example/{n}", {"valueSet": [f"http://x.example/{n + 1}"] * 8})
                    for n in range(12)
                ),
                value_set("12", "http://x.example/12"),
                url="http://x.example/0",
            ),
            "too-costly",
            id="imports that multiply",
        ),
        pytest.param(
            "ValueSet/$expand",
            sent(
                "valueSet",
                value_set(
                    "r",
                    "http://x.example/r",
                    {"system": GENDERS, "filter": [{"property": "code", "op": "regex", "value": r"(a)\1"}]},
                ),
            ),
            "invalid",
            id="a pattern that looks back",
        ),
        pytest.param(
            "ValueSet/$expand", parameters(url=GENDER, count=-1), "value", id="a negative count"
        ),
        pytest.param("ValueSet/$expand", {"resourceType": "Basic"}, "invalid", id="no Parameters"),
        pytest.param(
            "$batch-validate-code",
            {
                "resourceType": "Parameters",
                "parameter": [{"name": "validation", "resource": parameters(url=GENDER)}] * 1_001,
            },
            "too-costly",
            id="a batch",
        ),
    ],
)  # fmt: skip
def test_a_question_without_an_end_is_refused(clinic, url, body, code):
    answer = clinic.ask(READER, "POST", url, body)
    assert 400 <= answer.status < 500
    assert answer.code == code


def test_a_pattern_that_would_take_forever_elsewhere_is_answered(clinic):
    long = code_system("long", "http://x.example/long", concept=[{"code": "a" * 5_000 + "!"}])
    tested = value_set(
        "r",
        "http://x.example/r",
        {"system": long["url"], "filter": [{"property": "code", "op": "regex", "value": "(a+)+"}]},
    )
    answer = clinic.ask(
        READER, "POST", "ValueSet/$expand", sent("tx-resource", long, tested, url=tested["url"])
    )
    assert answer.json["expansion"]["total"] == 0


DICOM = "http://dicom.nema.org/resources/ontology/DCM"  # the largest code system of the core
SLOW = {"property": "display", "op": "regex", "value": "(.*a){3}.*(b|c).*x"}


@pytest.mark.parametrize(
    "compose",
    [
        pytest.param(
            {
                "include": [{"system": DICOM}],
                "exclude": [{"system": DICOM, "concept": [{"code": str(n)}]} for n in range(1_900)],
            },
            id="excludes",
        ),
        pytest.param({"include": [{"system": DICOM, "filter": [SLOW]}] * 900}, id="filters"),
        pytest.param(
            {"include": [{"system": DICOM, "filter": [SLOW] * 2_001}]}, id="filters at once"
        ),
        pytest.param({"include": [{"system": DICOM}] * 2_001}, id="includes"),
    ],
)
@pytest.mark.parametrize("operation", ["$expand", "$validate-code"])
def test_a_value_set_that_takes_too_many_comparisons_is_refused(clinic, operation, compose):
    made = {**value_set("x", "http://x.example/x"), "compose": compose}
    coded = {} if operation == "$expand" else {"system": DICOM, "code": "109001"}
    body = sent("valueSet", made, **coded)
    answer = clinic.ask(NOBODYS, "POST", f"ValueSet/{operation}", body)
    if operation == "$validate-code" and "exclude" in compose:  # which lists nothing
        assert answer.status == 200
        return
    assert (answer.status, answer.code) == (413, "too-costly")


def test_a_concept_has_codings_up_to_a_limit(clinic):
    def asked(count):
        concept = {"coding": [{"system": GENDERS, "code": "male"}] * count}
        given = parameters(url=GENDER)
        given["parameter"].append({"name": "codeableConcept", "valueCodeableConcept": concept})
        return clinic.ask(NOBODYS, "POST", "ValueSet/$validate-code", given)

    assert asked(200).status == 200
    assert (asked(201).status, asked(201).code) == (413, "too-costly")


# --- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"ValueSet/$expand?url={GENDER}&fliter=ma", "`fliter` is no parameter of $expand; did"),
        (f"ValueSet/$validate-code?url={GENDER}&code=male&sytem=x", "`sytem` is no parameter"),
        (f"CodeSystem/$validate-code?url={GENDERS}&code=male&dispaly=x", "did you mean `display`"),
        (f"CodeSystem/$lookup?system={GENDERS}&code=male&displayLanguge=de", "`displayLanguge`"),
        (f"CodeSystem/$subsumes?system={GENDERS}&codeA=male&codeB=male&codeC=x", "`codeC` is no"),
        (f"CodeSystem/$find-matches?system={GENDERS}&zzzz=1", "$find-matches. Leave it away"),
        ("ConceptMap/$translate?code=red&system=urn:x&tarket=urn:y", "did you mean `target`"),
    ],
)
def test_a_parameter_nobody_defines_is_refused_unless_leniency_is_asked_for(clinic, url, said):
    refused = clinic.ask(EVERYBODY, "GET", url)
    (issue,) = refused.json["issue"]
    assert (refused.status, issue["code"]) == (400, "not-supported")
    assert said in issue["diagnostics"]
    lenient = clinic.ask(EVERYBODY, "GET", url, None, [("Prefer", "handling=lenient")])
    without = clinic.ask(EVERYBODY, "GET", url.rpartition("&")[0])
    assert lenient.status == without.status
    assert lenient.status == 200 or "$find-matches" in url  # which a GET cannot ask


def test_a_parameter_of_a_body_is_held_to_the_same(clinic):
    parts = [{"name": "url", "valueUri": GENDER}, {"name": "activeOnli", "valueBoolean": True}]
    body = {"resourceType": "Parameters", "parameter": parts}
    assert clinic.ask(EVERYBODY, "POST", "ValueSet/$expand", body).status == 400
    parts[1] = {"name": "manifest", "valueCanonical": "http://example.org/none"}
    assert clinic.ask(EVERYBODY, "POST", "ValueSet/$expand", body).status == 200
