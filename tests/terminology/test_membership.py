"""Expanding, validating and membership agree with each other and with the plain meaning of a value
set, on generated compositions."""

from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.packages import Packages
from terminology.asked import Asked
from terminology.service import Terminology

ONE, TWO = "http://example.org/one", "http://example.org/two"
BELOW = {"a": {"a", "b", "c", "d"}, "b": {"b", "d"}, "c": {"c"}, "d": {"d"}, "e": {"e"}}
CODES = {ONE: "abcde", TWO: "abx"}
EVERY = {(system, code) for system, codes in CODES.items() for code in codes}
SYSTEMS = [
    {
        "resourceType": "CodeSystem",
        "url": ONE,
        "content": "complete",
        "caseSensitive": True,
        "concept": [
            {"code": "a", "concept": [{"code": "b", "concept": [{"code": "d"}]}, {"code": "c"}]},
            {"code": "e", "property": [{"code": "inactive", "valueBoolean": True}]},
        ],
    },
    {
        "resourceType": "CodeSystem",
        "url": TWO,
        "content": "complete",
        "caseSensitive": True,
        "concept": [{"code": code} for code in CODES[TWO]],
    },
]
INACTIVE = {(ONE, "e")}
CORE = Terminology(Packages())


def _listed(system):
    codes = st.lists(st.sampled_from([*CODES[system], "unknown"]), min_size=1, unique=True)
    return codes.map(lambda made: {"system": system, "concept": [{"code": each} for each in made]})


def _filtered(op):
    return st.sampled_from("abcde").map(
        lambda code: {"system": ONE, "filter": [{"property": "concept", "op": op, "value": code}]}
    )


PART = st.one_of(
    *(_listed(system) for system in CODES),
    *(_filtered(op) for op in ("is-a", "descendent-of", "is-not-a")),
    st.sampled_from([{"system": ONE}, {"system": TWO}]),
)
IMPORTING = st.tuples(PART, st.booleans()).map(
    lambda made: {**(made[0] if made[1] else {}), "valueSet": ["http://example.org/imported"]}
)
PARTS = st.lists(st.one_of(PART, IMPORTING), max_size=3)
COMPOSE = st.fixed_dictionaries(
    {"include": PARTS, "exclude": PARTS}, optional={"inactive": st.booleans()}
)
IMPORTED = st.fixed_dictionaries({"include": st.lists(PART, max_size=2)})


def meaning(compose, imported):
    """The (system, code) of a composition, by the definition."""
    included = set().union(*(_part(each, imported) for each in compose["include"]))
    found = included - set().union(*(_part(each, imported) for each in compose.get("exclude", ())))
    return found - INACTIVE if compose.get("inactive") is False else found


def _part(part, imported):
    found = set(EVERY)
    if "system" in part:
        found = {each for each in found if each[0] == part["system"]}
    if "concept" in part:
        found &= {(part["system"], each["code"]) for each in part["concept"]}
    for each in part.get("filter", ()):
        code, op = each["value"], each["op"]
        below = {(ONE, one) for one in BELOW[code]}
        test = {"is-a": below, "descendent-of": below - {(ONE, code)}, "is-not-a": found - below}
        found &= test[op]
    return found & imported if "valueSet" in part else found


@settings(max_examples=150, deadline=None)
@given(COMPOSE, IMPORTED)
def test_every_question_has_the_answer_that_the_definition_has(compose, imported):
    url = "http://example.org/set"
    sets = [
        {"resourceType": "ValueSet", "url": url, "compose": compose},
        {"resourceType": "ValueSet", "url": "http://example.org/imported", "compose": imported},
    ]
    meant = meaning(compose, meaning(imported, set()))
    here = CORE.having([*SYSTEMS, *sets])
    for nested in ("true", "false"):
        asked = Asked.query([("url", url), ("excludeNested", nested)])
        expansion = here.expand(asked)["expansion"]
        assert sorted(_codes(expansion)) == sorted(meant)
        assert expansion["total"] == len(meant)
    for system, code in [*EVERY, (ONE, "unknown")]:
        inside = (system, code) in meant
        assert here.member(url, system, code) is inside
        asked = Asked.query([("url", url), ("system", system), ("code", code)])
        assert here.validate_code(asked)["parameter"][0]["valueBoolean"] is inside
    assert set(here.members(url, 100)) == meant


def _codes(expansion):
    for each in expansion.get("contains", ()):
        yield each["system"], each["code"]
        yield from _codes(each)
