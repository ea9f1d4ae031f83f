"""How values are written: separators, escapes, folding, precision, dates."""

from datetime import UTC
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fhir_server.search import dates, numbers
from fhir_server.search.literals import TEXT, escape, fold, split, unescape
from fhir_server.search.phonetic import soundex

WRITTEN = some.lists(some.text(alphabet="a,|$\\ \n"), min_size=1)


@given(WRITTEN)
def test_escaped_parts_come_back_as_they_were(parts: list[str]) -> None:
    written = "|".join(escape(each).replace(",", "\\,") for each in parts)
    assert [unescape(each) for each in split(written, "|")] == parts
    assert split(written, ",") == [written]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,b", ["a", "b"]),
        (r"a\,b", [r"a\,b"]),
        (r"a\\,b", [r"a\\", "b"]),
        (r"a,b\ ".strip(), ["a", "b\\"]),
        (",", ["", ""]),
        ("", [""]),
    ],
)
def test_only_a_separator_that_is_not_escaped_parts(text: str, parts: list[str]) -> None:
    assert split(text, ",") == parts


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("  María\tLuisa ", "maria luisa"),
        ("STRAẞE", "strasse"),
        ("Łódź", "łodz"),
        ("Ångström", "angstrom"),
        ("ﬁn", "fin"),
        ("", ""),
    ],
)
def test_folding_leaves_letters_without_case_and_accents(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(some.text())
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)


def test_text_is_compared_up_to_its_limit() -> None:
    assert fold("a" * (TEXT + 1)) == fold("a" * TEXT)
    assert fold("a" * (TEXT - 1)) != fold("a" * TEXT)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("5", 4.5, 5.5),
        ("5.00", 4.995, 5.005),
        ("100", 99.5, 100.5),
        ("1e2", 95, 105),
        ("-0.5", -0.55, -0.45),
        ("2e-3", 0.0015, 0.0025),
    ],
)
def test_a_number_is_as_precise_as_its_digits(text: str, low: float, high: float) -> None:
    assert numbers.implied(numbers.asked(text)) == (low, high)


@pytest.mark.parametrize(
    "text",
    [
        "0.30000000000000004", "123456789012345678", "99999999999999999999", "0.1234567890123456789",
        "-0.30000000000000004", "-123456789012345678", "1.7976931348623157e308", "-1.7976931348623157e308",
        "5e-324", "1e-400", "0", "-0.0", "9007199254740993", "1234567890123456789012345678901234567890",
    ],
)  # fmt: skip
def test_a_number_equals_itself_however_many_digits_it_has(text: str) -> None:
    value = numbers.asked(text)
    low, high = numbers.implied(value)
    assert low <= numbers.stored(value) < high


@given(some.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30))
def test_any_number_equals_itself_and_not_the_next_at_its_precision(value: Decimal) -> None:
    low, high = numbers.implied(value)
    exponent = value.as_tuple().exponent
    beyond = value + Decimal(1).scaleb(exponent)
    assert low <= numbers.stored(value) < high
    assert numbers.stored(beyond) >= high or numbers.stored(beyond) <= numbers.above(value)


@pytest.mark.parametrize(
    "text", ["", "five", "1e999", "NaN", "Infinity", "1,5", "0x10", "1" * 65, "٣"]
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a number"):
        numbers.asked(text)


def test_a_number_beyond_the_floats_is_their_end() -> None:
    assert numbers.stored(Decimal("1E+999999999999")) == numbers.GREATEST
    assert numbers.stored(Decimal("-1E+999999999999")) == numbers.LEAST
    assert numbers.stored(10**400) == numbers.GREATEST
    assert numbers.stored(-(10**400)) == numbers.LEAST


SECOND = 1_000_000
NEW_YEAR = 1_577_836_800 * SECOND  # 2020-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2020", NEW_YEAR, NEW_YEAR + 366 * 86_400 * SECOND - 1),
        ("2020-01", NEW_YEAR, NEW_YEAR + 31 * 86_400 * SECOND - 1),
        ("2020-01-01", NEW_YEAR, NEW_YEAR + 86_400 * SECOND - 1),
        ("2020-01-01T00:00Z", NEW_YEAR, NEW_YEAR + 60 * SECOND - 1),
        ("2020-01-01T00:00:00", NEW_YEAR, NEW_YEAR + SECOND - 1),
        ("2020-01-01T00:00:00.5Z", NEW_YEAR + 500_000, NEW_YEAR + 599_999),
        ("2020-01-01T00:00:00.1234565Z", NEW_YEAR + 123_457, NEW_YEAR + 123_456),
        ("2020-01-01T00:00:00.1234560Z", NEW_YEAR + 123_456, NEW_YEAR + 123_456),
        ("2020-01-01T00:00:00-14:00", NEW_YEAR + 50_400 * SECOND, NEW_YEAR + 50_401 * SECOND - 1),
    ],
)
def test_a_date_covers_what_its_precision_leaves_open(text: str, low: int, high: int) -> None:
    assert dates.asked(text, UTC) == (low, high)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2020-01-01T00:00:00.5Z", NEW_YEAR + 500_000, NEW_YEAR + 500_000),
        ("2020-01-01T00:00:00.1234565Z", NEW_YEAR + 123_456, NEW_YEAR + 123_457),
        ("2020-01-01T00:00:00.1234560+00:00", NEW_YEAR + 123_456, NEW_YEAR + 123_456),
        ("2019-12-31T23:59:60Z", NEW_YEAR, NEW_YEAR + SECOND - 1),
    ],
)
def test_a_stored_fraction_of_a_second_is_a_point(text: str, low: int, high: int) -> None:
    assert dates.stored(text, UTC) == (low, high)


def test_every_date_of_fhir_lies_between_the_ends_of_time() -> None:
    assert dates.stored("0001", UTC)[0] > dates.EARLIEST
    assert dates.stored("9999", UTC)[1] < dates.LATEST


@pytest.mark.parametrize(
    "text",
    ["", "20", "2020-13", "2020-00-01", "2020-02-30", "2020-01-01T", "2020-01-01T25:00", "2020-01-01T10:60",
     "2020-01-01T10:00:00.1234567891Z", "2020-01-01T10:00:00+99:00", "2020-01-01 10:00", "2020-W01-1", "٢٠٢٠"],
)  # fmt: skip
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        dates.asked(text, UTC)


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("robert", "R163"),
        ("rupert", "R163"),
        ("ashcraft", "A261"),
        ("tymczak", "T522"),
        ("pfister", "P236"),
        ("lee", "L000"),
        ("李", "李"),
    ],
)
def test_words_that_sound_alike_have_one_code(word: str, code: str) -> None:
    assert soundex(word) == code
