"""Units by UCUM: which codes are units, and what a value of one is in another."""

from decimal import Decimal
from xml.etree import ElementTree

import pytest

from terminology import ucum
from terminology.ucum import UnitError
from terminology.ucum.grammar import DEPTH, LENGTH
from terminology.ucum.spelled import _SPELLED, spelled
from terminology.ucum.table import table
from tests.shared import shared

D = Decimal
SUITE = "suites/ucum-functional/UcumFunctionalTests.xml"


def cases(kind):
    root = ElementTree.fromstring(shared(SUITE).read_bytes())
    return [case.attrib for group in root.iter(kind) for case in group]


# --- the published suite -------------------------------------------------------------------------


def test_every_validation_of_the_published_suite_agrees():
    found = cases("validation")
    assert len(found) == 529
    wrong = [
        (case["unit"], ucum.validate(case["unit"]))
        for case in found
        if (ucum.validate(case["unit"]) is None) != (case["valid"] == "true")
    ]
    assert wrong == []


def test_every_conversion_of_the_published_suite_agrees_within_its_rounding():
    found = cases("conversion")
    assert len(found) == 30
    for case in found:
        got = ucum.convert(D(case["value"]), case["srcUnit"], case["dstUnit"])
        assert abs(got - D(case["outcome"])) <= abs(D(case["outcome"])) * D("0.02"), case


def test_every_display_of_the_published_suite_agrees():
    found = cases("displayNameGeneration")
    assert len(found) == 9
    assert [ucum.display(case["unit"]) for case in found] == [case["display"] for case in found]


@pytest.mark.parametrize(
    ("kind", "count", "reckon"),
    [("multiplication", 2, ucum.multiply), ("division", 3, ucum.divide)],
)
def test_every_product_and_quotient_of_the_published_suite_agrees(kind, count, reckon):
    found = cases(kind)
    assert len(found) == count
    for case in found:
        value, unit = reckon((D(case["v1"]), case["u1"]), (D(case["v2"]), case["u2"]))
        expected, key = ucum.canonical(D(case["vRes"]), case["uRes"])
        assert unit == key
        assert abs(value - expected) <= abs(expected) * D("0.03"), case


# --- the table -----------------------------------------------------------------------------------


def test_the_table_is_that_of_the_published_essence():
    known = table()
    assert (known.version, len(known.prefixes), len(known.dimensions)) == ("2.2", 24, 7)
    units = [each for code, each in known.defined.items() if code not in known.dimensions]
    assert len(units) == 305
    assert sum(each.function is not None for each in units) == 21
    assert sum(each.arbitrary for each in units) == 41


def test_every_unit_of_the_table_is_a_measure_and_converts_to_its_canonical_units_and_back():
    for code in table().atoms:
        value, key = ucum.canonical(D("0.75"), code)
        back = ucum.convert(value, key, code)
        assert abs(back - D("0.75")) < D("1e-12"), code


# --- meaning -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "a", "b", "result"),
    [
        ("98.6", "[degF]", "Cel", "37"),
        ("37", "Cel", "[degF]", "98.6"),
        ("37", "Cel", "K", "310.15"),
        ("36500", "mCel", "Cel", "36.500"),
        ("7", "[pH]", "nmol/L", "100"),
        ("100", "%[slope]", "deg", "45"),
        ("100", "[p'diop]", "deg", "45"),
        ("3", "B[W]", "kW", "1"),
        ("60", "dB[SPL]", "mPa", "20"),
        ("10", "bit_s", "1", "1024"),
        ("2", "[hp'_X]", "%", "1"),
        ("3", "[m/s2/Hz^(1/2)]", "m2/s4/Hz", "9"),
        ("1", "[in_i]", "cm", "2.54"),
        ("5.5", "mmol/L", "umol/mL", "5.5"),
        ("12", "[IU]/L", "[iU]/L", "12"),
        ("1", "dam", "m", "10"),
        ("1", "dar", "ar", "0.1"),
        ("1", "Pa", "N/m2", "1"),
        ("1", "PT", "T", "1E+15"),
        ("1", "1/(m.s)", "m-1.s-1", "1"),
        ("1", "mL/min/{1.73_m2}", "mL/min", "1"),
        ("8", "Kibit", "bit", "8192"),
    ],
)
def test_a_value_in_another_unit(value, a, b, result):
    got = ucum.convert(D(value), a, b)
    assert abs(got - D(result)) <= abs(D(result)) * D("1e-14")


def test_ordinary_units_are_exact():
    assert ucum.convert(D("98.6"), "[degF]", "Cel") == D("37")
    assert ucum.convert(D("0.1"), "[lb_av]", "g") == D("45.359237")
    assert ucum.canonical(D("5.50"), "mmol/L") == (D("3312177418000000000000000"), "m-3")
    assert ucum.canonical(D("120"), "mm[Hg]") == (D("15998640"), "m-1.s-2.g")
    assert ucum.canonical(D("1"), "") == (D("1"), "1")
    assert ucum.canonical(D("6"), "(cm).(m)") == (D("0.06"), "m2")
    assert ucum.canonical(D("6"), "mmHg") is None


def test_what_measures_different_things_cannot_be_compared():
    assert ucum.commensurable("mmol/L", "10*3/uL")  # a mole is a number
    assert not ucum.commensurable("mg/dL", "mmol/L")
    assert not ucum.commensurable("[iU]", "[arb'U]")
    assert not ucum.commensurable("rad", "1")
    assert not ucum.commensurable("furlong", "m")
    with pytest.raises(UnitError, match="measure different things"):
        ucum.convert(D(1), "mg/dL", "mmol/L")


def test_a_special_unit_is_a_unit_in_a_product_but_no_measure_there():
    assert ucum.validate("Cel/min") is None
    assert ucum.canonical(D(1), "Cel/min") is None
    with pytest.raises(UnitError, match="scale of its own"):
        ucum.convert(D(1), "Cel/min", "K/min")
    with pytest.raises(UnitError, match="has no products"):
        ucum.multiply((D(1), "Cel"), (D(2), "m"))


def test_a_value_that_the_unit_cannot_have_is_none():
    with pytest.raises(UnitError, match="no such value"):
        ucum.convert(D(0), "mol/L", "[pH]")
    with pytest.raises(UnitError, match="beyond all bounds"):
        ucum.convert(D("-1e9"), "[pH]", "mol/L")
    with pytest.raises(UnitError, match="divided by zero"):
        ucum.divide((D(1), "m"), (D(0), "s"))
    with pytest.raises(UnitError, match="divided by zero"):
        ucum.divide((D(1), "m"), (D(1), "0.s"))


# --- hostile codes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("m." * 100 + "m", f"at most {LENGTH} characters"),
        ("(" * (DEPTH + 1) + "m" + ")" * (DEPTH + 1), f"at most {DEPTH} brackets"),
        ("(" * 99, f"at most {DEPTH} brackets"),
        ("m100", "exponent has at most 2 digits"),
        ("9" * 41, "number in a unit has at most 40 digits"),
        ("(m", "not closed, at character 3"),
        ("m{", "annotation is not closed"),
        ("m{{}}", "annotation is not closed"),
        ("m)", "is not expected"),
        ("m//s", "no beginning of a unit"),
        ("(/m)", "no beginning of a unit"),
        ("m s", "an operator, . or /, is missing"),
        ("µg", "ASCII"),
        ("k[in_i]", "is no unit"),
        ("mmHg", "is no unit"),
    ],
)
def test_a_code_that_is_no_unit_is_told_why_without_being_repeated(code, why):
    assert why in ucum.validate(code)


def test_factors_beyond_all_bounds_are_no_measures():
    huge = ".".join(["10*99"] * 33)
    assert ucum.validate(huge) is None
    assert ucum.canonical(D(1), huge) is None
    assert ucum.canonical(D(1), "[pi]99.[pi]99") is None
    assert ucum.canonical(D(1), "/0") is None


def test_a_usual_spelling_that_is_no_unit_means_one():
    assert [spelled(each) for each in ("mmHg", "CELSIUS", "yr", "MG/DL", "Miller")] == [
        "mm[Hg]",
        "Cel",
        "a",
        "mg/dL",
        None,
    ]
    assert [each for each in _SPELLED if ucum.validate(each) is not None] == []
    texts = [each for written in _SPELLED.values() for each in written.split()]
    assert [each for each in texts if ucum.validate(each) is None] == []
