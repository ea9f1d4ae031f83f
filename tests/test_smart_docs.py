"""docs/smart.md names a test for each numbered requirement, and the test is there."""

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
    "": 65,
}
NUMBERS = [f"{kind}{n + 1}" for kind, count in NUMBERED.items() for n in range(count)]
# Negative tests of what this server does not offer: the row says so.
NOT_OFFERED = {"18", "19", "31", "32", "38", "39", "50", "51", "60", "65"}
MARKED = requirements.marked()
ROWS = requirements.rows()


@pytest.mark.parametrize("number", NUMBERS)
def test_a_requirement_has_a_row_and_a_test(number):
    text, tests = ROWS[number]

    assert text
    if number in NOT_OFFERED:
        assert tests.startswith(requirements.NONE) or MARKED[number]
    else:
        assert MARKED[number], f"no test is marked with {number}"


def test_every_mark_names_a_requirement_of_the_page():
    assert sorted(set(MARKED) - set(NUMBERS)) == []


def test_the_page_names_the_tests_that_are_marked():
    assert requirements.PAGE.read_text(encoding="utf-8") == requirements.written(), (
        "run python -m tests.requirements"
    )


def test_a_number_without_a_test_would_be_seen():
    assert requirements.marked().get("D13", []) == []
    with pytest.raises(KeyError):
        ROWS["D13"]
