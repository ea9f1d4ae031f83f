"""What the invariants of profiles may cost: https://hl7.org/fhir/R4/security.html"""

from time import monotonic

import pytest

from conformance.definitions import load
from conformance.outcome import FhirError
from conformance.packages import Packages
from conformance.patience import within
from conformance.profiles import Profiles
from tests.conformance.listed_codes import ListedCodes
from tests.conformance.small import OWN, Library, profile, slicing

PERSON = {"resourceType": "Patient", "name": [{"given": [f"n{each}" for each in range(400)]}]}
FAIR = "name.given.all($this in %resource.name.given)"
NESTED = (
    "name.given.all(%resource.name.given.all(%resource.name.given.all("
    "%resource.name.given.exists($this = 'zz').not())))"
)
HOSTILE = [
    "name.given.aggregate($total & $total & 'aaaaaaaa', 'a').length() > 0",
    "name.given.aggregate($total + $total, 'a').length() > 0",
    "name.given.aggregate($total.combine($total), 1 | 2).count() > 0",
    "name.given.aggregate($total.replace('a', 'aaaaaaaa'), 'a').length() > 0",
    "name.given.aggregate(($total | 'b').join($total.first()), 'aaaa').length() > 0",
    "(1 | 2 | 3).repeat($this + 1).count() > 0",
    "name.given.select(%resource.descendants()).select(%resource.descendants()).count() > 0",
    "name.given.select(%resource).distinct().count() > 0 and " + NESTED,
    NESTED,
]


def known(*expressions):
    asked = [
        {"key": f"own-{n}", "severity": "error", "human": f"Rule {n}", "expression": each}
        for n, each in enumerate(expressions)
    ]
    library = Library(profile("mine", "Patient", ("Patient", {"constraint": asked})))
    return Profiles(load(), library, ListedCodes(Packages()))


def issues(*expressions):
    found = known(*expressions).validate(PERSON, [OWN + "mine"])
    return [(each.severity, each.code, each.key) for each in found if each.key != "dom-6"]


@pytest.mark.parametrize("expression", HOSTILE)
def test_an_invariant_that_costs_too_much_is_told_as_not_checked(expression):
    begun = monotonic()
    told = issues(expression, FAIR, "name.empty()")
    assert told == [("error", "invariant", "own-2"), ("warning", "too-costly", "own-0")]
    assert monotonic() - begun < 20


def test_the_invariants_of_one_validation_share_what_they_may_cost():
    begun = monotonic()
    told = issues(*[f"{NESTED} or {n} = 0" for n in range(1, 61)])
    assert [each[:2] for each in told] == [("warning", "too-costly")] * 60
    assert monotonic() - begun < 30


def extensions(depth):
    inner = {"extension": [extensions(depth - 1)]} if depth else {"valueString": "x"}
    return {"url": "u", **inner}


def doubling(levels):
    """Each profile of an extension slices those inside into two of the next level."""
    for level in range(levels):
        parts = [
            (
                f"Extension.extension:{name}",
                {"type": [{"code": "Extension", "profile": [f"{OWN}c{level + 1}{name}"]}]},
            )
            for name in "ab"
        ]
        sliced = ("Extension.extension", {"slicing": slicing("profile", "$this")})
        for name in "ab":
            yield profile(f"c{level}{name}", "Extension", sliced, *parts)


def test_profiles_that_double_at_each_level_cost_no_more_than_each_once():
    held = {"type": [{"code": "Extension", "profile": [f"{OWN}c0a"]}]}
    library = Library(*doubling(14), profile("mine", "Patient", ("Patient.extension", held)))
    person = {"resourceType": "Patient", "extension": [extensions(12)]}
    known = Profiles(load(), library, ListedCodes(Packages()))
    found = within(2, lambda: known.validate(person, [OWN + "mine"]))
    assert [(each.code, each.expression) for each in found] == [
        ("extension", "Patient.extension[0]"),
        ("invariant", "Patient"),
    ]


def test_many_slices_of_many_items_end_with_a_warning():
    parts = [
        part
        for n in range(300)
        for part in (
            (f"Patient.identifier:s{n}", {"min": 0}),
            (
                f"Patient.identifier:s{n}.type",
                {"patternCodeableConcept": {"coding": [{"code": f"c{n}"}]}},
            ),
        )
    ]
    sliced = ("Patient.identifier", {"slicing": slicing("value", "type")})
    library = Library(profile("mine", "Patient", sliced, *parts))
    person = {"resourceType": "Patient", "identifier": [{"type": {"coding": [{"code": "z"}]}}] * 9}
    known = Profiles(load(), library, ListedCodes(Packages()))
    costly = ("warning", "too-costly")
    assert costly not in [(e.severity, e.code) for e in known.validate(person, [OWN + "mine"])]
    person["identifier"] *= 500
    assert costly in [(e.severity, e.code) for e in known.validate(person, [OWN + "mine"])]


def test_the_time_of_a_validation_ends_its_invariants():
    many = known(*[f"{NESTED} or {n} = 0" for n in range(1, 31)])
    with pytest.raises(FhirError, match=r"more than 0\.2 seconds"):
        within(0.2, lambda: many.validate(PERSON, [OWN + "mine"]))
