"""The XML of resources says what their JSON says."""

from decimal import Decimal

import pytest

from conformance.json import parse
from conformance.outcome import FhirError
from conformance.xml import from_xml, to_xml
from tests.conformance.examples import examples
from tests.shared import shared

PATIENT = """<Patient xmlns="http://hl7.org/fhir"><id value="a"/>
<text><status value="generated"/><div xmlns="http://www.w3.org/1999/xhtml">A &amp; <b class="x">B</b></div></text>
<extension url="http://example.org/e"><valueDecimal value="1.50"/></extension>
<active value="true"/>
<name id="n"><given value="Ann"/><given><extension url="http://example.org/x"><valueCode value="u"/></extension></given></name>
<multipleBirthInteger value="2"/></Patient>"""


def test_xml_becomes_the_json_of_the_same_resource():
    assert from_xml(PATIENT.encode()) == {
        "resourceType": "Patient",
        "id": "a",
        "text": {
            "status": "generated",
            "div": '<div xmlns="http://www.w3.org/1999/xhtml">A &amp; <b class="x">B</b></div>',
        },
        "extension": [{"url": "http://example.org/e", "valueDecimal": Decimal("1.50")}],
        "active": True,
        "name": [
            {
                "id": "n",
                "given": ["Ann", None],
                "_given": [
                    None,
                    {"extension": [{"url": "http://example.org/x", "valueCode": "u"}]},
                ],
            }
        ],
        "multipleBirthInteger": 2,
    }


def without_narrative(value):
    if isinstance(value, list):
        return [without_narrative(each) for each in value]
    if not isinstance(value, dict):
        return value
    narrative = {"text"} if isinstance(value.get("text"), dict) and "div" in value["text"] else ()
    return {name: without_narrative(each) for name, each in value.items() if name not in narrative}


def test_xml_written_and_read_again_is_the_same_resource():
    for each in examples():
        # Of a narrative, the white space inside tags and the way of quoting may differ.
        plain = without_narrative(each)
        assert from_xml(to_xml(plain)) == plain, (each["resourceType"], each.get("id"))


@pytest.mark.parametrize(
    "name", ["patient-example", "observation-example", "questionnaire-example"]
)
def test_official_xml_says_what_official_json_says(name):
    folder = shared("suites/fhirpath-r4/input")
    read = from_xml((folder / f"{name}.xml").read_bytes())
    known = parse((folder / f"{name}.json").read_bytes())
    read.pop("text"), known.pop("text")  # white space of a narrative may differ
    assert read == known


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        ("<Patient", "This is not XML: the fault is at line 1, column 1"),
        ('<!DOCTYPE p [<!ENTITY e "x">]><Patient/>', "may have no document type"),
        ('<Patient xmlns="http://example.org"/>', "namespace http://hl7.org/fhir"),
        ('<Nothing xmlns="http://hl7.org/fhir"/>', "must name a type"),
        ('<Patient xmlns="http://hl7.org/fhir"><oh/></Patient>', "not known to FHIR R4"),
        ('<Patient xmlns="http://hl7.org/fhir">oh</Patient>', "text only in its narrative"),
        ("<a>" * 99, "namespace"),
        ('<Patient xmlns="http://hl7.org/fhir">' + "<a>" * 99, "deeper than 64"),
    ],
)
def test_what_is_no_xml_of_fhir_is_refused_with_a_reason(xml, said):
    with pytest.raises(FhirError, match=said) as refusal:
        from_xml(xml.encode())
    assert refusal.value.status == 400
