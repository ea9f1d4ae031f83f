"""JSON Patch by the published cases, in process: their documents are no resources."""

import copy
import json

import pytest

from conformance.outcome import FhirError
from fhir_server.interaction import Content
from fhir_server.patching import apply, json_patch, read_patch
from tests.security.clinic import core
from tests.shared import shared


def _cases():
    return json.loads(shared("suites/patch/json-patch-tests.json").read_text())


def patch(operations, type="Patient"):
    return json_patch.read(core(), type, operations, 1_000)


def test_every_published_case_ends_as_it_says():
    ends = {}
    for number, case in enumerate(_cases()):
        name = f"{number} {case.get('comment', '')}"
        document = copy.deepcopy(case["doc"])
        try:
            ends[name] = patch(case["patch"]).applied(document) == case.get("expected")
        except FhirError:
            ends[name] = "error" in case
    assert len(ends) == 16
    assert [name for name, right in ends.items() if not right] == []


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/id", "value": "b"},
        {"op": "replace", "path": "/resourceType", "value": "Group"},
        {"op": "remove", "path": "/id"},
        {"op": "replace", "path": "", "value": {"resourceType": "Patient"}},
    ],
)
def test_a_patch_never_changes_what_a_resource_is(operation):
    with pytest.raises(FhirError) as refused:
        apply({"resourceType": "Patient", "id": "a"}, patch([operation]))
    assert refused.value.issues[0].text == "A patch cannot change resourceType or id"


@pytest.mark.parametrize(
    ("operation", "tests"),
    [
        ({"op": "replace", "path": "/status", "value": "amended"}, False),
        ({"op": "replace", "path": "/code", "value": {"text": "x"}}, True),
        ({"op": "replace", "path": "/subject", "value": {"reference": "Patient/a"}}, True),
        ({"op": "replace", "path": "/status/x", "value": "x"}, True),
        ({"op": "add", "path": "/component/-", "value": {}}, True),
        ({"op": "remove", "path": "/component"}, True),
        ({"op": "copy", "from": "/code", "path": "/component/0/code"}, True),
        ({"op": "test", "path": "/status", "value": "final"}, True),
    ],
)
def test_a_json_patch_tests_when_the_resource_decides_whether_it_succeeds(operation, tests):
    assert patch([operation], "Observation").tests is tests


@pytest.mark.parametrize(
    ("media", "body", "said"),
    [
        ("application/fhir+json", b'[{"op": "test"}]', "is an array, as a JSON Patch is, and that"),
        ("text/plain", b"[]", "is sent as application/fhir+json or application/json-patch+json"),
    ],
)
def test_a_patch_under_another_media_type_is_told_which_is_taken(media, body, said):
    with pytest.raises(FhirError) as refused:
        read_patch(core(), "Patient", Content(media, body))
    (issue,) = refused.value.issues
    assert (refused.value.status, said in issue.text) == (415, True)
    assert issue.text.endswith("application/json-patch+json")
