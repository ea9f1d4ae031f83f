"""_include and _revinclude: which resources a page brings with it."""

import pytest

from conformance.outcome import FhirError
from fhir_server.search.context import Include
from fhir_server.search.includes import include_queries
from fhir_server.storage.store import AnyOf, Query
from tests.search.world import World, context

CLINIC = World(
    [
        {"resourceType": "Patient", "id": "eve", "managingOrganization": {"reference": "Organization/o"}},
        {"resourceType": "Patient", "id": "adam"},
        {"resourceType": "Organization", "id": "o"},
        {"resourceType": "Practitioner", "id": "d"},
        {"resourceType": "Encounter", "id": "visit", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "Patient/eve"}},
        {"resourceType": "Observation", "id": "e", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/eve"}, "encounter": {"reference": "Encounter/visit"}, "performer": [{"reference": "Practitioner/d"}, {"reference": "Organization/o"}]},
        {"resourceType": "Observation", "id": "a", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/adam"}},
        {"resourceType": "Provenance", "id": "p", "recorded": "2020-01-01T00:00:00Z", "target": [{"reference": "Observation/e"}], "agent": [{"who": {"reference": "Practitioner/d"}}]},
    ]
)  # fmt: skip


def added(url: str, page: dict[str, list[str]], **changed: object) -> list[str]:
    """What the includes of a search bring to a page, as Type/id."""
    search = CLINIC.parse(url, **changed)
    return [
        f"{type}/{id}"
        for include in search.includes
        for type, query in include_queries(include, page, context(**changed))
        for id in CLINIC.find(type, query)
    ]


@pytest.mark.parametrize(
    ("url", "page", "expected"),
    [
        ("Observation?_include=Observation:patient", {"Observation": ["e"]}, ["Patient/eve"]),
        ("Observation?_include=Observation:subject", {"Observation": ["e", "a"]}, ["Patient/eve", "Patient/adam"]),
        ("Observation?_include=Observation:performer", {"Observation": ["e"]}, ["Practitioner/d", "Organization/o"]),
        ("Observation?_include=Observation:performer:Organization", {"Observation": ["e"]}, ["Organization/o"]),
        ("Observation?_include=Observation:subject", {"Encounter": ["visit"]}, []),
        ("Patient?_revinclude=Observation:patient", {"Patient": ["eve"]}, ["Observation/e"]),
        ("Patient?_revinclude=Observation:subject:Group", {"Patient": ["eve"]}, []),
        ("Patient?_revinclude=Provenance:target", {"Patient": ["eve"]}, []),
        ("Observation?_revinclude=Provenance:target", {"Observation": ["e", "a"]}, ["Provenance/p"]),
        ("Patient?_include:iterate=Patient:organization", {"Patient": ["eve"]}, ["Organization/o"]),
    ],
)  # fmt: skip
def test_an_include_follows_one_reference(
    url: str, page: dict[str, list[str]], expected: list[str]
) -> None:
    assert added(url, page) == expected


def test_a_wildcard_follows_every_reference_and_each_resource_comes_once() -> None:
    found = added("Observation?_include=*", {"Observation": ["e"]})
    assert sorted(found) == ["Encounter/visit", "Organization/o", "Patient/eve", "Practitioner/d"]
    assert found == added("Observation?_include=Observation:*", {"Observation": ["e"]})
    assert sorted(added("Patient?_revinclude=*", {"Patient": ["eve"]})) == ["Encounter/visit", "Observation/e"]  # fmt: skip


def test_an_iterated_wildcard_follows_what_was_included_too() -> None:
    url = "Observation?_include:iterate=*"
    assert added(url, {"Patient": ["eve"]}) == ["Organization/o"]
    assert added("Observation?_include=*", {"Patient": ["eve"]}) == []


def test_an_include_is_read_with_its_parts() -> None:
    url = "Patient?_include=Patient:link:Patient&_revinclude:iterate=Observation:*&_revinclude=*"
    assert CLINIC.parse(url).includes == (
        Include("Patient", "link", "Patient"),
        Include("Observation", "*", None, iterate=True, reverse=True),
        Include("*", "*", None, reverse=True),
    )


def test_only_what_the_caller_may_see_is_added() -> None:
    def visible(type: str) -> Query:
        return AnyOf() if type == "Practitioner" else CLINIC.parse(type).query

    url, page = "Observation?_include=Observation:performer", {"Observation": ["e"]}
    assert added(url, page, visible=visible) == ["Organization/o"]


def test_a_wildcard_leaves_out_types_without_a_scope() -> None:
    def check(type: str) -> None:
        if type not in ("Observation", "Patient"):
            raise FhirError("forbidden", "no")

    assert added("Observation?_include=*", {"Observation": ["e"]}, check=check) == ["Patient/eve"]
    assert added("Patient?_revinclude=*", {"Patient": ["eve"]}, check=check) == ["Observation/e"]


@pytest.mark.parametrize("value", ["Observation", "Observation:", "Observation:a:b:c", ":subject"])
def test_a_malformed_include_is_refused(value: str) -> None:
    with pytest.raises(FhirError) as refused:
        CLINIC.parse(f"Observation?_include={value}")
    assert refused.value.status == 400
