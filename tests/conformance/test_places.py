"""Each object and array of a resource has one expression, whichever is asked for first."""

import pytest

from conformance.definitions import load
from conformance.validator import Validator
from conformance.validator.places import Places

PATIENT = {
    "resourceType": "Patient",
    "name": [{"family": "A", "given": ["B", "C"], "_given": [None, {"extension": [{"url": "u"}]}]}],
    "contained": [{"resourceType": "Observation", "valueQuantity": {"value": 1}}],
    "_birthDate": {"extension": [{"url": "u", "valueCoding": {"code": "x"}}]},
    "nonsense": {"a": [[{"resourceType": "Practitioner", "name": [{}]}]]},
}
PLACES = [
    ((), None, "Patient"),
    ((), "name", "Patient.name"),
    (("name",), 0, "Patient.name[0]"),
    (("name", 0), "_given", "Patient.name[0].given"),
    (("name", 0, "_given", 1, "extension", 0), "url", "Patient.name[0].given[1].extension[0].url"),
    (("contained", 0, "valueQuantity"), "value", "Patient.contained[0].value.value"),
    (
        ("_birthDate", "extension", 0, "valueCoding"),
        None,
        "Patient.birthDate.extension[0].value",
    ),
    (("nonsense", "a", 0, 0, "name", 0), None, "Patient.nonsense.a[0][0].name[0]"),
]


@pytest.fixture(scope="module")
def nodes():
    return Validator(load()).nodes


def at(path):
    found = PATIENT
    for each in path:
        found = found[each]
    return found


@pytest.mark.parametrize("order", [PLACES, PLACES[::-1]])
def test_expressions_do_not_depend_on_the_order_they_are_asked_for_in(nodes, order):
    places = Places(PATIENT, nodes)
    assert [places.expression(at(path), key) for path, key, _ in order] == [
        told for *_, told in order
    ]


def test_what_is_not_in_the_resource_is_told_at_the_resource(nodes):
    places = Places(PATIENT, nodes)
    assert places.expression({}, None) == "Patient"
    assert places.expression({}, "x") == "Patient.x"
