"""Definitions of core and of packages are found by their url and read, and never changed."""

import pytest

from fhir_server import operations
from fhir_server.packages.ours import DEFINED, URL
from tests.fhir_server.packages.serving import Serving
from tests.security.clinic import grant as granted

PATIENT = "http://hl7.org/fhir/StructureDefinition/Patient"
GENDER = "http://hl7.org/fhir/ValueSet/administrative-gender"


@pytest.fixture(scope="module")
def serving():
    return Serving()


def test_a_definition_is_found_by_its_url_and_read_by_the_id_that_it_is_found_with(serving):
    found = serving.search("StructureDefinition", url=PATIENT)
    assert found["total"] == 1
    (entry,) = found["entry"]
    resource = entry["resource"]
    assert (resource["url"], resource["version"]) == (PATIENT, "4.0.1")
    assert resource["meta"]["source"] == "urn:package:hl7.fhir.r4.core#4.0.1"
    assert entry["fullUrl"].endswith(f"/StructureDefinition/{resource['id']}")
    assert serving.read("StructureDefinition", resource["id"]) == resource
    assert serving.read("ValueSet", resource["id"]) is None
    again = serving.search("StructureDefinition", _id=resource["id"])
    assert [each["resource"] for each in again["entry"]] == [resource]


@pytest.mark.parametrize(
    ("asked", "total"),
    [
        ({"url": GENDER, "version": "4.0.1"}, 1),
        ({"url": GENDER, "version": "4.0.0"}, 0),
        ({"url": GENDER, "status": "active"}, 1),
        ({"url": GENDER, "status": "draft,active"}, 1),
        ({"url": GENDER, "name": "administrativeg"}, 1),
        ({"url": GENDER, "name": "gender"}, 0),
        ({"url": GENDER, "_summary": "count"}, 1),
        ({"url": f"{GENDER},http://hl7.org/fhir/ValueSet/observation-status"}, 2),
        ({"url": GENDER, "publisher": "HL7"}, 0),  # which a table of contents does not tell
        ({"version": "4.0.1"}, 0),
    ],
)
def test_a_search_by_url_is_narrowed_by_what_else_is_asked(serving, asked, total):
    assert serving.search("ValueSet", **asked)["total"] == total


def test_what_is_stored_is_found_beside_what_is_published(serving):
    own = {"resourceType": "ValueSet", "url": GENDER, "version": "x", "status": "draft"}
    serving.create(own)
    found = serving.search("ValueSet", url=GENDER)
    assert [each["resource"]["version"] for each in found["entry"]] == ["x", "4.0.1"]
    assert found["total"] == 2


def test_a_scope_that_a_search_parameter_limits_does_not_open_definitions(serving):
    for scopes, total in (
        ("system/StructureDefinition.rs", 1),
        ("patient/*.rs", 1),
        ("system/StructureDefinition.rs?status=draft", 0),
    ):
        caller = granted(scopes, patient="p") if "patient" in scopes else granted(scopes)
        assert serving.search("StructureDefinition", caller, url=PATIENT)["total"] == total


def test_a_definition_of_a_package_cannot_be_changed_or_deleted(serving):
    (entry,) = serving.search("StructureDefinition", url=PATIENT)["entry"]
    id = entry["resource"]["id"]
    serving.delete("StructureDefinition", id)
    assert serving.read("StructureDefinition", id) == entry["resource"]


def test_every_operation_of_our_own_has_a_definition_that_is_valid_and_found_by_its_url(serving):
    others = {each.url for each in DEFINED if each.url}
    own = [
        each
        for each in operations.ALL.values()
        if each.definition.startswith(URL) or each.definition in others
    ]
    assert {each.code for each in own} == {each.code for each in DEFINED}
    for each in own:
        (entry,) = serving.search("OperationDefinition", url=each.definition)["entry"]
        resource = entry["resource"]
        assert resource["code"] == each.code
        assert resource["affectsState"] is each.writes
        offered = {level for level in ("system", "type", "instance") if resource[level]}
        assert offered == each.levels
        assert set(resource.get("resource", ())) - {"Resource"} == each.types
        found = serving.server.core.validator.validate(resource)
        assert [each.key for each in found] == ["dom-6"]  # it has no narrative, as none here has


def test_every_operation_that_no_guide_defines_has_a_definition_here(serving):
    guides = ("http://hl7.org/fhir/us/", "http://hl7.org/fhir/uv/")
    for each in operations.ALL.values():
        for url in {each.definition, *each.definitions.values()}:
            if url and not url.startswith(guides):
                assert serving.search("OperationDefinition", url=url)["total"] == 1, url
