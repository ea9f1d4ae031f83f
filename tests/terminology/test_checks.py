"""What the base validator is told of units, currencies, media types and languages."""

from decimal import Decimal

import pytest

from conformance.definitions import load
from conformance.validator import Validator
from terminology.checks import systems
from tests.conformance.examples import examples

KNOWING = Validator(load(), systems())
BASE = Validator(load())
UCUM = "http://unitsofmeasure.org"


def observation(**more):
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, **more}


def told(resource, warnings=True):
    return [
        (each.severity, each.code, each.expression, each.text)
        for each in KNOWING.validate(resource, warnings=warnings)
        if each.code == "code-invalid"
    ]


def test_a_unit_that_is_none_of_ucum_is_advised_against_and_never_refused():
    fair = {"value": Decimal(5), "system": UCUM, "code": "mm[Hg]"}
    assert told(observation(valueQuantity=fair)) == []
    wrong = observation(valueQuantity={**fair, "code": "mmHg"})
    text = "The code of a quantity in UCUM should be a unit of UCUM, such as mm[Hg], Cel or /min"
    assert told(wrong) == [("warning", "code-invalid", "Observation.value", text)]
    assert told(wrong, warnings=False) == []
    elsewhere = {**fair, "system": "http://clinic.example/units", "code": "mmHg"}
    assert told(observation(valueQuantity=elsewhere)) == []


@pytest.mark.parametrize(
    ("type", "fair", "wrong", "kind"),
    [
        ("Age", "mo", "kg", "time, such as a, mo, wk or d"),
        ("Age", "wk", "b", "time, such as a, mo, wk or d"),
    ],
)
def test_the_code_of_an_age_must_be_a_unit_of_time(type, fair, wrong, kind):
    def condition(code):
        age = {"value": Decimal(5), "system": UCUM, "code": code}
        return {
            "resourceType": "Condition",
            "subject": {"reference": "Patient/p"},
            f"onset{type}": age,
        }

    assert told(condition(fair)) == []
    assert told(condition(wrong), warnings=False) == [
        (
            "error",
            "code-invalid",
            "Condition.onset",
            "The code of this quantity must be a unit of time in UCUM, such as a, mo, wk or d",
        )
    ]


def test_the_code_of_a_duration_must_be_a_unit_of_time():
    def encounter(code):
        length = {"value": Decimal(5), "system": UCUM, "code": code}
        return {
            "resourceType": "Encounter",
            "status": "finished",
            "class": {"code": "AMB"},
            "length": length,
        }

    assert told(encounter("min")) == []
    assert [each[:3] for each in told(encounter("m"))] == [
        ("error", "code-invalid", "Encounter.length")
    ]


@pytest.mark.parametrize(
    ("fair", "wrong"), [("USD", "USX"), ("EUR", "eur"), ("DEM", "Euro"), ("XXX", "ZZZ")]
)
def test_a_currency_is_one_of_iso_4217(fair, wrong):
    def invoice(currency):
        return {
            "resourceType": "Invoice",
            "status": "issued",
            "totalGross": {"value": Decimal(5), "currency": currency},
        }

    assert told(invoice(fair)) == []
    assert [each[:3] for each in told(invoice(wrong))] == [
        ("error", "code-invalid", "Invoice.totalGross.currency")
    ]


@pytest.mark.parametrize(
    ("fair", "wrong"), [("en-US", "en-YY"), ("zh-Hant-TW", "chinese"), ("EN", "xx")]
)
def test_a_language_is_a_tag_whose_subtags_are_registered(fair, wrong):
    assert told(observation(language=fair)) == []
    assert [each[:3] for each in told(observation(language=wrong))] == [
        ("error", "code-invalid", "Observation.language")
    ]


@pytest.mark.parametrize(
    ("fair", "wrong"),
    [("text/plain; charset=utf-8", "text"), ("application/dicom; variant=A B/C", "word/doc")],
)
def test_a_media_type_is_one_by_its_grammar(fair, wrong):
    def binary(media_type):
        return {"resourceType": "Binary", "contentType": media_type}

    assert told(binary(fair)) == []
    assert [each[:3] for each in told(binary(wrong))] == [
        ("error", "code-invalid", "Binary.contentType")
    ]


def test_of_the_official_examples_only_an_age_in_barns_is_refused_more_than_before():
    refused = []
    for each in examples():
        before = set(BASE.validate(each, warnings=False))
        refused += [x.expression for x in KNOWING.validate(each, warnings=False) if x not in before]
    assert refused == ["List.contained[5].age"]
