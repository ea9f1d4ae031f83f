"""JSON Patch by the published cases, in process: their documents are no resources."""

import copy
import json

import pytest

from conformance.outcome import FhirError
from fhir_server.patching import apply, json_patch
from tests.shared import shared


def _cases():
    return json.loads(shared("suites/patch/json-patch-tests.json").read_text())


def test_every_published_case_ends_as_it_says():
    ends = {}
    for number, case in enumerate(_cases()):
        name = f"{number} {case.get('comment', '')}"
        document = copy.deepcopy(case["doc"])
        try:
            ends[name] = json_patch.read(case["patch"], 1_000).applied(document) == case.get(
                "expected"
            )
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
        apply({"resourceType": "Patient", "id": "a"}, json_patch.read([operation], 1_000))
    assert refused.value.issues[0].text == "A patch cannot change resourceType or id"
