"""JSON comes and goes with every digit; what is no sound JSON is refused in clear words."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.json import encode, parse
from conformance.outcome import FhirError


def refusal(data, **limits):
    with pytest.raises(FhirError) as raised:
        parse(data, **limits)
    (issue,) = raised.value.issues
    assert (raised.value.status, issue.severity, issue.code) == (400, "error", "invalid")
    return issue.text


@pytest.mark.parametrize(
    "number", ["72.50", "1.0", "-1.000E+245", "0.1234567890123456789012345678901", "100", "-0.0"]
)
def test_digits_survive(number):
    data = b'{"value":' + number.encode() + b"}"
    assert encode(parse(data)) == data


def test_a_decimal_is_a_decimal_and_an_integer_an_int():
    assert parse(b'{"a":1.0,"b":1}') == {"a": Decimal("1.0"), "b": 1}
    assert type(parse(b'{"b":1}')["b"]) is int


def test_a_byte_order_mark_is_no_fault():
    assert parse(b'\xef\xbb\xbf{"resourceType":"Patient"}') == {"resourceType": "Patient"}


@pytest.mark.parametrize(
    "data, text",
    [
        (b"", "This is not JSON: it ends too early"),
        (b'{"resourceType":"Patient"', "This is not JSON: it ends too early"),
        (b'{\n  "a": 1,\n  "b": nope\n}', "This is not JSON: the fault is at line 3, column 12"),
        (b'{"a":1,}', "This is not JSON: the fault is at line 1, column 8"),
        (b'{"a":01}', "This is not JSON: the fault is at line 1, column 7"),
        (b'{"a":NaN}', "This is not JSON: the fault is at line 1, column 6"),
        (b'{"a":Infinity}', "This is not JSON: the fault is at line 1, column 6"),
        (b'{"a":1} {}', "This is not JSON: the fault is at line 1, column 10"),
        (b'{"a":"\x00"}', "This is not JSON: the fault is at line 1, column 7"),
        (b"\x00", "This is not JSON: the fault is at line 1, column 1"),
        (b"[]", "A resource is a JSON object: it begins with {"),
        (b'"Patient"', "A resource is a JSON object: it begins with {"),
        (b"null", "A resource is a JSON object: it begins with {"),
        (b'{"a":"\xff"}', "The JSON is not valid UTF-8"),
        (b'{"a":"\\u0000"}', "The character U+0000 may not stand in a string"),
        (b'{"a":' + b"9" * 5000 + b"}", "A whole number has too many digits to be kept"),
        (b'{"a":1.' + b"9" * 5000 + b"}", "A number has more than 1024 characters"),
        (b'{"a":1e999999999999}', "A number is larger or smaller than 10 to the power of 308"),
        (b'{"a":1e-309}', "A number is larger or smaller than 10 to the power of 308"),
        (b'{"a":1e99999999999999999999999}', "A number is too large to be kept"),
        (b'{"a":1,"a":2}', "The property `a` is given twice"),
        (b'{"x":[{"a":1, "a":1}]}', "The property `a` is given twice"),
        (b'{"a b":1,"a b":2}', "A property is given twice"),
        (b'{"a":{"b":1e3},"a":1e3}', "The property `a` is given twice"),
        (b"[" * 100_000, "The JSON is nested too deep"),
    ],
)  # fmt: skip
def test_the_refusal_says_what_is_wrong_and_where(data, text):
    assert refusal(data) == text


def test_depth_is_counted_exactly():
    within = b'{"a":' + b"[" * 63 + b"]" * 63 + b"}"
    beyond = b'{"a":' + b"[" * 64 + b"]" * 64 + b"}"
    assert parse(within)
    assert refusal(beyond) == "The JSON is nested deeper than 64 levels"
    assert refusal(b'{"a":{"b":{}}}', depth=2) == "The JSON is nested deeper than 2 levels"
    assert parse(b'{"a":{"b":{}}}', depth=3)


def test_brackets_in_strings_neither_add_to_the_depth_nor_hide_it():
    assert parse(b'{"a":"' + b"[" * 100 + b'"}', depth=2)
    hidden = b'{"a":"}","b":{"a":"}","b":{"c":"{{"}}}'
    assert refusal(hidden, depth=2) == "The JSON is nested deeper than 2 levels"
    assert parse(rb'{"a":"\"[[[\\","b":"[[["}', depth=2)


def test_an_escaped_backslash_before_u0000_is_text():
    assert parse(rb'{"a":"\\u0000"}') == {"a": r"\u0000"}


def test_white_space_and_escapes_are_no_duplicates():
    assert parse(b'{ "a": {"b": 1e3}, "c": {"b": "\\u00e9:\\":"} }') == {
        "a": {"b": Decimal("1E+3")},
        "c": {"b": 'é:":'},
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text('ab"\\{}[]:é\n'),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('ab":{\\'), inner, max_size=3)
    ),
)


@given(st.dictionaries(st.text('ab"[\\'), json_values, max_size=4), st.booleans())
def test_what_is_written_is_read_again(value, pretty):
    import json

    data = json.dumps(value, indent=2).encode() if pretty else encode(value)
    assert parse(data, depth=200) == value


@given(st.dictionaries(st.text('ab"[\\', min_size=1), json_values, min_size=1, max_size=4))
def test_a_repeated_property_is_always_found(value):
    data = encode(value)
    name = encode(next(iter(value)))
    assert "given twice" in refusal(data[:-1] + b"," + name + b":null}", depth=200)
