"""The official FHIRPath suite for R4: every test passes."""

from decimal import Decimal
from functools import cache
from xml.etree import ElementTree

import msgspec

from conformance.definitions import load
from conformance.fhirpath import Environment, FhirPathError, compile_expression
from conformance.fhirpath.items import plain
from conformance.validator import Validator
from terminology import ucum
from tests.shared import shared

DEFINITIONS = load()
VALIDATOR = Validator(DEFINITIONS)
DECODE = msgspec.json.Decoder(float_hook=Decimal).decode


class Surroundings:
    """The units of terminology, and the base definitions as profiles."""

    units = ucum

    def resolve(self, reference):
        return None

    def member_of(self, value_set, value):
        return None

    def conforms_to(self, canonical, value):
        type = canonical.removeprefix("http://hl7.org/fhir/StructureDefinition/")
        if type not in DEFINITIONS.types:
            return None
        return value["resourceType"] == type and not [
            each for each in VALIDATOR.validate(value) if each.severity == "error"
        ]


@cache
def resource(name):
    folder = shared("suites/fhirpath-r4/input")
    return DECODE((folder / name.replace(".xml", ".json")).read_bytes())


def written(item):
    """A value as the suite writes it."""
    type, value, _ = plain(item)
    prefix = {"System.Date": "@", "System.DateTime": "@", "System.Time": "@T"}.get(type, "")
    return f"{prefix}{str(value).lower() if isinstance(value, bool) else value}"


def typed(item):
    """A type as the suite names it: that of FHIR."""
    bare = item[0].removeprefix("System.")
    return bare if bare == item[0] or bare == "Quantity" else f"{bare[0].lower()}{bare[1:]}"


def passes(test):
    name = test.get("inputfile")
    input = resource(name) if name else None
    expression = test.find("expression")
    wanted = [(each.get("type"), each.text or "") for each in test.findall("output")]
    try:
        items = compile_expression(
            expression.text,
            input["resourceType"] if input else None,
            DEFINITIONS,
            strict=test.get("mode") == "strict" or expression.get("invalid") == "semantic",
        )(input, Environment(input, input, Surroundings()))
    except FhirPathError:
        return bool(expression.get("invalid"))
    if expression.get("invalid"):
        return False
    if test.get("predicate") == "true":
        return wanted == [("boolean", str(bool(items)).lower())]
    found = [(typed(each), written(each)) for each in items]
    if test.get("ordered") == "false":
        found, wanted = sorted(found), sorted(wanted)
    return len(found) == len(wanted) and all(
        (type is None or type == found_type) and text == found_text
        for (type, text), (found_type, found_text) in zip(wanted, found, strict=True)
    )


def test_all_of_the_official_suite_passes():
    suite = ElementTree.parse(shared("suites/fhirpath-r4/tests-fhir-r4.xml"))
    tests = list(suite.getroot().iter("test"))
    assert [test.get("name") for test in tests if not passes(test)] == []
    assert len(tests) == 935
