"""The terminology service in process: versions, filters, paging, maps, closure, and what it says of
what it does not know."""

import pytest

from conformance.outcome import FhirError
from conformance.packages import Packages
from terminology.asked import Asked
from terminology.catalog import Limits
from terminology.closure import Table
from terminology.service import Terminology

SYSTEM, OTHER = "http://example.org/system", "http://example.org/other"
CORE = Terminology(Packages())


def code_system(version, *concepts, url=SYSTEM, **more):
    return {
        "resourceType": "CodeSystem",
        "url": url,
        "version": version,
        "status": "active",
        "content": "complete",
        "caseSensitive": True,
        "concept": list(concepts),
        **more,
    }


def value_set(url, *include, exclude=(), **more):
    compose = {"include": list(include), "exclude": list(exclude)}
    return {"resourceType": "ValueSet", "url": url, "status": "active", "compose": compose, **more}


def asked(**given):
    return Asked.query((name.replace("_", "-"), str(value)) for name, value in given.items())


def parameters(*parts):
    return Asked.of({"resourceType": "Parameters", "parameter": list(parts)})


def told(answer):
    """Parameters by name, the values of those with one."""
    return {
        each["name"]: next((each[key] for key in each if key.startswith("value")), each)
        for each in answer["parameter"]
    }


def codes(expanded):
    found = []
    for each in expanded["expansion"].get("contains", ()):
        found += [each["code"], *codes({"expansion": each})]
    return found


def refused(act, *given):
    with pytest.raises(FhirError) as error:
        act(*given)
    (issue,) = error.value.issues
    return error.value.status, issue.code, issue.text


OLD = code_system("1.0.0", {"code": "a", "display": "Old a"}, {"code": "gone"})
NEW = code_system("1.1.0", {"code": "a", "display": "New a"}, {"code": "b"})
NEWEST = code_system("1.10.0", {"code": "a", "display": "Newest a"}, {"code": "c"})
ALL = value_set("http://example.org/all", {"system": SYSTEM})
PINNED = value_set("http://example.org/pinned", {"system": SYSTEM, "version": "1.0.0"})
WRITTEN = value_set("http://example.org/written", {"system": f"{SYSTEM}|1.0.0"})
VERSIONED = CORE.having([OLD, NEWEST, NEW, ALL, PINNED, WRITTEN])


@pytest.mark.parametrize(
    ("given", "version", "found"),
    [
        ({"url": ALL["url"]}, "1.10.0", ["a", "c"]),
        ({"url": PINNED["url"]}, "1.0.0", ["a", "gone"]),
        ({"url": WRITTEN["url"]}, "1.0.0", ["a", "gone"]),
        ({"url": ALL["url"], "system_version": f"{SYSTEM}|1.1.0"}, "1.1.0", ["a", "b"]),
        ({"url": PINNED["url"], "system_version": f"{SYSTEM}|1.1.0"}, "1.0.0", ["a", "gone"]),
        ({"url": PINNED["url"], "force_system_version": f"{SYSTEM}|1.1.0"}, "1.1.0", ["a", "b"]),
        ({"url": PINNED["url"], "check_system_version": f"{SYSTEM}|1.x"}, "1.0.0", ["a", "gone"]),
    ],
)
def test_the_version_of_a_code_system_is_forced_named_a_default_or_the_newest(
    given, version, found
):
    answer = VERSIONED.expand(asked(**given))
    assert codes(answer) == found
    used = [each for each in answer["expansion"]["parameter"] if each["name"] == "used-codesystem"]
    assert used == [{"name": "used-codesystem", "valueUri": f"{SYSTEM}|{version}"}]


def test_a_version_that_must_be_and_is_not_is_an_error():
    given = asked(url=PINNED["url"], check_system_version=f"{SYSTEM}|1.1.0")
    assert refused(VERSIONED.expand, given) == (
        422,
        "business-rule",
        f"The version '1.0.0' of the code system '{SYSTEM}' is not allowed: it is required to be"
        " '1.1.0'",
    )


def test_an_unknown_version_is_told_with_those_that_are_known():
    answer = told(VERSIONED.validate_in_system(asked(url=SYSTEM, code="a", version="9")))
    assert answer["result"] is False
    assert answer["x-unknown-system"] == f"{SYSTEM}|9"
    assert answer["message"].endswith("Known versions: 1.10.0, 1.1.0, 1.0.0")


TREE = code_system(
    "1",
    {"code": "A", "display": "Alpha", "concept": [
        {"code": "A1", "display": "Alpha one", "property": [{"code": "weight", "valueInteger": 3}]},
        {"code": "A2", "display": "Alpha two", "concept": [{"code": "A21"}]},
    ]},
    {"code": "B", "display": "Beta alpha"},
    {"code": "C", "display": "Gamma", "property": [{"code": "parent", "valueCode": "A2"}]},
    property=[{"code": "weight", "type": "integer"}],
)  # fmt: skip


@pytest.mark.parametrize(
    ("property", "op", "value", "found"),
    [
        ("concept", "is-a", "A2", ["A2", "A21", "C"]),
        ("concept", "descendent-of", "A", ["A1", "A2", "A21", "C"]),
        ("concept", "is-not-a", "A", ["B"]),
        ("concept", "child-of", "A", ["A1", "A2"]),
        ("concept", "generalizes", "A21", ["A21", "A2", "A"]),
        ("concept", "descendent-leaf", "A", ["A1", "A21", "C"]),
        ("code", "in", "A,C", ["A", "C"]),
        ("code", "not-in", "A,C", ["A1", "A2", "A21", "B"]),
        ("code", "regex", "A[0-9]", ["A1", "A2"]),
        ("weight", "=", "3", ["A1"]),
        ("weight", "exists", "false", ["A", "A2", "A21", "B", "C"]),
        ("parent", "=", "A2", ["A21", "C"]),
        ("display", "=", "Gamma", ["C"]),
    ],
)
def test_a_filter_lets_through(property, op, value, found):
    one = {"property": property, "op": op, "value": value}
    filtered = value_set("http://example.org/f", {"system": SYSTEM, "filter": [one]})
    here = CORE.having([TREE, filtered])
    assert codes(here.expand(asked(url=filtered["url"], excludeNested="true"))) == found
    for code in ("A", "A1", "A2", "A21", "B", "C"):
        assert here.member(filtered["url"], SYSTEM, code) is (code in found)


@pytest.mark.parametrize(
    ("property", "op", "value"),
    [
        ("nothing", "=", "x"),
        ("concept", "is-a", "Z"),
        ("code", "near", "A"),
        ("weight", "is-a", "3"),
    ],
)
def test_a_filter_that_a_code_system_does_not_have_is_an_error(property, op, value):
    one = {"property": property, "op": op, "value": value}
    filtered = value_set("http://example.org/f", {"system": SYSTEM, "filter": [one]})
    here = CORE.having([TREE, filtered])
    status, code, _ = refused(here.expand, asked(url=filtered["url"]))
    assert (status, code) == (422, "invalid")
    assert here.member(filtered["url"], SYSTEM, "A") is None


WHOLE = value_set("http://example.org/tree", {"system": SYSTEM})
HERE = CORE.having([TREE, WHOLE])


@pytest.mark.parametrize(
    ("given", "found", "total"),
    [
        ({}, ["A", "A1", "A2", "A21", "C", "B"], 6),
        ({"count": 2}, ["A", "A1"], 6),
        ({"count": 2, "offset": 4}, ["B", "C"], 6),
        ({"offset": 5}, ["C"], 6),
        ({"offset": 50}, [], 6),
        ({"filter": "alp"}, ["A", "A1", "A2", "B"], 4),
        ({"filter": "two alpha"}, ["A2"], 1),
        ({"filter": "alpha"}, ["A", "A1", "A2", "B"], 4),
        ({"filter": "ALPHA", "count": 1, "offset": 3}, ["B"], 4),
        ({"filter": "lpha"}, [], 0),
        ({"exclude_system": SYSTEM}, [], 0),
        ({"exclude_system": f"{SYSTEM}|2"}, ["A", "A1", "A2", "A21", "C", "B"], 6),
    ],
)
def test_an_expansion_is_filtered_and_paged(given, found, total):
    answer = HERE.expand(asked(url=WHOLE["url"], **given))
    assert (codes(answer), answer["expansion"]["total"]) == (found, total)


def test_an_expansion_nests_by_every_way_that_a_system_tells_parents():
    (a, b) = HERE.expand(asked(url=WHOLE["url"]))["expansion"]["contains"]
    assert [each["code"] for each in a["contains"]] == ["A1", "A2"]
    assert [each["code"] for each in a["contains"][1]["contains"]] == ["A21", "C"]
    assert "contains" not in b


def test_codes_that_are_above_each_other_are_listed_once_all_the_same():
    circle = code_system(
        "1",
        {"code": "x", "property": [{"code": "parent", "valueCode": "y"}]},
        {"code": "y", "property": [{"code": "parent", "valueCode": "x"}]},
    )
    here = CORE.having([circle, WHOLE])
    assert sorted(codes(here.expand(asked(url=WHOLE["url"])))) == ["x", "y"]
    assert here.below(SYSTEM, "x", 10) == {"x", "y"}


def test_an_expansion_has_a_limit_that_pages_keep():
    few = Terminology(Packages(), (), Limits(expansion=5)).having([TREE, WHOLE])
    status, code, text = refused(few.expand, asked(url=WHOLE["url"]))
    assert (status, code) == (413, "too-costly")
    assert "6 codes, and at most 5 are given at once" in text
    assert len(codes(few.expand(asked(url=WHOLE["url"], count=5)))) == 5


def test_excluded_codes_and_unions_count_once():
    made = value_set(
        "http://example.org/u",
        {"system": SYSTEM, "concept": [{"code": "B"}, {"code": "A"}]},
        {"valueSet": [WHOLE["url"]]},
        exclude=[{"system": SYSTEM, "concept": [{"code": "A2"}]}],
    )
    here = CORE.having([TREE, WHOLE, made])
    assert codes(here.expand(asked(url=made["url"]))) == ["B", "A", "A1", "A21", "C"]


@pytest.mark.parametrize(
    ("one", "other", "outcome"),
    [
        ("A", "A21", "subsumes"),
        ("C", "A", "subsumed-by"),
        ("A", "A", "equivalent"),
        ("A1", "A2", "not-subsumed"),
    ],
)
def test_subsumes(one, other, outcome):
    assert told(HERE.subsumes(asked(system=SYSTEM, codeA=one, codeB=other))) == {"outcome": outcome}


def test_a_code_in_the_wrong_case_is_found_unless_case_matters():
    loose = {**TREE, "caseSensitive": False}
    here = CORE.having([loose, WHOLE])
    answer = told(here.validate_code(asked(url=WHOLE["url"], system=SYSTEM, code="a21")))
    assert (answer["result"], answer["code"], answer["normalized-code"]) == (True, "a21", "A21")
    assert here.member(WHOLE["url"], SYSTEM, "a21") is True
    assert HERE.member(WHOLE["url"], SYSTEM, "a21") is False
    strict = told(HERE.validate_code(asked(url=WHOLE["url"], system=SYSTEM, code="a21")))
    assert strict["result"] is False


def test_what_is_not_wholly_here_decides_nothing():
    part = {**TREE, "content": "fragment"}
    none = {**TREE, "content": "not-present", "concept": []}
    listed = value_set(
        "http://example.org/l", {"system": OTHER, "concept": [{"code": "x", "display": "X"}]}
    )
    for resource in (part, none):
        here = CORE.having([resource, WHOLE])
        assert here.member(WHOLE["url"], SYSTEM, "Z") is None
        assert here.known(SYSTEM, "Z") is None
    here = CORE.having([part, WHOLE, listed])
    assert here.member(WHOLE["url"], SYSTEM, "A") is True
    answer = told(here.validate_code(asked(url=WHOLE["url"], system=SYSTEM, code="Z")))
    assert answer["result"] is True
    assert "has only a part of it" in answer["message"].replace("this server", "")
    assert here.member("http://example.org/absent", SYSTEM, "A") is None
    assert (here.member(listed["url"], OTHER, "x"), here.member(listed["url"], OTHER, "y")) == (
        True,
        False,
    )
    assert codes(here.expand(asked(url=listed["url"]))) == ["x"]


def test_what_a_set_needs_and_nobody_here_has_is_named():
    absent, inner, above = (f"http://example.org/{name}" for name in ("absent", "inner", "above"))
    sets = [
        value_set(inner, {"valueSet": [absent]}, {"system": SYSTEM}),
        value_set(above, {"valueSet": [inner]}, {"system": OTHER, "concept": [{"code": "x"}]}),
    ]
    assert CORE.having(sets).lacking(above) == ((absent,), (SYSTEM,))
    assert CORE.having([*sets, NEW, value_set(absent)]).lacking(above) == ((), ())
    assert CORE.having([*sets, {**NEW, "content": "fragment"}]).lacking(inner) == (
        (absent,),
        (SYSTEM,),
    )
    assert CORE.lacking(absent) == ((absent,), ())


def test_a_bare_code_is_in_a_set_by_whichever_system():
    assert (
        CORE.member("http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1", None, "male")
        is True
    )
    assert (
        CORE.member("http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1", None, "man")
        is False
    )


def test_displays_are_compared_without_case_and_spaces():
    gender = "http://hl7.org/fhir/administrative-gender"
    told = [CORE.display_matches(gender, "male", each) for each in ("Male", " mAle ", "Man")]
    assert told == [True, True, False]
    assert CORE.display_matches(gender, "none", "Male") is None


MAP = {
    "resourceType": "ConceptMap",
    "url": "http://example.org/map",
    "status": "active",
    "group": [
        {
            "source": SYSTEM,
            "target": OTHER,
            "element": [
                {"code": "A", "target": [{"code": "1", "equivalence": "wider"}]},
                {"code": "B", "target": [{"equivalence": "unmatched"}]},
                {
                    "code": "C",
                    "target": [
                        {
                            "code": "3",
                            "equivalence": "equal",
                            "dependsOn": [{"property": "http://example.org/p", "value": "yes"}],
                            "product": [
                                {"property": "http://example.org/q", "system": OTHER, "value": "9"}
                            ],
                        }
                    ],
                },
            ],
            "unmapped": {"mode": "fixed", "code": "0", "display": "Other"},
        }
    ],
}


def translated(**given):
    answer = CORE.having([MAP]).translate(asked(url=MAP["url"], **given))
    found = []
    for each in answer["parameter"]:
        if each["name"] == "match":
            parts = {one["name"]: one for one in each["part"]}
            concept = parts.get("concept", {}).get("valueCoding", {})
            found.append((parts["equivalence"]["valueCode"], concept.get("code")))
    return answer["parameter"][0]["valueBoolean"], found


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"system": SYSTEM, "code": "A"}, (True, [("wider", "1")])),
        ({"system": SYSTEM, "code": "B"}, (False, [("unmatched", None)])),
        ({"system": SYSTEM, "code": "other"}, (True, [("inexact", "0")])),
        ({"system": SYSTEM, "code": "C"}, (True, [("inexact", "0")])),
        ({"system": OTHER, "code": "A"}, (False, [])),
        ({"system": SYSTEM, "code": "A", "targetsystem": SYSTEM}, (False, [])),
        ({"system": OTHER, "code": "1", "reverse": "true"}, (True, [("narrower", "A")])),
    ],
)
def test_a_code_is_translated(given, found):
    assert translated(**given) == found


def test_a_translation_that_depends_on_another_code_needs_it():
    given = parameters(
        {"name": "url", "valueUri": MAP["url"]},
        {"name": "coding", "valueCoding": {"system": SYSTEM, "code": "C"}},
        {"name": "dependency", "part": [
            {"name": "element", "valueUri": "http://example.org/p"},
            {"name": "concept", "valueCodeableConcept": {"coding": [{"code": "yes"}]}},
        ]},
    )  # fmt: skip
    (match,) = [e for e in CORE.having([MAP]).translate(given)["parameter"] if e["name"] == "match"]
    assert [each["name"] for each in match["part"]] == [
        "equivalence",
        "concept",
        "product",
        "source",
    ]


def test_a_lookup_in_a_code_system_that_is_not_here_says_what_to_do():
    assert refused(CORE.lookup, asked(system="http://loinc.org", code="8310-5")) == (
        404,
        "not-found",
        "The CodeSystem 'http://loinc.org' is not here (LOINC is not shipped with Salus): install a"
        " package that has it, or store it",
    )
    _, _, text = refused(CORE.subsumes, asked(system="urn:x", codeA="a", codeB="b"))
    assert text.startswith("The CodeSystem 'urn:x' is not here: install")


def test_matches_have_every_property():
    given = parameters(
        {"name": "system", "valueUri": SYSTEM},
        {
            "name": "property",
            "part": [{"name": "code", "valueCode": "weight"}, {"name": "value", "valueInteger": 3}],
        },
    )
    (match,) = HERE.find_matches(given)["parameter"]
    assert match["part"][0]["valueCoding"]["code"] == "A1"


def test_a_closure_table_grows_and_tells_what_is_new():
    def concept(code):
        return {"name": "concept", "valueCoding": {"system": SYSTEM, "code": code}}

    name = {"name": "name", "valueString": "t"}
    begun, table = HERE.closure(parameters(name), None)
    assert (begun["version"], table) == ("0", Table())
    first, table = HERE.closure(parameters(name, concept("A21"), concept("A")), table)
    assert first["group"][0]["element"] == [
        {"code": "A21", "target": [{"code": "A", "equivalence": "subsumes"}]}
    ]
    second, table = HERE.closure(parameters(name, concept("C"), concept("A")), table)
    assert (second["version"], [each["code"] for each in second["group"][0]["element"]]) == (
        "2",
        ["C"],
    )
    replayed, same = HERE.closure(parameters(name, {"name": "version", "valueString": "0"}), table)
    assert [each["code"] for each in replayed["group"][0]["element"]] == ["A21", "C"]
    assert same is table
    assert refused(HERE.closure, parameters(name, concept("A")), None)[:2] == (404, "not-found")


def test_a_batch_answers_each_in_its_place():
    def one(**given):
        parts = [{"name": name, "valueString": value} for name, value in given.items()]
        return {
            "name": "validation",
            "resource": {"resourceType": "Parameters", "parameter": parts},
        }

    answer = HERE.batch_validate(
        parameters(
            one(url=WHOLE["url"], system=SYSTEM, code="A"),
            one(url=WHOLE["url"], system=SYSTEM, code="Z"),
            one(url="http://example.org/absent", system=SYSTEM, code="A"),
            one(url=SYSTEM, code="B"),
        )
    )
    kinds = [each["resource"]["resourceType"] for each in answer["parameter"]]
    assert kinds == ["Parameters", "Parameters", "OperationOutcome", "Parameters"]
    results = [
        told(each["resource"])["result"]
        for each in answer["parameter"]
        if each["resource"]["resourceType"] == "Parameters"
    ]
    assert results == [True, False, True]


def test_an_overlay_is_seen_by_nobody_else():
    CORE.having([TREE, WHOLE]).expand(asked(url=WHOLE["url"]))
    assert refused(CORE.expand, asked(url=WHOLE["url"]))[:2] == (404, "not-found")
    assert CORE.member(WHOLE["url"], SYSTEM, "A") is None


def test_the_capabilities_name_every_version():
    told = {each["uri"]: each for each in VERSIONED.capabilities()["codeSystem"]}
    versions = told[SYSTEM]["version"]
    assert [each["code"] for each in versions] == ["1.10.0", "1.1.0", "1.0.0"]
    assert [each["isDefault"] for each in versions] == [True, False, False]
    assert "http://hl7.org/fhir/administrative-gender" in told
