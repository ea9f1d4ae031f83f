"""The searches that are asked: shapes with places for values, and the pools they are drawn from.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import quote

from salus.bench.world import Resource, World

# Outside the timing: offered by few servers, or never to be timed at all.
APART = frozenset({"o2", "x1", "x2", "e1"})
NO_SUCH = {"family": "Zzyzzx", "loinc": "99999-9", "snomed": "999999999"}
POOL = 2_000  # ids of one type in a pool
COMMON = 40  # codes in a pool
_PLACE = re.compile(r"\{(\w+)\}")

Draw = Mapping[str, str]
Pools = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Shape:
    """One search with places for values. `totals`: the right total by tier, where it is fixed."""

    id: str
    family: str
    url: str
    pools: tuple[str, ...]
    totals: Mapping[str, int]

    @property
    def timed(self) -> bool:
        return self.id not in APART

    @property
    def paged(self) -> bool:
        """Whether it follows the next links of another shape."""
        return self.url.startswith("{next link")

    def draw(self, pools: Pools, chance: Random) -> dict[str, str]:
        return {name: chance.choice(pools[name]) for name in self.pools}

    def fill(self, draw: Draw) -> str:
        """The path and query, percent-encoded."""
        path, _, query = self.url.partition("?")
        values = {name: ("" if value == "none" else value) for name, value in draw.items()}
        filled = _PLACE.sub(lambda place: quote(values[place[1]], safe=""), path)
        pairs = [pair.partition("=") for pair in query.split("&") if pair]
        asked = "&".join(
            f"{quote(name, safe=':')}="
            + quote(_PLACE.sub(lambda place: values[place[1]], value), safe=",/:")
            for name, _, value in pairs
        )
        return f"{path and filled}?{asked}" if asked else filled


def read_shapes(path: Path) -> list[Shape]:
    """The shapes of a queries.json."""
    return [
        Shape(
            each["id"],
            each["family"],
            each["url"],
            tuple(each.get("pools", ())),
            each.get("expect_total", {}),
        )
        for each in json.loads(path.read_text(encoding="utf-8"))["queries"]
    ]


def harvest(world: World, chance: Random) -> Pools:
    """Pools of values from the data as this server numbered it."""
    patients = world.types["Patient"]
    observations = world.types["Observation"]
    encounters = world.types["Encounter"]
    names = [name for each in patients.values() for name in each.get("name", ())]
    families = sorted({name["family"] for name in names if "family" in name})
    taking_part = {
        part["individual"]["reference"].removeprefix("Practitioner/")
        for each in encounters.values()
        for part in each.get("participant", ())
        if str(part.get("individual", {}).get("reference", "")).startswith("Practitioner/")
    }
    return {
        "patient": sorted(patients),
        "observation": _some(observations, chance),
        "encounter": _some(encounters, chance),
        "practitioner": sorted(taking_part),
        "family": families + [NO_SUCH["family"]] * max(1, len(families) // 20),
        "given": sorted({given for name in names for given in name.get("given", ())}),
        "mid3": sorted({family[1:4] for family in families if len(family) >= 4}),
        "city": sorted(
            {
                address["city"]
                for each in patients.values()
                for address in each.get("address", ())
                if "city" in address
            }
        ),
        "mrn": _records(patients.values()),
        "loinc": [*_commonest(observations.values()), NO_SUCH["loinc"]],
        "snomed": [*_commonest(world.types["Condition"].values()), NO_SUCH["snomed"]],
        "birthdate": sorted(
            {each["birthDate"] for each in patients.values() if "birthDate" in each}
        ),
        "obsdate": _days(each.get("effectiveDateTime", "") for each in observations.values()),
        "encdate": _days(each.get("period", {}).get("start", "") for each in encounters.values()),
        "qty": ["30", "80", "100", "140", "170", "200", "99999"],
        "pfx": ["eq", "lt", "gt", "ge", "le", "sa", "eb", "none"],
        "cmp": ["eq", "lt", "gt", "ge", "le", "none"],
    }


def _some(of: Mapping[str, Resource], chance: Random) -> list[str]:
    ids = sorted(of)
    return chance.sample(ids, POOL) if len(ids) > POOL else ids


def _days(times: Iterable[str]) -> list[str]:
    return sorted({each[:10] for each in times if each})


def _records(patients: Iterable[Resource]) -> list[str]:
    """Medical record numbers, of the system that the shapes name."""
    return sorted(
        each["value"]
        for patient in patients
        for each in patient.get("identifier", ())
        if each.get("system") == "http://hospital.smarthealthit.org"
    ) or ["none-here"]


def _commonest(resources: Iterable[Resource]) -> list[str]:
    counted = Counter(
        coding["code"]
        for each in resources
        for coding in each.get("code", {}).get("coding", ())
        if "code" in coding
    )
    return [code for code, _ in counted.most_common(COMMON)]
