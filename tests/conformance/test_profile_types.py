"""Slices that are told by the type of something within the items: the fault beside the fair case."""

import pytest

from tests.conformance.small import errors, observation, profile, slicing


def by_type(path, rules, code="Quantity", **more):
    return profile(
        "mine",
        "Observation",
        ("Observation.component", {"slicing": slicing("type", path, rules)}),
        ("Observation.component:q", {"min": 0, "max": "1", **more}),
        ("Observation.component:q.value[x]", {"min": 1, "type": [{"code": code}]}),
    )


def component(**value):
    return {"code": {"text": "x"}, **value}


NUMBER, TEXT = component(valueQuantity={"value": 1}), component(valueString="x")
BARE = component(_valueString={"extension": [{"url": "http://x.org/e", "valueCode": "c"}]})
BEYOND = [["structure", "Observation.component[1]"]]


@pytest.mark.parametrize("path", ["value", "value[x]"])
@pytest.mark.parametrize(
    ("rules", "code", "components", "found"),
    [
        ("closed", "Quantity", [NUMBER], []),
        ("closed", "Quantity", [NUMBER, TEXT], BEYOND),
        ("closed", "Quantity", [NUMBER, component()], BEYOND),
        ("closed", "string", [BARE], []),
        ("closed", "string", [BARE, NUMBER], BEYOND),
        ("open", "Quantity", [NUMBER, TEXT, TEXT], []),
        ("open", "Quantity", [NUMBER, NUMBER], BEYOND),
    ],
)
def test_the_type_of_a_choice_within_the_items_tells_slices(path, rules, code, components, found):
    assert errors(observation(component=components), by_type(path, rules, code)) == found


def test_a_slice_by_the_type_of_a_choice_may_be_required():
    structure = by_type("value", "open", min=1)
    assert errors(observation(component=[TEXT, NUMBER]), structure) == []
    assert errors(observation(component=[TEXT]), structure) == [["required", "Observation"]]


def test_an_element_of_one_type_is_of_a_slice_where_it_is_there():
    structure = profile(
        "mine",
        "Observation",
        ("Observation.component", {"slicing": slicing("type", "interpretation", "closed")}),
        ("Observation.component:i", {"min": 0}),
        ("Observation.component:i.interpretation", {"min": 1}),
    )
    there = component(interpretation=[{"text": "high"}])
    assert errors(observation(component=[there]), structure) == []
    assert errors(observation(component=[there, component()]), structure) == BEYOND


def test_the_type_of_contained_resources_tells_slices():
    structure = profile(
        "mine",
        "Observation",
        ("Observation.contained", {"slicing": slicing("type", "$this", "closed")}),
        ("Observation.contained:who", {"min": 0, "max": "1", "type": [{"code": "Patient"}]}),
    )
    who = {"resourceType": "Patient", "id": "p"}
    what = {"resourceType": "Specimen", "id": "s"}
    fair = observation(contained=[who], subject={"reference": "#p"})
    fault = observation(
        contained=[who, what], subject={"reference": "#p"}, specimen={"reference": "#s"}
    )
    assert errors(fair, structure) == []
    assert errors(fault, structure) == [["structure", "Observation.contained[1]"]]
