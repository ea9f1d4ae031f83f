"""docs/smart.md names a test for each numbered requirement, and the test is there."""

import re

import pytest

from tests import requirements

NUMBERED = {  # how many there are of each kind, and of the negative tests
    "D": 12,
    "A": 12,
    "T": 12,
    "Y": 4,
    "R": 8,
    "I": 3,
    "F": 7,
    "M": 10,
    "G": 6,
    "N": 3,
    "V": 2,
    "BS": 7,
    "U": 5,
    "L": 1,
    "C": 5,
    "S": 9,
    "K": 5,
    "X": 4,
    "P": 4,
    "E": 8,
    "Z": 11,
    "B": 10,
    "UC": 9,
    "": 65,
}
NUMBERS = [f"{kind}{n + 1}" for kind, count in NUMBERED.items() for n in range(count)]
# Negative tests of what this server does not offer: the row says so.
NOT_OFFERED = {"18", "19", "38", "50", "51", "65"}
REMEDY = "mark a test with the number and run python -m tests.requirements"
MARKED = requirements.marked()
ROWS = requirements.rows()


@pytest.mark.parametrize("number", NUMBERS)
def test_a_requirement_has_a_row_and_the_tests_that_it_names(number):
    text, tests = ROWS[number]
    named = re.findall(r"`([^`]+)`", tests)

    assert text
    assert named or (number in NOT_OFFERED and tests.startswith(requirements.NONE)), REMEDY
    assert set(named) <= set(MARKED[number]), f"{number}: a test is gone; {REMEDY}"


def test_every_mark_names_a_requirement_of_the_page():
    assert sorted(set(MARKED) - set(NUMBERS)) == []


def test_only_what_is_not_offered_has_no_test():
    assert {number for number in NUMBERS if not MARKED[number]} <= NOT_OFFERED


def test_a_number_without_a_test_would_be_seen():
    assert "D13" not in ROWS
    assert MARKED["D13"] == []
