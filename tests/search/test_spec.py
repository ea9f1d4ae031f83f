"""The cases of tests/spec/search-*.json: for each type of search parameter resources, searches of
them, and which they find or why they are refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.json import parse
from conformance.outcome import FhirError
from tests.search.world import World

SPEC = Path(__file__).parent.parent / "spec"


def _cases() -> Iterator[Any]:
    for file in sorted(SPEC.glob("search-*.json")):
        spec = parse(file.read_bytes())
        world = World(spec["fixtures"])
        for case in spec["cases"]:
            yield pytest.param(world, case, id=case["search"])


@pytest.mark.parametrize(("world", "case"), list(_cases()))
def test_a_search_finds_exactly_these_or_says_why_not(world: World, case: dict[str, Any]) -> None:
    if "refused" not in case:
        assert world.search(case["search"]) == case["ids"]
        return
    with pytest.raises(FhirError) as refused:
        world.search(case["search"])
    assert refused.value.status == case["status"]
    assert case["refused"] in refused.value.issues[0].text
