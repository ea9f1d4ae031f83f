"""What the expressions of search parameters find, with its datatype and element."""

from decimal import Decimal

import pytest

from conformance.definitions import load
from conformance.fhirpath import (
    Environment,
    FhirPathError,
    Hit,
    compile_expression,
    compile_relative,
    compile_search,
)
from tests.conformance.examples import examples

DEFINITIONS = load()

OBSERVATION = {
    "resourceType": "Observation",
    "id": "bp",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
    "subject": {"reference": "Patient/1"},
    "effectiveDateTime": "2020-02-03",
    "_issued": {"extension": [{"url": "http://example.org/why", "valueCode": "unknown"}]},
    "valueString": "high",
    "component": [
        {"code": {"text": "systolic"}, "valueQuantity": {"value": Decimal("120.0")}},
        {"code": {"text": "note"}, "valueCodeableConcept": {"text": "calm"}},
    ],
}
SYSTOLIC, NOTE = OBSERVATION["component"]


def hits(expression, resource):
    return compile_search(expression, resource["resourceType"], DEFINITIONS)(resource)


FOUND = {
    "Observation.status": [Hit("code", "final", "Observation.status")],
    "Resource.id": [Hit("id", "bp", "Observation.id")],
    "Observation.effective": [Hit("dateTime", "2020-02-03", "Observation.effective[x]")],
    "(Observation.value as string)": [Hit("string", "high", "Observation.value[x]")],
    "Observation.value.ofType(Quantity)": [],
    "Observation.issued": [],
    "Patient.name": [],
    "Patient.name | Observation.status": [Hit("code", "final", "Observation.status")],
    "Observation.code.coding.code": [Hit("code", "85354-9", "Coding.code")],
    "(Observation.component.value as Quantity) | (Observation.component.value as CodeableConcept)": [
        Hit("Quantity", {"value": Decimal("120.0")}, "Observation.component.value[x]"),
        Hit("CodeableConcept", {"text": "calm"}, "Observation.component.value[x]"),
    ],
    "Observation.component.value": [
        Hit("Quantity", {"value": Decimal("120.0")}, "Observation.component.value[x]"),
        Hit("CodeableConcept", {"text": "calm"}, "Observation.component.value[x]"),
    ],
    "Observation.component[1].code.text": [Hit("string", "note", "CodeableConcept.text")],
    "Observation.component.where(code.text='note').value": [
        Hit("CodeableConcept", {"text": "calm"}, "Observation.component.value[x]")
    ],
    "(Observation.code | Observation.component.code).text": [
        Hit("string", "systolic", "CodeableConcept.text"),
        Hit("string", "note", "CodeableConcept.text"),
    ],
    "Observation": [Hit("Observation", OBSERVATION, "Observation")],
    "Observation.component": [
        Hit("BackboneElement", SYSTOLIC, "Observation.component"),
        Hit("BackboneElement", NOTE, "Observation.component"),
    ],
    "Observation.issued.extension('http://example.org/why').value": [
        Hit("code", "unknown", "Extension.value[x]")
    ],
    "Observation.component.count()": [Hit("integer", "2", "")],
}


@pytest.mark.parametrize("expression", FOUND)
def test_an_expression_finds_each_value_with_datatype_and_element(expression):
    assert hits(expression, OBSERVATION) == FOUND[expression]


def test_a_repeated_primitive_skips_the_places_that_hold_only_an_extension():
    patient = {
        "resourceType": "Patient",
        "name": [{"given": ["Ann", None, "Bea"], "_given": [None, {"id": "x"}, None]}],
    }
    assert hits("Patient.name.given", patient) == [
        Hit("string", "Ann", "HumanName.given"),
        Hit("string", "Bea", "HumanName.given"),
    ]


def test_an_element_that_refers_to_the_content_of_another_keeps_its_path():
    questionnaire = {
        "resourceType": "Questionnaire",
        "item": [{"linkId": "1", "item": [{"linkId": "1.1"}]}],
    }
    assert hits("Questionnaire.item.item.linkId", questionnaire) == [
        Hit("string", "1.1", "Questionnaire.item.linkId")
    ]


@pytest.mark.parametrize(
    "patient, deceased",
    [
        ({}, False),
        ({"deceasedBoolean": False}, False),
        ({"deceasedBoolean": True}, True),
        ({"deceasedDateTime": "2020"}, True),
    ],
)
def test_deceased_is_a_boolean_whichever_way_it_is_recorded(patient, deceased):
    expression = DEFINITIONS.parameters("Patient")["deceased"].expression
    found = hits(expression, {"resourceType": "Patient", **patient})
    assert found == [Hit("boolean", deceased, "")]


REFERENCES = [
    ({"reference": "Patient/1"}, True),
    ({"reference": "Patient/1/_history/2"}, True),
    ({"reference": "https://example.org/fhir/Patient/1"}, True),
    ({"reference": "Patient?identifier=x|1"}, True),
    ({"reference": "#p"}, True),
    ({"reference": "urn:uuid:0b9f0a5e-6a3f-4c4b-8d4c-3f0f6d7d3a11", "type": "Patient"}, True),
    ({"type": "Patient", "identifier": {"value": "1"}}, True),
    ({"reference": "Group/1"}, False),
    ({"reference": "#g"}, False),
    ({"reference": "#missing"}, False),
    ({"reference": "Group/1", "type": "Patient"}, False),
    ({"reference": "urn:uuid:0b9f0a5e-6a3f-4c4b-8d4c-3f0f6d7d3a11"}, False),
    ({"reference": "Nonsense/1"}, False),
    ({"display": "somebody"}, False),
]


@pytest.mark.parametrize("reference, is_patient", REFERENCES)
def test_the_type_of_a_target_is_read_from_the_reference(reference, is_patient):
    contained = [
        {"resourceType": "Patient", "id": "p"},
        {"resourceType": "Group", "id": "g"},
    ]
    resource = {"resourceType": "Observation", "contained": contained, "subject": reference}
    wanted = [Hit("Reference", reference, "Observation.subject")] if is_patient else []
    assert hits("Observation.subject.where(resolve() is Patient)", resource) == wanted


def test_the_first_resource_of_a_bundle_is_told_apart_by_its_type():
    first = {"resourceType": "Composition", "id": "c"}
    bundle = {"resourceType": "Bundle", "entry": [{"resource": first}, {"resource": OBSERVATION}]}
    assert hits("Bundle.entry[0].resource", bundle) == [
        Hit("Resource", first, "Bundle.entry.resource")
    ]
    assert hits("Bundle.entry[0].resource.as(Composition).id", bundle) == [
        Hit("id", "c", "Composition.id")
    ]
    assert hits("Bundle.entry[0].resource.as(MessageHeader).id", bundle) == []
    assert hits("Bundle.entry[0].resource", {"resourceType": "Bundle"}) == []


def test_extensions_and_the_criteria_on_them_are_found():
    answers = {
        "resourceType": "QuestionnaireResponse",
        "item": [
            {
                "linkId": "1",
                "extension": [
                    {
                        "url": "http://hl7.org/fhir/StructureDefinition/questionnaireresponse-isSubject",
                        "valueBoolean": True,
                    }
                ],
                "answer": [{"valueReference": {"reference": "Patient/1"}}, {"valueInteger": 1}],
            },
            {"linkId": "2", "answer": [{"valueReference": {"reference": "Patient/2"}}]},
        ],
    }
    expression = (
        "QuestionnaireResponse.item.where(hasExtension('http://hl7.org/fhir/StructureDefinition/"
        "questionnaireresponse-isSubject')).answer.value.ofType(Reference)"
    )
    assert hits(expression, answers) == [
        Hit(
            "Reference",
            {"reference": "Patient/1"},
            "QuestionnaireResponse.item.answer.value[x]",
        )
    ]


def test_the_components_of_a_composite_are_found_within_one_node():
    value = compile_relative("value.as(Quantity)", "Observation.component", DEFINITIONS)
    code = compile_relative("code", "Observation.component", DEFINITIONS)
    found = [
        (code(hit.value, OBSERVATION), value(hit.value, OBSERVATION))
        for hit in hits("Observation.component", OBSERVATION)
    ]
    path = "Observation.component.code"
    assert found == [
        (
            [Hit("CodeableConcept", {"text": "systolic"}, path)],
            [Hit("Quantity", {"value": Decimal("120.0")}, "Observation.component.value[x]")],
        ),
        ([Hit("CodeableConcept", {"text": "note"}, path)], []),
    ]


def test_a_component_may_begin_at_the_resource_or_at_a_datatype():
    sequence = {"resourceType": "MolecularSequence", "referenceSeq": {"chromosome": {"text": "X"}}}
    chromosome = compile_relative(
        "%resource.referenceSeq.chromosome", "MolecularSequence.variant", DEFINITIONS
    )
    assert chromosome({"start": 1}, sequence) == [
        Hit("CodeableConcept", {"text": "X"}, "MolecularSequence.referenceSeq.chromosome")
    ]
    amount = compile_relative(
        "value.as(Quantity) | value.as(Range)", "Library.useContext", DEFINITIONS
    )
    assert amount({"valueRange": {"low": {"value": 1}}}, {}) == [
        Hit("Range", {"low": {"value": 1}}, "UsageContext.value[x]")
    ]


def test_a_system_name_after_as_means_the_fhir_primitive():
    expression = "value.as(DateTime) | value.as(Period)"
    date = compile_relative(expression, "Observation", DEFINITIONS)
    assert date({"valueDateTime": "2020"}, {}) == [Hit("dateTime", "2020", "Observation.value[x]")]


REFUSED = {
    "Observation.nothing": "`nothing` is not an element of Observation",
    "Observation.value.as(Nothing)": "`Nothing` is not a type",
    "Observation.code.memberOf('x')": (
        "A search parameter may ask only for what its resource says"
    ),
    "Observation.where(x": "`)` was expected, not the end (at character 19)",
    "Observation.component.code.coding[0]": "An index must follow the first element that repeats",
}


@pytest.mark.parametrize("expression", REFUSED)
def test_what_the_definitions_do_not_know_is_refused_when_compiled(expression):
    with pytest.raises(FhirPathError) as refused:
        compile_search(expression, "Observation", DEFINITIONS)
    assert str(refused.value) == REFUSED[expression]


def test_every_search_parameter_and_component_compiles():
    compiled = 0
    for type in DEFINITIONS.types:
        for parameter in DEFINITIONS.parameters(type).values():
            compile_search(parameter.expression, type, DEFINITIONS)
            for _, expression in parameter.components:
                for part in parameter.expression.split(" | "):
                    compile_relative(expression, part, DEFINITIONS)
            compiled += 1
    assert compiled > 2500


# The datatypes that the parameters of each kind meet.
DATATYPES = {
    "date": {"date", "dateTime", "instant", "Period", "Timing", "string", "Age", "Range"},
    "number": {"integer", "decimal", "Range"},
    "quantity": {"Quantity", "Age", "Duration", "Money", "Range", "SampledData"},
    "reference": {"Reference", "canonical", "uri", "Resource", "Attachment"},
    "string": {"string", "markdown", "HumanName", "Address"},
    "token": {"CodeableConcept", "Coding", "Identifier", "ContactPoint", "code", "string"}
    | {"boolean", "id", "uri"},
    "uri": {"uri", "url", "canonical"},
    "special": {"BackboneElement"},
}


def test_every_search_parameter_runs_over_the_official_examples():
    extractors = {}
    found = 0
    for resource in examples():
        type = resource["resourceType"]
        if type not in extractors:
            extractors[type] = [
                (each, compile_search(each.expression, type, DEFINITIONS))
                for each in DEFINITIONS.parameters(type).values()
                if each.type != "composite"
            ]
        for parameter, extract in extractors[type]:
            for hit in extract(resource):
                assert hit.datatype in DATATYPES[parameter.type], (type, parameter.code)
                assert hit.value is not None
                found += 1
    assert len(extractors) > 120
    assert found > 10_000


def distinct(values):
    return [each for i, each in enumerate(values) if each not in values[:i]]


def test_search_finds_what_the_whole_language_finds():
    compiled = {}
    compared = 0
    for resource in examples():
        type = resource["resourceType"]
        for parameter in DEFINITIONS.parameters(type).values():
            if "resolve()" in parameter.expression or parameter.code == "deceased":
                continue
            if (type, parameter.code) not in compiled:
                expression = parameter.expression
                compiled[type, parameter.code] = (
                    compile_search(expression, type, DEFINITIONS),
                    compile_expression(expression, type, DEFINITIONS),
                )
            search, general = compiled[type, parameter.code]
            try:
                items = general(resource, Environment(resource, resource))
            except FhirPathError:
                # `as` takes one item in the whole language, in search each.
                assert " as " in parameter.expression or ".as(" in parameter.expression
                continue
            wanted = distinct([value for _, value, _ in items if value is not None])
            assert distinct([hit.value for hit in search(resource)]) == wanted
            compared += len(wanted)
    assert compared > 5_000
