"""Answers to the questions of a Questionnaire: each fault beside the fair case, and the whole list
of issues."""

import pytest
from hypothesis import given, settings

from conformance import questionnaires
from conformance.definitions import load
from conformance.outcome import Issue
from terminology import ucum
from tests.conformance.forms import (
    A0,
    CONTAINED,
    GENDER,
    GENDERS,
    INVARIANT,
    NOT_OFFERED,
    ONCE,
    RED,
    SDC,
    TWICE,
    UCUM,
    answered,
    asked,
    check,
    coding,
    form,
    group,
    quantity,
    response,
    terminology,
    when,
)
from tests.conformance.mutants import mutants

# What a question allows: the item of the form, an answer that is fair, one that is not, and what is
# said of it.
QUESTIONS = {
    "boolean": (asked("a", "boolean"), {"valueBoolean": False}, {"valueString": "x"}, INVARIANT),
    "decimal": (asked("a", "decimal"), {"valueDecimal": 1.5}, {"valueInteger": 1}, INVARIANT),
    "integer": (asked("a", "integer"), {"valueInteger": 1}, {"valueDecimal": 1.5}, INVARIANT),
    "date": (asked("a", "date"), {"valueDate": "2020"}, {"valueDateTime": "2020"}, INVARIANT),
    "dateTime": (asked("a", "dateTime"), {"valueDateTime": "2020"}, {"valueDate": "1"}, INVARIANT),
    "time": (asked("a", "time"), {"valueTime": "10:00:00"}, {"valueString": "1"}, INVARIANT),
    "text": (asked("a", "text"), {"valueString": "a\nb"}, {"valueBoolean": True}, INVARIANT),
    "url": (asked("a", "url"), {"valueUri": "urn:x"}, {"valueUrl": "urn:x"}, INVARIANT),
    "one line": (
        asked("a"),
        "one line",
        "two\nlines",
        [("warning", "invariant", f"{A0}.value")],
    ),
    "max length": (asked("a", maxLength=3), "abc", "abcd", INVARIANT),
    "min length": (
        asked("a", extension=[("minLength", {"valueInteger": 3})]),
        "abc",
        "ab",
        INVARIANT,
    ),
    "regex": (
        asked("a", extension=[("regex", {"valueString": "[0-9]{3}"})]),
        "123",
        "1234",
        INVARIANT,
    ),
    "regex that is none": (
        asked("a", extension=[("regex", {"valueString": "("})]),
        {"extension": [], "_valueString": {"id": "x"}},
        "x",
        [("warning", "not-supported", f"{A0}.value")],
    ),
    "min integer": (
        asked("a", "integer", extension=[("minValue", {"valueInteger": 5})]),
        {"valueInteger": 5},
        {"valueInteger": 4},
        INVARIANT,
    ),
    "max decimal": (
        asked("a", "decimal", extension=[("maxValue", {"valueDecimal": 5})]),
        {"valueDecimal": 5.0},
        {"valueDecimal": 5.1},
        INVARIANT,
    ),
    "max date": (
        asked("a", "date", extension=[("maxValue", {"valueDate": "2020-06"})]),
        {"valueDate": "2020-06"},
        {"valueDate": "2020-06-30"},
        INVARIANT,
    ),
    "max time of another zone": (
        asked("a", "dateTime", extension=[("maxValue", {"valueDateTime": "2020-01-02T00:00:00Z"})]),
        {"valueDateTime": "2020-01-02T01:00:00+02:00"},
        {"valueDateTime": "2020-01-01T23:00:00-05:00"},
        INVARIANT,
    ),
    "decimal places": (
        asked("a", "decimal", extension=[("maxDecimalPlaces", {"valueInteger": 1})]),
        {"valueDecimal": 1.5},
        {"valueDecimal": 1.25},
        INVARIANT,
    ),
    "size": (
        asked("a", "attachment", extension=[("maxSize", {"valueDecimal": 3})]),
        {"valueAttachment": {"data": "YWJj"}},
        {"valueAttachment": {"data": "YWJjZA=="}},
        [("error", "required", A0)],
    ),
    "media type": (
        asked("a", "attachment", extension=[("mimeType", {"valueCode": "image/png"})]),
        {"valueAttachment": {"contentType": "image/png"}},
        {"valueAttachment": {"contentType": "image/gif"}},
        INVARIANT,
    ),
    "target": (
        asked(
            "a",
            "reference",
            extension=[("questionnaire-referenceResource", {"valueCode": "Patient"})],
        ),
        {"valueReference": {"reference": "Patient/1/_history/2"}},
        {"valueReference": {"reference": "https://example.org/fhir/Device/1"}},
        INVARIANT,
    ),
    "type of a target": (
        asked("a", "reference"),
        {"valueReference": {"reference": "https://example.org/any/thing"}},
        {"valueReference": {"reference": "Chicken/1"}},
        INVARIANT,
    ),
    "unit": (
        asked("a", "quantity", extension=[("questionnaire-unitOption", coding("kg", UCUM))]),
        quantity(1),
        quantity(1, "g"),
        INVARIANT,
    ),
    "min quantity": (
        asked("a", "quantity", extension=[(f"{SDC}minQuantity", quantity(1))]),
        quantity(1000, "g"),
        quantity(999, "g"),
        INVARIANT,
    ),
    "max quantity of another kind": (
        asked("a", "quantity", extension=[(f"{SDC}maxQuantity", quantity(1))]),
        {"valueQuantity": {"value": 5, "comparator": "<", "unit": "stone"}},
        quantity(1, "m"),
        INVARIANT,
    ),
    "choice of codings": (
        asked("a", "choice", answerOption=RED),
        coding("red", display="Red"),
        coding("red", "http://example.org/others"),
        NOT_OFFERED,
    ),
    "choice of texts": (
        asked("a", "choice", answerOption=[{"valueString": "x"}]),
        "x",
        "y",
        NOT_OFFERED,
    ),
    "choice of integers": (
        asked("a", "choice", answerOption=[{"valueInteger": 1}]),
        {"valueInteger": 1},
        {"valueInteger": 2},
        NOT_OFFERED,
    ),
    "choice of dates": (
        asked("a", "choice", answerOption=[{"valueDate": "2020"}]),
        {"valueDate": "2020"},
        {"valueDate": "2021"},
        NOT_OFFERED,
    ),
    "choice of times": (
        asked("a", "choice", answerOption=[{"valueTime": "10:00:00"}]),
        {"valueTime": "10:00:00"},
        {"valueTime": "11:00:00"},
        NOT_OFFERED,
    ),
    "choice of references": (
        asked("a", "choice", answerOption=[{"valueReference": {"reference": "Device/1"}}]),
        {"valueReference": {"reference": "Device/1", "display": "x"}},
        {"valueReference": {"reference": "Device/2"}},
        NOT_OFFERED,
    ),
    "choice of another type": (
        asked("a", "choice", answerOption=RED),
        coding("none"),
        "red",
        INVARIANT,
    ),
    "open choice": (
        asked("a", "open-choice", answerOption=RED),
        "my own",
        coding("blue"),
        NOT_OFFERED,
    ),
    "choice of several types": (
        asked("a", "choice", answerOption=[{"valueDate": "2020"}, {"valueInteger": 3}]),
        {"valueInteger": 3},
        {"valueTime": "10:00:00"},
        INVARIANT,
    ),
    "value set": (
        asked("a", "choice", answerValueSet=GENDERS),
        coding("female", GENDER),
        coding("femail", GENDER),
        [("error", "code-invalid", A0)],
    ),
    "coding without a system": (
        asked("a", "choice", answerValueSet=GENDERS),
        coding("male", GENDER),
        {"valueCoding": {"code": "male"}},
        [("error", "code-invalid", A0)],
    ),
    "value set that is unknown": (
        asked("a", "open-choice", answerValueSet="http://example.org/unknown"),
        "my own",
        coding("red"),
        [("warning", "code-invalid", A0)],
    ),
    "set of units": (
        asked(
            "a", "quantity", extension=[("questionnaire-unitValueSet", {"valueCanonical": "#u"})]
        ),
        quantity(1, "kg"),
        quantity(1, "g"),
        INVARIANT,
    ),
    "contained value set": (
        asked("a", "choice", answerValueSet="#c"),
        coding("red"),
        coding("blue"),
        [("error", "code-invalid", A0)],
    ),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_answer_is_what_its_question_allows(name):
    item, fair, fault, said = QUESTIONS[name]
    questionnaire = form(item, contained=CONTAINED)
    assert check(questionnaire, response(answered("a", fair))) == []
    assert check(questionnaire, response(answered("a", fault))) == said


EVERYTHING = form(
    *({**each[0], "linkId": f"a{index}"} for index, each in enumerate(QUESTIONS.values())),
    asked("g", "group", asked("h", required=True), repeats=True, extension=[ONCE, TWICE]),
    asked("b", **when("a0", "=", "any", answerBoolean=True)),
    asked("c", **when("a3", ">", answerDate="2020")),
    contained=CONTAINED,
    subjectType=["Patient"],
    effectivePeriod={"start": "2020", "end": "2021"},
)
ALL = response(
    *(answered(f"a{index}", each[1]) for index, each in enumerate(QUESTIONS.values())),
    group("g", answered("h", "x")),
    answered("b", {"valueString": "x", "item": [answered("d", "x")]}),
    authored="2020-01-01",
    subject={"reference": "Patient/1"},
)


@settings(max_examples=300, deadline=None)
@given(mutants([ALL, EVERYTHING]))
def test_nothing_that_is_malformed_raises(pair):
    answers, questionnaire = pair
    if isinstance(answers, dict) and isinstance(questionnaire, dict):
        found = questionnaires.check(answers, questionnaire, terminology(), ucum, load().types)
        assert all(isinstance(each, Issue) and each.text for each in found)
        questionnaires.named(answers, {}.get)
