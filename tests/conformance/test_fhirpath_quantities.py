"""Sums, differences and equivalence of quantities: http://hl7.org/fhirpath/N1/#math"""

import pytest

from conformance.definitions import load
from conformance.fhirpath import Environment, compile_expression
from conformance.fhirpath.items import plain
from terminology import ucum

DEFINITIONS = load()
PATIENT = {"resourceType": "Patient"}


class Host:
    units = ucum


def ask(expression, host=None):
    run = compile_expression(expression, "Patient", DEFINITIONS)
    return [str(plain(each)[1]) for each in run(PATIENT, Environment(PATIENT, PATIENT, host))]


@pytest.mark.parametrize("host", [None, Host()])
@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("0 'h' + 30 'min'", "30 'min'"),
        ("30 'min' + 0 'h'", "30 'min'"),
        ("1 'h' + 30 'min'", "90 'min'"),
        ("30 'min' + 1 'h'", "90 'min'"),
        ("0 'mg' + 4 'g'", "4000 'mg'"),
        ("0 'mg' - 4 'g'", "-4000 'mg'"),
        ("4 'g' - 0 'mg'", "4000 'mg'"),
        ("0 'g' - 4 'mg'", "-4 'mg'"),
        ("4 'mg' + 4 'g'", "4004 'mg'"),
        ("4 'g' + 4 'mg'", "4004 'mg'"),
        ("3 'm' + 3 'cm'", "303 'cm'"),
        ("3 'cm' + 3 'm'", "303 'cm'"),
        ("1 year + 1 month", "13 months"),
        ("1 day + 2 'h'", "26 'h'"),
        ("1.5 'cm' + 2 'cm'", "3.5 'cm'"),
    ],
)
def test_a_sum_of_quantities_is_in_the_more_granular_unit(expression, answer, host):
    assert ask(expression, host) == [answer]


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("1 'L' + 0 'mL'", "1000 'mL'"),
        ("0 'mL' - 1 'L'", "-1000 'mL'"),
        ("1 '[lb_av]' + 1 '[oz_av]'", "17 '[oz_av]'"),
        ("1 'L' + 1 'dm3'", "2 'L'"),
        ("20 'Cel' + 1 'Cel'", "21 'Cel'"),
    ],
)
def test_other_units_are_added_by_ucum(expression, answer):
    assert ask(expression, Host()) == [answer]


@pytest.mark.parametrize(
    "expression",
    [
        "1 'mg' + 1 'm'",
        "0 'Cel' + 1 'K'",
        "1 'K' - 0 'Cel'",
        "0 year + 1 'a'",
        "1 'mo' - 0 months",
        "1 '[pH]' + 1 'mol/L'",
    ],
)
def test_what_has_no_common_scale_has_no_sum(expression):
    assert ask(expression, Host()) == []


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("1 year ~ 1 'a'", "True"),
        ("1 'a' ~ 1 year", "True"),
        ("2 months ~ 2 'mo'", "True"),
        ("1 year ~ 1 year", "True"),
        ("1 day ~ 24 hours", "True"),
        ("1 year ~ 2 'a'", "False"),
        ("1 year ~ 1 'mo'", "False"),
        ("1 year ~ 1 'g'", "False"),
    ],
)
@pytest.mark.parametrize("host", [None, Host()])
def test_a_calendar_duration_is_equivalent_to_the_definite_one(expression, answer, host):
    assert ask(expression, host) == [answer]


def test_a_calendar_year_is_not_told_equal_to_a_definite_one():
    assert ask("1 year = 1 'a'", Host()) == []


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("2147483646 + 1", ["2147483647"]),
        ("2147483647 + 1", []),
        ("-2147483647 - 1", ["-2147483648"]),
        ("-2147483647 - 2", []),
        ("65536 * 32767", ["2147418112"]),
        ("65536 * 32768", []),
        ("2147483647.0 + 1", ["2147483648.0"]),
    ],
)
def test_an_integer_that_overflows_is_empty(expression, answer):
    assert ask(expression) == answer
