"""A MeasureReport against its Measure: each fault beside the fair case, and the whole list of
issues."""

from itertools import pairwise

import pytest
from hypothesis import given, settings

from conformance import measures
from conformance.outcome import Issue
from tests.conformance.mutants import mutants

SYSTEM = "http://example.org/codes"
AT = "MeasureReport.group[0]"


def concept(code, system=SYSTEM):
    return {"coding": [{"system": system, "code": code}]}


def group(code=None, *populations, **more):
    made = {"population": [{"code": concept(each)} for each in populations]} if populations else {}
    return {**({"code": concept(code)} if code else {}), **made, **more}


def measure(*groups, scoring="proportion"):
    return {"resourceType": "Measure", "scoring": concept(scoring), "group": list(groups)}


def report(*groups):
    return {"resourceType": "MeasureReport", "group": list(groups)}


def check(said, asked):
    return [(each.severity, each.code, each.expression) for each in measures.check(said, asked)]


SCORE = {"measureScore": {"value": 1}}
TWO = measure(group("a", "numerator"), group("b", "denominator"))
ONE = measure(group("a", "numerator"))

# The measure, a report that is fair, one that is not, and what is said of it.
CASES = {
    "score of a cohort": (
        measure(group("a"), scoring="cohort"),
        report(group("a")),
        report(group("a", **SCORE)),
        [("error", "business-rule", f"{AT}.measureScore")],
    ),
    "group": (
        TWO,
        report(group("b"), group("a", **SCORE)),
        report(group("c")),
        [("error", "business-rule", AT)],
    ),
    "group of another system": (
        TWO,
        report({"code": {"coding": [{"code": "x"}, {"system": SYSTEM, "code": "a"}]}}),
        report({"code": concept("a", "http://example.org/others")}),
        [("error", "business-rule", AT)],
    ),
    "group without a code": (
        ONE,
        report(group()),
        report(group("b")),
        [("error", "business-rule", AT)],
    ),
    "several groups without a code": (
        measure(group()),
        report(group("any")),
        report(group("any"), {"population": 5, "code": 5}),
        [],
    ),
    "population": (
        TWO,
        report(group("a", "numerator")),
        report(group("a", "denominator")),
        [("error", "business-rule", f"{AT}.population[0].code")],
    ),
    "population of the only group": (
        ONE,
        report(group(None, "numerator")),
        report(group(None, "numerator", "other")),
        [("error", "business-rule", f"{AT}.population[1].code")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_report_is_about_what_its_measure_counts(name):
    asked, fair, fault, said = CASES[name]
    assert check(fair, asked) == []
    assert check(fault, asked) == said


@settings(max_examples=100, deadline=None)
@given(mutants([each for case in CASES.values() for each in case[:3]]))
def test_nothing_that_is_malformed_raises(mutated):
    resources = [each for each in mutated if isinstance(each, dict)]
    for one, other in pairwise(resources):
        assert all(isinstance(each, Issue) for each in measures.check(one, other))
        assert all(isinstance(each, Issue) for each in measures.check(other, one))


def test_many_groups_read_the_populations_of_the_measure_once():
    codes = [f"p{n}" for n in range(10_000)]
    asked = measure(group("a", *codes))
    assert check(report(*(group("a", "p9999") for _ in range(10_000))), asked) == []
