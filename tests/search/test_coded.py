"""Searches that ask what codes mean: :in, :not-in, :above and :below, held against the plain
meaning of the value set or hierarchy in generated worlds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.outcome import FhirError
from conformance.packages import Packages
from fhir_server.limits import Limits
from terminology.service import Terminology
from tests.search.world import World

ANIMALS, PLANTS = "http://example.org/animals", "http://example.org/plants"
# A hierarchy with two parents of one code, and codes that another system has too.
PARENTS = {
    "animal": [],
    "bird": ["animal"],
    "fish": ["animal"],
    "duck": ["bird"],
    "odd,one|two": ["bird", "fish"],
}
ROSES = ["rose", "duck"]


def _system(url, codes):
    concepts = [
        {"code": code, "property": [{"code": "parent", "valueCode": each} for each in parents]}
        for code, parents in codes.items()
    ]
    return {
        "resourceType": "CodeSystem",
        "url": url,
        "status": "active",
        "content": "complete",
        "caseSensitive": True,
        "hierarchyMeaning": "is-a",
        "concept": concepts,
    }


def _set(url, *includes):
    return {"resourceType": "ValueSet", "url": url, "compose": {"include": list(includes)}}


BIRDS = "http://example.org/birds"
BOTH = "http://example.org/both"
NONE = "http://example.org/none"
KNOWN = Terminology(Packages()).having(
    [
        _system(ANIMALS, PARENTS),
        _system(PLANTS, {code: [] for code in ROSES}),
        _set(
            BIRDS,
            {"system": ANIMALS, "filter": [{"property": "concept", "op": "is-a", "value": "bird"}]},
        ),
        _set(BOTH, {"system": ANIMALS, "concept": [{"code": "fish"}]}, {"system": PLANTS}),
        _set(NONE),
    ]
)
MEANT = {
    BIRDS: {(ANIMALS, "bird"), (ANIMALS, "duck"), (ANIMALS, "odd,one|two")},
    BOTH: {(ANIMALS, "fish"), (PLANTS, "rose"), (PLANTS, "duck")},
    NONE: set(),
}
CODES = [(ANIMALS, code) for code in PARENTS] + [(PLANTS, code) for code in ROSES]
CODES += [(None, "duck"), (ANIMALS, "unknown"), ("http://example.org/other", "bird")]


def below(code):
    """The code and everything with it among its ancestors, by the definition."""
    return {one for one in PARENTS if code in ancestors(one)}


def ancestors(code):
    return {code}.union(*(ancestors(each) for each in PARENTS[code]))


def observation(codings):
    codings = [{"system": s, "code": c} if s else {"code": c} for s, c in codings]
    return {"resourceType": "Observation", "status": "final", "code": {"coding": codings}}


def search(world, url, **changed):
    return world.search(url, vocabulary=KNOWN, **changed)


WORLDS = st.lists(st.lists(st.sampled_from(CODES), max_size=3), max_size=8)


@settings(max_examples=60, deadline=None)
@given(WORLDS, st.lists(st.sampled_from(sorted(MEANT)), min_size=1, max_size=2))
def test_in_finds_what_has_a_code_of_the_sets_and_not_in_all_others(codings, sets):
    world = World(observation(each) for each in codings)
    meant = set().union(*(MEANT[each] for each in sets))
    have = [str(at) for at, each in enumerate(codings) if meant & set(each)]
    rest = [str(at) for at in range(len(codings)) if str(at) not in have]
    assert search(world, ("Observation", [("code:in", ",".join(sets))])) == have
    assert search(world, ("Observation", [("code:not-in", ",".join(sets))])) == rest


@settings(max_examples=60, deadline=None)
@given(WORLDS, st.sampled_from(sorted(PARENTS)))
def test_below_and_above_follow_the_hierarchy(codings, code):
    world = World(observation(each) for each in codings)
    value = f"{ANIMALS}|{code.replace(',', chr(92) + ',').replace('|', chr(92) + '|')}"
    for modifier, meant in (("below", below(code)), ("above", ancestors(code))):
        have = [
            str(at)
            for at, each in enumerate(codings)
            if any(system == ANIMALS and one in meant for system, one in each)
        ]
        assert search(world, ("Observation", [(f"code:{modifier}", value)])) == have


WORLD = World(
    [
        {"resourceType": "Patient", "id": "p"},
        {**observation([(ANIMALS, "duck")]), "id": "o", "subject": {"reference": "Patient/p"}},
        {"resourceType": "Encounter", "id": "e", "subject": {"reference": "Patient/p"}},
        {"resourceType": "Encounter", "id": "f", "subject": {"reference": "Patient/q"}},
    ]
)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        (f"Patient?_has:Observation:subject:code:in={BIRDS}", ["p"]),
        (f"Patient?_has:Observation:subject:code:in={BOTH}", []),
        (f"Patient?_has:Observation:subject:code:below={ANIMALS}|bird", ["p"]),
        (f"Encounter?subject:Patient._has:Observation:subject:code:in={BIRDS}", ["e"]),
    ],
)
def test_the_modifiers_work_in_chains(url, found):
    assert search(WORLD, url) == found


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("Observation?code:in=http://example.org/absent", "not-found"),
        (f"Observation?code:below={ANIMALS}|absent", "code-invalid"),
        ("Observation?code:below=http://example.org/absent|x", "not-found"),
        ("Observation?code:below=bird", "invalid"),
        (f"Observation?code:above={ANIMALS}|", "invalid"),
    ],
)
def test_what_is_unknown_is_refused(url, code):
    with pytest.raises(FhirError) as refused:
        search(WORLD, url)
    assert refused.value.issues[0].code == code


def test_a_set_is_compared_up_to_the_limit():
    url = f"Observation?code:in={BIRDS}"
    assert search(WORLD, url, limits=Limits(value_set=3)) == ["o"]
    for one in (url, f"Observation?code:below={ANIMALS}|animal", f"{url},{BOTH}"):
        most = 5 if BOTH in one else 2
        with pytest.raises(FhirError) as refused:
            search(WORLD, one, limits=Limits(value_set=most))
        assert refused.value.issues[0].code == "too-costly"
