"""What is sent along, stored or taken back again can neither change what others are answered, nor
stop the server, nor break it by its shape."""

import json
from threading import current_thread

import pytest

from fhir_server import vocabulary
from fhir_server.apart import Apart
from tests.security.clinic import EVERYBODY, Clinic, grant
from tests.security.test_terminology import GENDER, GENDERS, SYSTEM, code_system, sent, value_set

NOBODYS = grant("patient/Observation.rs", patient="a")
WRITER = grant("user/ValueSet.cruds user/Observation.cruds user/CodeSystem.rs", reach=None)
LINKS = "http://hl7.org/fhir/ValueSet/link-type"
MALE = {"system": GENDERS, "concept": [{"code": "male"}]}
FEMALE = {"system": GENDERS, "concept": [{"code": "female"}]}


def codes(answer):
    return [each["code"] for each in answer.json["expansion"].get("contains", ())]


@pytest.mark.parametrize("version", ["4.0.1", None], ids=["its version", "no version"])
def test_a_value_set_that_calls_itself_a_bundled_one_is_that_to_nobody_else(clinic, version):
    more = {} if version is None else {"version": version}
    before = codes(clinic.ask(NOBODYS, "GET", f"ValueSet/$expand?url={LINKS}"))
    assert "seealso" in before
    clinic.put(value_set("evil", LINKS, MALE, **more))
    assert clinic.ask(WRITER, "GET", "Observation?code:in=ValueSet/evil").status == 200
    assert codes(clinic.ask(WRITER, "GET", "ValueSet/evil/$expand")) == ["male"]
    body = sent("valueSet", value_set("own", LINKS, MALE, **more))
    assert codes(clinic.ask(NOBODYS, "POST", "ValueSet/$expand", body)) == ["male"]
    assert clinic.ask(WRITER, "DELETE", "ValueSet/evil").status == 204
    for caller in (NOBODYS, WRITER, EVERYBODY):
        assert codes(clinic.ask(caller, "GET", f"ValueSet/$expand?url={LINKS}")) == before
        url = f"ValueSet/$validate-code?url={LINKS}&system={GENDERS}&code=male"
        assert clinic.ask(caller, "GET", url).json["parameter"][0]["valueBoolean"] is False


def test_what_a_transaction_took_back_answers_nobody(clinic):
    def entry(method, url, resource=None):
        made = {"request": {"method": method, "url": url}}
        return made if resource is None else {**made, "resource": resource}

    url = "http://clinic.example/back"
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            entry("PUT", "ValueSet/back", value_set("back", url, MALE)),
            entry("GET", "ValueSet/back/$expand"),
            entry("GET", f"ValueSet/$expand?url={url}"),
            entry("GET", "Patient/none"),
        ],
    }
    assert clinic.ask(EVERYBODY, "POST", "", bundle).status == 404
    assert clinic.ask(EVERYBODY, "GET", "ValueSet/back").status == 404
    clinic.put(value_set("back", url, FEMALE))
    for asked in ("ValueSet/back/$expand", f"ValueSet/$expand?url={url}"):
        assert codes(clinic.ask(EVERYBODY, "GET", asked)) == ["female"]


def test_a_profile_that_a_transaction_took_back_holds_nobody(clinic):
    def profile(element):
        return {
            "resourceType": "StructureDefinition",
            "id": "rb",
            "url": "http://clinic.example/rb",
            "name": "Rb",
            "status": "active",
            "kind": "resource",
            "abstract": False,
            "type": "Patient",
            "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
            "derivation": "constraint",
            "differential": {"element": [{"id": element, "path": element, "min": 1}]},
        }

    asked = "Patient/$validate?profile=http://clinic.example/rb"
    patient = {"resourceType": "Patient"}
    steps = [
        ("PUT", "StructureDefinition/rb", profile("Patient.name")),
        ("POST", asked, patient),
        ("GET", "Patient/none", None),
    ]
    entries = [
        {"request": {"method": method, "url": url}, **({"resource": one} if one else {})}
        for method, url, one in steps
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert clinic.ask(EVERYBODY, "POST", "", bundle).status >= 400
    clinic.put(profile("Patient.gender"))
    told = clinic.ask(EVERYBODY, "POST", asked, patient).body.decode()
    assert "Patient.gender" in told
    assert "Patient.name" not in told


BROKEN = [
    {"compose": "x"},
    {"compose": {"include": "x"}},
    {"compose": {"include": ["x"]}},
    {"compose": {"include": [{"system": 5}]}},
    {"compose": {"include": [{"system": SYSTEM, "concept": [{"code": ["a"]}]}]}},
    {"compose": {"include": [{"valueSet": [5]}]}},
    {"compose": {"include": None}},
    {"expansion": {"contains": [[]]}, "compose": {}},
    {"extension": [5]},
    {"language": {}},
    {"contained": [None]},
    {"contained": [{"resourceType": "ValueSet", "compose": []}]},
]


@pytest.mark.parametrize("broken", BROKEN, ids=[json.dumps(each) for each in BROKEN])
def test_a_value_set_of_another_shape_is_refused(clinic, broken):
    made = {**value_set("x", "http://x.example/x"), **broken}
    for name, given in (("valueSet", {}), ("tx-resource", {"url": made["url"]})):
        body = sent(name, made, **given)
        for operation in ("$expand", "$validate-code"):
            answer = clinic.ask(NOBODYS, "POST", f"ValueSet/{operation}", body)
            assert (answer.status, answer.code) == (400, "structure")
    assert clinic.ask(NOBODYS, "POST", "ValueSet/$expand", made).status == 400


def test_one_validation_of_another_shape_fails_alone(clinic):
    def one(**more):
        given = [{"name": "url", "valueUri": GENDER}, {"name": "system", "valueUri": GENDERS}]
        return {"resourceType": "Parameters", "parameter": [*given, *more.pop("also", ())], **more}

    fair = one(also=[{"name": "code", "valueCode": "male"}])
    broken = [
        one(parameter=5),
        one(parameter=[{"name": ["x"]}]),
        one(also=[{"name": "codeableConcept", "valueCodeableConcept": {"coding": [5]}}]),
        one(also=[{"name": "tx-resource", "resource": {"resourceType": "ValueSet", "url": 1}}]),
        {"resourceType": "Patient"},
    ]
    body = sent("validation", fair, *broken, fair)
    answer = clinic.ask(NOBODYS, "POST", "ValueSet/$batch-validate-code", body)
    assert answer.status == 200
    made = [each["resource"] for each in answer.json["parameter"]]
    kinds = [each["resourceType"] for each in made]
    assert kinds == ["Parameters", *["OperationOutcome"] * len(broken), "Parameters"]
    assert made[0] == made[-1]
    assert made[0]["parameter"][0] == {"name": "result", "valueBoolean": True}


def chain(count, *, circle=False, **more):
    """A code system in which each code is below the one before it, by its property."""
    above = {n: f"c{n - 1}" for n in range(1, count)} | ({0: f"c{count - 1}"} if circle else {})
    concepts = [
        {"code": f"c{n}", "property": [{"code": "parent", "valueCode": above[n]}]}
        if n in above
        else {"code": f"c{n}"}
        for n in range(count)
    ]
    return code_system(url="http://x.example/chain", concept=concepts, **more)


@pytest.mark.parametrize("circle", [True, False], ids=["a circle", "a chain"])
def test_a_long_hierarchy_is_expanded_in_linear_time(clinic, circle):
    filtered = {"property": "concept", "op": "is-a", "value": "c0"}
    made = value_set(
        "x", "http://x.example/x", {"system": "http://x.example/chain", "filter": [filtered]}
    )
    body = sent("tx-resource", chain(9_999, circle=circle), made, url=made["url"])
    answer = clinic.ask(NOBODYS, "POST", "ValueSet/$expand", body)
    assert answer.json["expansion"]["total"] == 9_999
    assert answer.json["expansion"]["contains"][0]["code"] == "c0"


def test_a_body_of_many_parameters_of_one_name_is_refused_soon(clinic):
    body = {"resourceType": "Parameters", "parameter": [{"name": "url", "valueUri": "x"}] * 200_000}
    answer = clinic.ask(NOBODYS, "POST", "ValueSet/$expand", body)
    assert 400 <= answer.status < 500


def test_maps_that_hand_on_to_each_other_end(clinic):
    unmapped = {"mode": "other-map", "url": "http://x.example/m"}
    groups = [{"source": SYSTEM, "target": GENDERS, "element": [], "unmapped": unmapped}] * 40
    map = {"resourceType": "ConceptMap", "url": "http://x.example/m", "group": groups}
    body = sent("tx-resource", map, url="http://x.example/m", system=SYSTEM, code="red")
    answer = clinic.ask(NOBODYS, "POST", "ConceptMap/$translate", body)
    assert (answer.status, answer.code) == (413, "too-costly")


def test_a_work_that_takes_too_long_ends_and_says_so(clinic, runner):
    hasty = Clinic(clinic.store, runner, apart=Apart(seconds=0.0))
    answer = hasty.ask(
        NOBODYS, "GET", "ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/currencies"
    )
    assert (answer.status, answer.code) == (413, "too-costly")
    assert clinic.ask(NOBODYS, "GET", f"ValueSet/$expand?url={GENDER}").status == 200


def wide(id, bytes, **more):
    described = {**MALE["concept"][0], "designation": [{"value": "d" * bytes}]}
    made = {"system": GENDERS, "concept": [described]}
    return value_set(id, "http://clinic.example/wide", made, version=id, **more)


WIDE = "url=http://clinic.example/wide"
WIDELY = [
    f"ValueSet/$expand?{WIDE}",
    f"ValueSet/$validate-code?{WIDE}&system={GENDERS}&code=male",
    "Observation?code:in=http://clinic.example/wide",
    "Observation?code:in=ValueSet/w0,ValueSet/w1,ValueSet/w2",
]


@pytest.mark.parametrize("asked", WIDELY)
def test_a_question_draws_in_so_many_bytes_and_no_more(clinic, monkeypatch, asked):
    clinic.put(*[wide(f"w{n}", 100_000) for n in range(3)])
    clinic.put(value_set("narrow", "http://clinic.example/narrow", MALE))
    assert clinic.ask(EVERYBODY, "GET", asked).status == 200
    monkeypatch.setattr("fhir_server.drawing._HEAVIEST", 250_000)
    answer = clinic.ask(EVERYBODY, "GET", asked)
    assert (answer.status, answer.code) == (422, "too-costly")
    assert "stored resources" in answer.json["issue"][0]["diagnostics"]
    fair = clinic.ask(EVERYBODY, "GET", "ValueSet/$expand?url=http://clinic.example/narrow")
    assert codes(fair) == ["male"]


def test_a_question_draws_in_page_after_page_up_to_so_many_resources(clinic, monkeypatch):
    url = "http://clinic.example/many"
    clinic.put(*[value_set(f"many{n}", url, MALE, version=f"{n}") for n in range(9)])
    clinic.put(value_set("many9", url, FEMALE, version="9"))
    asked = f"ValueSet/$expand?url={url}"
    monkeypatch.setattr("fhir_server.terminologies._STORED", 10)
    assert codes(clinic.ask(EVERYBODY, "GET", asked)) == ["female"]
    monkeypatch.setattr("fhir_server.terminologies._STORED", 9)
    answer = clinic.ask(EVERYBODY, "GET", asked)
    assert (answer.status, answer.code) == (422, "too-costly")


@pytest.mark.parametrize("asked", [*WIDELY[:3], "Observation?code:in=ValueSet/w9"])
def test_what_is_large_is_read_where_nobody_waits_for_it(clinic, monkeypatch, asked):
    clinic.put(*[wide(f"w{n}", 100) for n in range(3)])
    clinic.put(wide("w9", 300_000))
    read = []
    parse = vocabulary.parse

    def watched(body):
        read.append((len(body) > 300_000, current_thread().name.startswith("apart")))
        return parse(body)

    monkeypatch.setattr(vocabulary, "parse", watched)
    clinic.server.core.guides.current.vocabulary._parsed._kept.clear()
    assert clinic.ask(EVERYBODY, "GET", asked).status == 200
    assert [apart for large, apart in read if large] == [True]
