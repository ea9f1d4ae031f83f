"""Questionnaires and responses in short, and what is said of them."""

from functools import cache

from conformance import questionnaires
from conformance.definitions import load
from conformance.json import encode, parse
from conformance.packages import Packages
from terminology import ucum
from terminology.service import Terminology

HL7 = "http://hl7.org/fhir/StructureDefinition/"
SDC = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-"
UCUM = "http://unitsofmeasure.org"
COLORS = "http://example.org/colors"
GENDERS = "http://hl7.org/fhir/ValueSet/administrative-gender"
GENDER = "http://hl7.org/fhir/administrative-gender"
ROOT = "QuestionnaireResponse"
A0 = "QuestionnaireResponse.item[0].answer[0]"


@cache
def terminology():
    return Terminology(Packages())


def form(*items, **more):
    return {"resourceType": "Questionnaire", "status": "active", "item": list(items), **more}


def response(*items, status="completed", **more):
    return {
        "resourceType": "QuestionnaireResponse",
        "questionnaire": "http://example.org/q",
        "status": status,
        "item": list(items),
        **more,
    }


def asked(link, type="string", *items, extension=None, **more):
    """An item of a form; `extension` by name and value."""
    found = {"linkId": link, "type": type, **more}
    if items:
        found["item"] = list(items)
    if extension:
        found["extension"] = [
            {"url": name if ":" in name else HL7 + name, **value} for name, value in extension
        ]
    return found


def answered(link, *values, **more):
    """An item of a response: its answers as they are, or as texts."""
    made = [each if isinstance(each, dict) else {"valueString": each} for each in values]
    return {"linkId": link, **({"answer": made} if made else {}), **more}


def group(link, *items):
    return {"linkId": link, "item": list(items)}


def when(question, operator, behavior=None, **answer):
    more = {"enableBehavior": behavior} if behavior else {}
    return {"enableWhen": [{"question": question, "operator": operator, **answer}], **more}


def check(questionnaire, answers, codes=None, units=ucum):
    """The issues in short, of both as they are read from JSON."""
    one, other = parse(encode(answers)), parse(encode(questionnaire))
    found = questionnaires.check(one, other, codes or terminology(), units, load().types)
    return [(each.severity, each.code, each.expression) for each in found]


def coding(code, system=COLORS, **more):
    return {"valueCoding": {"system": system, "code": code, **more}}


def quantity(value, code="kg", system=UCUM, name="valueQuantity", **more):
    return {name: {"value": value, "code": code, "system": system, **more}}


def option(value, alone=False):
    more = [{"url": f"{HL7}questionnaire-optionExclusive", "valueBoolean": True}]
    return {**value, "extension": more} if alone else value


TWICE = ("questionnaire-minOccurs", {"valueInteger": 2})
ONCE = ("questionnaire-maxOccurs", {"valueInteger": 2})
INVARIANT = [("error", "invariant", f"{A0}.value")]
NOT_OFFERED = [("error", "invariant", A0)]
RED = [option(coding("red")), option(coding("none"), alone=True)]

CONTAINED = [
    {
        "resourceType": "ValueSet",
        "id": "c",
        "status": "active",
        "compose": {"include": [{"system": COLORS, "concept": [{"code": "red"}]}]},
    },
    {
        "resourceType": "ValueSet",
        "id": "u",
        "url": "http://example.org/units",
        "status": "active",
        "compose": {"include": [{"system": UCUM, "concept": [{"code": "kg"}]}]},
    },
]
