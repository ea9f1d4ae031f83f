"""Each primitive takes what the standard allows, and nothing beside it."""

from decimal import Decimal

import pytest

from conformance.definitions import load
from conformance.primitives import CHECKS, EXPECTED

RIGHT = {
    "base64Binary": ["aGVsbG8=", "aGVs\n bG8="],
    "boolean": [True, False],
    "canonical": ["http://hl7.org/fhir/ValueSet/x|4.0.1"],
    "code": ["final", "in progress", "<=", "é"],
    "date": ["1905", "1905-08", "1905-08-31", "2024-02-29", "2000-02-29", "0001-01-01", "9999-12-31"],
    "dateTime": ["2024", "2024-02", "2024-02-29", "2024-02-29T23:59:60Z", "2024-02-29T00:00:00.000123+14:00", "1905-08-23T13:28:17-05:00"],
    "decimal": [0, -3, Decimal("72.50"), Decimal("-1.000E+245")],
    "id": ["a", "A-1.b", "x" * 64],
    "instant": ["2015-02-07T13:28:17.239+02:00", "2017-01-01T00:00:00Z"],
    "integer": [0, -(2**31), 2**31 - 1],
    "markdown": ["# A\n\n* b"],
    "oid": ["urn:oid:1.2.3.4.5", "urn:oid:2.16.840.1.113883"],
    "positiveInt": [1, 2**31 - 1],
    "string": ["x", " x ", "a\tb\r\nc", "a b", "𝒳", "x" * 1024 * 1024],
    "time": ["00:00:00", "23:59:60", "12:30:01.25"],
    "unsignedInt": [0, 2**31 - 1],
    "uri": ["urn:oid:1.2", "http://a/b#c", "a"],
    "url": ["http://a/b?c=d"],
    "uuid": ["urn:uuid:c757873d-ec9a-4326-a141-556f43239520"],
}  # fmt: skip
WRONG = {
    "base64Binary": ["", " ", "aGVsbG8", "aGVsbG8==", "aGVsbG8=x", "a%%=", "é==="],
    "boolean": [0, 1, "true"],
    "canonical": ["", "a b"],
    "code": ["", " a", "a ", "a  b", "a\tb"],
    "date": ["", "0000", "19", "1905-13", "1905-00", "1905-02-29", "1900-02-29", "1905-04-31", "1905-8-1", "1905-08-01T00:00:00Z", "٢٠٢٤", "2024\n"],
    "dateTime": ["2024-02-30", "2024-01-01T", "2024-01-01T10", "2024-01-01T10:00", "2024-01-01T10:00Z", "2024-01-01T10:00:00", "2024-01-01T24:00:00Z", "2024-01-01T10:00:61Z", "2024-01-01T10:00:00+14:01", "2024-01T10:00:00Z", "2023-02-29T10:00:00Z"],
    "decimal": ["1", True, 1.5, Decimal("NaN"), Decimal("Infinity")],
    "id": ["", "a_b", "a/b", "x" * 65, "é"],
    "instant": ["2015-02-07", "2015-02-07T13:28:17", "2015-02-07T13:28Z", "2015-02-30T13:28:17Z"],
    "integer": [2**31, -(2**31) - 1, True, Decimal("1.0"), "1"],
    "markdown": ["", " "],
    "oid": ["1.2.3", "urn:oid:3.1", "urn:oid:1.02", "urn:oid:1"],
    "positiveInt": [0, -1, 2**31, True],
    "string": ["", " \t\n", "a\0b", "a\x0bb", "x" * (1024 * 1024 + 1)],
    "time": ["24:00:00", "12:30", "12:30:00Z", "1:00:00"],
    "unsignedInt": [-1, 2**31, False],
    "uri": ["", "a b", " a"],
    "url": ["", "http://a b"],
    "uuid": ["urn:uuid:C757873D-ec9a-4326-a141-556f43239520", "c757873d-ec9a-4326-a141-556f43239520"],
}  # fmt: skip


def test_every_primitive_of_r4_has_a_check_and_words_for_it():
    primitives = {s.name for s in load().structures.values() if s.kind == "primitive-type"}
    assert set(CHECKS) == set(EXPECTED) == primitives - {"xhtml"} == set(RIGHT) == set(WRONG)


@pytest.mark.parametrize("type", sorted(CHECKS))
def test_a_primitive_takes_what_is_right_and_refuses_what_is_wrong(type):
    assert [value for value in RIGHT[type] if not CHECKS[type](value)] == []
    wrong = [*WRONG[type], None, [], {}, [True], ["x"]]
    assert [value for value in wrong if CHECKS[type](value)] == []


def test_checks_take_time_in_proportion_to_the_text():
    assert not CHECKS["base64Binary"]("0000 " * 100_000 + "!")
    assert not CHECKS["code"]("a " * 100_000)
    assert not CHECKS["oid"]("urn:oid:1" + ".1" * 100_000 + ".")
