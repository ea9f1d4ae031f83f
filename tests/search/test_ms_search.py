"""The date, quantity and token cases of suites/ms-search, taken from the end-to-end tests of
another server; where R4's text says otherwise (`specExpect`), the text counts."""

import json
from typing import Any

import pytest

from conformance.outcome import FhirError
from tests.search.world import World
from tests.shared import shared

FOLDER = shared("suites/ms-search")
TAG = "tag"


def _cases(name: str) -> list[Any]:
    suite = json.loads((FOLDER / f"ms-{name}Search.json").read_text().replace("{{tag}}", TAG))
    world = World(suite["fixtures"])
    births = [case for case in suite["cases"] if case["query"].startswith("birthdate")]
    for case in births:
        case["type"] = "Patient"
    return [pytest.param(world, case, id=f"{name} {case['query']}") for case in suite["cases"]]


@pytest.mark.parametrize(
    ("world", "case"), [*_cases("Date"), *_cases("Quantity"), *_cases("Token")]
)
def test_a_search_finds_what_the_suite_expects(world: World, case: dict[str, Any]) -> None:
    url = f"{case['type']}?{case['query']}"
    if "status" in case:
        with pytest.raises(FhirError) as refused:
            world.search(url)
        assert refused.value.status == case["status"]
        return
    expected = case.get("specExpect", case.get("expect"))
    assert sorted(map(int, world.search(url))) == sorted(expected)
