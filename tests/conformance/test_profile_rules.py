"""Each kind of rule that a profile can have, by small profiles of its own: the fault beside the
fair case."""

import pytest

from conformance.definitions import load
from conformance.packages import Packages
from conformance.profiles import Profiles
from tests.conformance.listed_codes import ListedCodes
from tests.conformance.small import (
    OWN,
    SYSTEM,
    Library,
    coding,
    errors,
    observation,
    patient,
    profile,
    slicing,
)

A, B = {"patternCodeableConcept": coding("a")}, {"patternCodeableConcept": coding("b")}


def by_code(rules="open", ordered=False, a=None, b=None):
    return profile(
        "mine",
        "Observation",
        ("Observation.category", {"slicing": slicing("pattern", "$this", rules, ordered)}),
        ("Observation.category:a", {"min": 0, "max": "1", **A, **(a or {})}),
        ("Observation.category:b", {"min": 0, "max": "1", **B, **(b or {})}),
    )


def categories(*codes):
    return observation(category=[coding(each) for each in codes])


@pytest.mark.parametrize(
    ("structure", "codes", "found"),
    [
        (by_code(), "axb", []),
        (by_code(), "aa", [["structure", "Observation.category[1]"]]),
        (by_code(b={"min": 1}), "a", [["required", "Observation"]]),
        (by_code("closed"), "ab", []),
        (by_code("closed"), "ax", [["structure", "Observation.category[1]"]]),
        (by_code("openAtEnd"), "abx", []),
        (by_code("openAtEnd"), "xa", [["structure", "Observation.category[1]"]]),
        (by_code(ordered=True), "ab", []),
        (by_code(ordered=True), "ba", [["structure", "Observation.category[1]"]]),
    ],
)
def test_slices_are_counted_closed_and_ordered(structure, codes, found):
    assert errors(categories(*codes), structure) == found


def by_given():
    return profile(
        "mine",
        "Patient",
        ("Patient.name", {"slicing": slicing("value", "given", "closed")}),
        ("Patient.name:g", {"min": 1, "max": "1"}),
        ("Patient.name:g.given", {"min": 1, "fixedString": "Bo"}),
    )


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["Bo"], []),
        (["Jo"], [["structure", "Patient.name[0]"], ["required", "Patient"]]),
        ([], [["structure", "Patient.name[0]"], ["required", "Patient"]]),
    ],
)
def test_a_primitive_that_repeats_tells_a_slice_by_any_of_its_values(given, found):
    person = patient(name=[{"family": "x", **({"given": given} if given else {})}])
    assert errors(person, by_given()) == found


def test_a_closed_slicing_without_a_slice_allows_nothing():
    structure = profile(
        "mine", "Patient", ("Patient.identifier", {"slicing": slicing("value", "system", "closed")})
    )
    assert errors(patient(identifier=[{"value": "1"}]), structure) == [
        ["structure", "Patient.identifier[0]"]
    ]
    assert errors(patient(), structure) == []


def test_an_item_of_two_slices_is_an_error():
    both = {"coding": [*coding("a")["coding"], *coding("b")["coding"]]}
    found = errors(observation(category=[both]), by_code())
    assert found == [["structure", "Observation.category[0]"]]


def test_a_slice_of_a_slice_has_rules_of_its_own():
    structure = profile(
        "mine",
        "Observation",
        ("Observation.category", {"slicing": slicing("value", "coding.system")}),
        (
            "Observation.category:own",
            {"min": 1, "max": "*", "slicing": slicing("value", "coding.code")},
        ),
        ("Observation.category:own.coding.system", {"min": 1, "fixedUri": SYSTEM}),
        ("Observation.category:own/a", {"min": 1, "max": "1"}),
        ("Observation.category:own/a.coding.system", {"min": 1, "fixedUri": SYSTEM}),
        ("Observation.category:own/a.coding.code", {"min": 1, "fixedCode": "a"}),
    )
    assert errors(categories("a", "b"), structure) == []
    assert errors(categories("b"), structure) == [["required", "Observation"]]
    assert errors(categories("a", "a"), structure) == [["structure", "Observation.category[1]"]]


def test_exists_tells_slices():
    structure = profile(
        "mine",
        "Patient",
        ("Patient.contact", {"slicing": slicing("exists", "period")}),
        ("Patient.contact:past", {"max": "1"}),
        ("Patient.contact:past.period", {"min": 1}),
        ("Patient.contact:now", {"min": 1, "max": "1"}),
        ("Patient.contact:now.period", {"max": "0"}),
    )
    now, past = {"name": {"family": "N"}}, {"name": {"family": "P"}, "period": {"end": "2020"}}
    assert errors(patient(contact=[now, past]), structure) == []
    assert errors(patient(contact=[past]), structure) == [["required", "Patient"]]
    assert errors(patient(contact=[now, past, past]), structure) == [
        ["structure", "Patient.contact[2]"]
    ]


def test_the_type_of_what_a_reference_leads_to_tells_slices():
    structure = profile(
        "mine",
        "Observation",
        ("Observation.performer", {"slicing": slicing("type", "resolve()", "closed")}),
        (
            "Observation.performer:who",
            {
                "min": 1,
                "max": "1",
                "type": [
                    {
                        "code": "Reference",
                        "targetProfile": ["http://hl7.org/fhir/StructureDefinition/Practitioner"],
                    }
                ],
            },
        ),
    )
    who, where = {"reference": "Practitioner/1"}, {"reference": "Organization/1"}
    inner = {"resourceType": "Practitioner", "id": "p"}
    assert errors(observation(performer=[who]), structure) == []
    local = observation(contained=[inner], performer=[{"reference": "#p"}])
    assert errors(local, structure) == []
    assert errors(observation(performer=[who, where]), structure) == [
        ["structure", "Observation.performer[1]"]
    ]
    assert errors(observation(performer=[where]), structure) == [
        ["structure", "Observation.performer[0]"],
        ["required", "Observation"],
    ]


def test_the_type_of_a_choice_tells_slices():
    structure = profile(
        "mine",
        "Observation",
        ("Observation.value[x]", {"slicing": slicing("type", "$this", "closed")}),
        ("Observation.value[x]:valueQuantity", {"min": 0, "type": [{"code": "Quantity"}]}),
        ("Observation.value[x]:valueQuantity.unit", {"min": 1}),
    )
    assert errors(observation(valueQuantity={"value": 1, "unit": "x"}), structure) == []
    assert errors(observation(valueQuantity={"value": 1}), structure) == [
        ["required", "Observation.value"]
    ]


@pytest.mark.parametrize(
    ("slices", "fair", "fault"),
    [
        (["valueQuantity"], {"valueQuantity": {"value": 1}}, {"valueString": "x"}),
        (["valueQuantity", "valueString"], {"valueString": "x"}, {"valueBoolean": True}),
        (
            ["valueString"],
            {"_valueString": {"extension": [{"url": "http://x.org/e", "valueCode": "c"}]}},
            {"_valueBoolean": {"extension": [{"url": "http://x.org/e", "valueCode": "c"}]}},
        ),
    ],
)
@pytest.mark.parametrize("rules", ["open", "closed"])
def test_a_choice_whose_slices_are_closed_has_no_other_type(slices, fair, fault, rules):
    said = {name: name[5:] if name == "valueQuantity" else name[5:].lower() for name in slices}
    structure = profile(
        "mine",
        "Observation",
        ("Observation.value[x]", {"slicing": slicing("type", "$this", rules)}),
        *(
            (f"Observation.value[x]:{name}", {"min": 0, "type": [{"code": code}]})
            for name, code in said.items()
        ),
    )
    (key,) = fault
    place = f"Observation.{key.strip('_').replace('String', '').replace('Boolean', '')}"
    assert errors(observation(**fair), structure) == []
    assert errors(observation(**fault), structure) == (
        [["structure", place]] if rules == "closed" else []
    )


def test_a_default_slice_takes_what_is_left():
    structure = profile(
        "mine",
        "Observation",
        ("Observation.category", {"slicing": slicing("pattern", "$this", "closed")}),
        ("Observation.category:a", {"max": "1", **A}),
        ("Observation.category:@default", {"max": "1"}),
    )
    assert errors(categories("a", "x"), structure) == []
    assert errors(categories("x", "y"), structure) == [["structure", "Observation.category[1]"]]


@pytest.mark.parametrize(
    ("said", "fair", "fault"),
    [
        ({"fixedBoolean": True}, True, False),
        ({"patternBoolean": False}, False, True),
    ],
)
def test_a_fixed_boolean_is_no_number(said, fair, fault):
    structure = profile("mine", "Patient", ("Patient.active", said))
    assert errors(patient(active=fair), structure) == []
    assert errors(patient(active=fault), structure) == [["value", "Patient.active"]]


def test_what_is_fixed_is_equal_and_what_is_a_pattern_is_held():
    period = {"start": "2020-01-01"}
    fixed = profile("mine", "Patient", ("Patient.name.period", {"fixedPeriod": period}))
    pattern = profile("mine", "Patient", ("Patient.name.period", {"patternPeriod": period}))
    named = patient(name=[{"family": "A", "period": {**period, "end": "2021-01-01"}}])
    assert errors(named, pattern) == []
    assert errors(named, fixed) == [["value", "Patient.name[0].period"]]


def test_values_have_limits_and_texts_a_length():
    structure = profile(
        "mine",
        "Patient",
        ("Patient.birthDate", {"minValueDate": "1900-01-01", "maxValueDate": "2100-01-01"}),
        ("Patient.contact.gender", {"min": 1}),
        ("Patient.name.family", {"maxLength": 3}),
        ("Patient.multipleBirth[x]", {"maxValueInteger": 8, "type": [{"code": "integer"}]}),
    )
    fair = patient(birthDate="1974-12-25", name=[{"family": "Abc"}], multipleBirthInteger=8)
    assert errors(fair, structure) == []
    fault = patient(birthDate="1874-12-25", name=[{"family": "Abcd"}], multipleBirthInteger=9)
    assert sorted(errors(fault, structure)) == [
        ["too-long", "Patient.name[0].family"],
        ["value", "Patient.birthDate"],
        ["value", "Patient.multipleBirth"],
    ]


def test_a_type_that_was_taken_away_is_named():
    structure = profile("mine", "Patient", ("Patient.deceased[x]", {"type": [{"code": "boolean"}]}))
    assert errors(patient(deceasedBoolean=False), structure) == []
    assert errors(patient(deceasedDateTime="2020"), structure) == [
        ["structure", "Patient.deceased"]
    ]


def test_constraints_see_the_host():
    structure = profile(
        "mine",
        "Observation",
        (
            "Observation",
            {
                "constraint": [
                    _rule("m-1", "subject.resolve().ofType(Patient).active = true"),
                    _rule(
                        "m-2",
                        "code.memberOf('http://hl7.org/fhir/ValueSet/observation-status')",
                    ),
                ]
            },
        ),
    )
    inner = {"resourceType": "Patient", "id": "p", "active": True}
    status = "http://hl7.org/fhir/observation-status"
    fair = observation(contained=[inner], subject={"reference": "#p"}, code=coding("final", status))
    assert errors(fair, structure) == []
    fault = observation(
        contained=[{**inner, "active": False}],
        subject={"reference": "#p"},
        code=coding("x", SYSTEM),
    )
    assert errors(fault, structure) == [["invariant", "Observation"]] * 2


def _rule(key, expression, severity="error"):
    return {"key": key, "severity": severity, "human": "It must", "expression": expression}


def test_a_key_of_the_base_given_to_another_rule_is_another_rule():
    structure = profile(
        "mine",
        "Patient",
        ("Patient.name", {"constraint": [_rule("que-7", "family.exists()")]}),
    )
    assert errors(patient(name=[{"text": "A"}]), structure) == [["invariant", "Patient.name[0]"]]


def test_a_contained_resource_meets_the_profile_of_its_reference():
    target = profile("who", "Practitioner", ("Practitioner.name", {"min": 1}))
    structure = profile(
        "mine",
        "Observation",
        (
            "Observation.performer",
            {"type": [{"code": "Reference", "targetProfile": [OWN + "who"]}]},
        ),
    )
    named = {"resourceType": "Practitioner", "id": "p", "name": [{"family": "A"}]}
    local = observation(contained=[named], performer=[{"reference": "#p"}])
    assert errors(local, structure, target) == []
    nameless = {"resourceType": "Practitioner", "id": "p", "active": True}
    local = observation(contained=[nameless], performer=[{"reference": "#p"}])
    assert errors(local, structure, target) == [["structure", "Observation.performer[0]"]]
    assert errors(observation(performer=[{"reference": "Organization/1"}]), structure, target) == [
        ["structure", "Observation.performer[0]"]
    ]


def test_profiles_that_lead_to_each_other_end():
    structure = profile(
        "mine",
        "Patient",
        (
            "Patient.link.other",
            {"type": [{"code": "Reference", "targetProfile": [OWN + "mine"]}]},
        ),
        ("Patient.name", {"min": 1}),
    )
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {
                "fullUrl": f"http://example.org/Patient/{own}",
                "resource": patient(
                    id=own,
                    meta={"profile": [OWN + "mine"]},
                    name=[{"family": "A"}],
                    link=[{"type": "seealso", "other": {"reference": f"Patient/{other}"}}],
                ),
            }
            for own, other in (("a", "b"), ("b", "a"))
        ],
    }
    library = Library(structure)
    known = Profiles(load(), library, ListedCodes(Packages()))
    assert [each for each in known.validate(bundle) if each.severity == "error"] == []
    del bundle["entry"][1]["resource"]["name"]
    found = [each.expression for each in known.validate(bundle) if each.severity == "error"]
    assert found == ["Bundle.entry[1].resource", "Bundle.entry[0].resource.link[0].other"] or (
        sorted(found) == ["Bundle.entry[0].resource.link[0].other", "Bundle.entry[1].resource"]
    )


def test_malformed_resources_are_told_of_and_break_nothing():
    structure = by_code()
    for category in ("x", {"coding": 1}, [1, None, {"coding": "x"}], [[{}]], 7, [{"coding": [7]}]):
        assert errors(observation(category=category), structure) != []


def test_a_profile_whose_definition_cannot_be_read_is_a_warning_unless_it_was_asked_for():
    broken = profile("mine", "Patient") | {"baseDefinition": "http://example.org/nowhere"}
    known = Profiles(load(), Library(broken), ListedCodes(Packages()))
    claiming, mine = patient(meta={"profile": [OWN + "mine"]}), [OWN + "mine"]

    def severities(*asked, **how):
        return [each.severity for each in known.validate(*asked, **how) if each.code == "not-found"]

    assert severities(patient(), mine) == ["error"]
    assert severities(claiming, mine) == ["error"]
    assert severities(claiming) == ["warning"]
    # As on a write, where the policy chooses among the claims of the resource.
    assert severities(claiming, mine, claims=False) == ["warning"]


def test_a_constraint_that_cannot_be_evaluated_is_a_warning():
    structure = profile("mine", "Patient", ("Patient", {"constraint": [_rule("m-1", "((")]}))
    known = Profiles(load(), Library(structure), ListedCodes(Packages()))
    found = known.validate(patient(active=True), [OWN + "mine"])
    assert [(each.severity, each.key) for each in found if each.code == "not-supported"] == [
        ("warning", "m-1")
    ]


@pytest.mark.parametrize(
    ("limit", "fair", "fault"),
    [
        ({"minValueDuration": {"value": 100, "code": "a"}}, "2001-01-01", "1850-01-01"),
        ({"maxValueDuration": {"value": 1, "code": "d"}}, "2001-01-01", "9000-01-01"),
    ],
)
def test_a_duration_limits_a_date_from_now(limit, fair, fault):
    structure = profile("mine", "Patient", ("Patient.birthDate", limit))
    assert errors(patient(birthDate=fair), structure) == []
    assert errors(patient(birthDate=fault), structure) == [["value", "Patient.birthDate"]]


def test_a_binding_beside_the_first_counts_too():
    status = "http://hl7.org/fhir/observation-status"
    more = {
        "url": "http://hl7.org/fhir/tools/StructureDefinition/additional-binding",
        "extension": [
            {"url": "purpose", "valueCode": "required"},
            {
                "url": "valueSet",
                "valueCanonical": "http://hl7.org/fhir/ValueSet/observation-status",
            },
        ],
    }
    binding = {"strength": "example", "valueSet": "http://example.org/x", "extension": [more]}
    structure = profile("mine", "Observation", ("Observation.code", {"binding": binding}))
    assert errors(observation(code=coding("final", status)), structure) == []
    assert errors(observation(code=coding("x")), structure) == [
        ["code-invalid", "Observation.code"]
    ]
