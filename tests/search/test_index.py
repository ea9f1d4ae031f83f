"""Resources as entries: which rows are written, each once, and none that no query uses."""

from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from conformance.definitions import load
from conformance.outcome import FhirError
from fhir_server.search.index import CARRIED, Index
from fhir_server.search.limit import ENTRIES
from fhir_server.search.parameters import parts_of
from fhir_server.storage.store import Entry
from tests.search.world import BASE, INDEX, World

HEIGHT: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "h",
    "status": "final",
    "category": [
        {"coding": [{"system": "urn:c", "code": "vital-signs", "display": "Vital Signs"}]}
    ],
    "code": {
        "coding": [{"system": "http://loinc.org", "code": "8302-2", "display": "Body Height"}],
        "text": "Body Height",
    },
    "subject": {"reference": "Patient/p"},
    "effectiveDateTime": "2020-05-01T10:00:00Z",
    "valueQuantity": {"value": 180, "unit": "cm", "system": "urn:u", "code": "cm"},
}
AT = 1_588_327_200_000_000


def test_an_observation_is_found_by_these_entries_and_no_others() -> None:
    assert INDEX.entries(HEIGHT) == [
        Entry("token", "status", "http://hl7.org/fhir/observation-status", "final"),
        Entry("token", "category", "urn:c", "vital-signs"),
        Entry("text", "category:text", None, None, "vital signs"),
        Entry("token", "code", "http://loinc.org", "8302-2"),
        Entry("text", "code:text", None, None, "body height"),
        Entry("link", "subject", "Patient", "p", None, AT),
        Entry("range", "date", None, None, None, AT, AT + 999_999),
        Entry("range", "value-quantity", "urn:u", "cm", None, 180.0, 180.0),
        Entry("range", "code-value-quantity=http://loinc.org|8302-2", "urn:u", "cm", None, 180.0, 180.0),
    ]  # fmt: skip


def test_a_system_without_a_code_is_an_entry_and_neither_is_none() -> None:
    category = [{"coding": [{"system": "urn:c"}, {"display": "Vital Signs"}]}]
    entries = INDEX.entries({**HEIGHT, "category": category})
    assert [each for each in entries if each.param.startswith("category")] == [
        Entry("token", "category", "urn:c", None),
        Entry("token", "category:present", None, "true"),
        Entry("text", "category:text", None, None, "vital signs"),
    ]


def names(count: int) -> dict[str, Any]:
    """A Patient with so many family names: three entries each, and one for all of them."""
    return {"resourceType": "Patient", "name": [{"family": f"{at}"} for at in range(count)]}


def concept(letter: str, codes: int) -> dict[str, Any]:
    return {"coding": [{"system": "urn:x", "code": f"{letter}{at}"} for at in range(codes)]}


def component(codes: int, values: int) -> dict[str, Any]:
    coded = {"code": concept("c", codes), "valueCodeableConcept": concept("v", values)}
    return {"resourceType": "Observation", "component": [coded]}


@pytest.mark.parametrize(
    ("most", "beyond", "code"),
    [
        (names(6_666), names(6_667), "phonetic"),
        (component(60, 100), component(60, 111), "component-code-value-concept"),
        ({"resourceType": "Group", "member": []}, component(3_000, 3_000), "component-code-value-concept"),
    ],
)  # fmt: skip
def test_a_resource_has_so_many_entries_and_no_more(
    most: dict[str, Any], beyond: dict[str, Any], code: str
) -> None:
    assert len(INDEX.entries(most)) <= ENTRIES
    with pytest.raises(FhirError) as refused:
        INDEX.entries(beyond)
    (issue,) = refused.value.issues
    assert (refused.value.status, issue.code) == (422, "too-costly")
    assert issue.text == (
        f"The resource has more than 20,000 values to search by, of `{code}` and other parameters:"
        " divide it into several resources"
    )


def test_equal_values_give_one_entry() -> None:
    twice = {**HEIGHT, "category": HEIGHT["category"] * 2}
    assert INDEX.entries(twice) == INDEX.entries(HEIGHT)


def test_a_resource_is_not_changed_by_being_indexed() -> None:
    before = repr(HEIGHT)
    INDEX.entries(HEIGHT)
    assert repr(HEIGHT) == before


@pytest.mark.parametrize(
    ("type", "code", "keys"),
    [
        ("Observation", "patient", ("subject",)),
        ("Observation", "combo-code", ("code", "component-code")),
        ("Observation", "combo-value-quantity", ("component-value-quantity", "value-quantity")),
        ("Observation", "combo-code-value-quantity", ("code-value-quantity", "component-code-value-quantity")),
        ("Coverage", "patient", ("beneficiary",)),
        ("AuditEvent", "patient", ("agent", "entity")),
        ("AllergyIntolerance", "patient", ("patient",)),
        ("EpisodeOfCare", "care-manager", ("care-manager",)),
        ("Organization", "name", ("name",)),
    ],
)  # fmt: skip
def test_a_parameter_that_says_what_others_say_has_no_entries(
    type: str, code: str, keys: tuple[str, ...]
) -> None:
    assert INDEX.parameters(type)[code].keys == keys


def test_every_parameter_of_every_type_that_has_an_expression_can_be_compiled() -> None:
    for type in INDEX.definitions.types:
        assert INDEX.entries({"resourceType": type, "id": "x"}) == (
            [Entry("token", "deceased", "http://hl7.org/fhir/special-values", "false")]
            if type == "Patient"
            else []
        )


@pytest.mark.parametrize(("type", "code"), sorted(CARRIED.items()))
def test_the_date_that_links_carry_is_one_value_of_one_element(type: str, code: str) -> None:
    parameter = INDEX.parameters(type)[code]
    (part,) = parts_of(parameter.definition.expression)
    path = part.strip("()").partition(" as ")[0].split(".")
    steps = [INDEX.definitions.children(type), INDEX.definitions.children(path[0])]
    element = steps[0].get(path[1]) or steps[0][f"{path[1]}[x]"]
    assert (parameter.kind, parameter.own, len(path), element.max) == ("date", True, 2, 1)


@pytest.mark.parametrize("reference", ["Nothing/1", "Patient/", "Patient/a/b", "Patient/a b"])
def test_what_names_no_resource_is_an_address(reference: str) -> None:
    entries = INDEX.entries({**HEIGHT, "subject": {"reference": reference}})
    assert Entry("token", "subject", None, reference) in entries
    assert not [each for each in entries if each.shape == "link"]


def test_links_carry_no_date_where_there_is_none() -> None:
    undated = {key: value for key, value in HEIGHT.items() if key != "effectiveDateTime"}
    assert Entry("link", "subject", "Patient", "p") in INDEX.entries(undated)


@pytest.mark.parametrize(
    ("written", "covers"),
    [
        ("2020-05-01", "2020-04-30T14:00:00Z"),
        ("2020-05", "2020-04-30T14:00:00Z"),
        ("2020", "2019-12-31T13:00:00Z"),
    ],
)
def test_dates_without_an_offset_are_read_where_the_clinic_is(written: str, covers: str) -> None:
    index = Index(load(), BASE, ZoneInfo("Australia/Sydney"))
    world = World([{**HEIGHT, "effectiveDateTime": written}], index)
    assert world.search(f"Observation?date={written}") == ["h"]
    assert world.search(f"Observation?date=ge{covers}&date=sa{covers}") == []
    assert world.search(f"Observation?date=ge{covers}") == ["h"]
    assert World([{**HEIGHT, "effectiveDateTime": covers}], index).search(
        f"Observation?date={written}"
    ) == ["h"]


def test_the_version_tells_one_extraction_from_another() -> None:
    same = Index(load(), "https://elsewhere.example", UTC)
    other = Index(load(), BASE, ZoneInfo("Europe/Amsterdam"))
    assert same.version == INDEX.version
    assert other.version != INDEX.version


@pytest.mark.parametrize(
    "value",
    [
        {"effectiveDateTime": "2020-05-01T10:00:00.1234567+02:00"},
        {"effectiveDateTime": "0001-01-01T00:00:00+14:00"},
        {"effectiveDateTime": "9999-12-31T23:59:59-12:00"},
        {"effectiveDateTime": "9999"},
        {"effectivePeriod": {"start": "2020-05-02", "end": "2020-05-01"}},
        {"effectivePeriod": {"extension": [{"url": "urn:x"}]}},
        {"effectiveTiming": {"code": {"text": "BID"}}},
    ],
)
def test_a_value_at_the_edge_is_present_and_its_range_has_an_order(value: dict[str, Any]) -> None:
    rest = {key: each for key, each in HEIGHT.items() if not key.startswith("effective")}
    entries = INDEX.entries({**rest, **value})
    assert all(e.low <= e.high for e in entries if e.low is not None and e.high is not None)
    assert World([{**rest, **value}]).search("Observation?date:missing=false") == ["h"]
