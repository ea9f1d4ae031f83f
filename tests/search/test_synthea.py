"""Sixty generated patients: every total that a plain-Python count over the same file gives."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from conformance.json import parse
from tests.search.world import World
from tests.shared import shared

FOLDER = shared("data/synthea")
TIER = "bench60"


def _totals() -> dict[str, int]:
    tiers = json.loads((FOLDER / "oracle-totals.json").read_text())
    return next(each["totals"] for each in tiers if each["tier"] == TIER)


def _resources() -> Iterator[dict[str, Any]]:
    with gzip.open(FOLDER / f"smart-{TIER}.ndjson.gz") as file:
        for number, line in enumerate(file):
            for place, entry in enumerate(parse(line)["entry"]):
                yield {**entry["resource"], "id": f"{number}-{place}"}


@pytest.fixture(scope="module")
def hospital() -> World:
    return World(_resources())


@pytest.mark.parametrize(("url", "total"), sorted(_totals().items()))
def test_a_search_of_the_hospital_finds_as_many_as_the_oracle(
    hospital: World, url: str, total: int
) -> None:
    assert len(hospital.search(url)) == total
