"""The data that was loaded, as plain facts with the server's own ids: what the pools of values are
drawn from, and what the right answers are judged by.

https://hl7.org/fhir/R4/http.html#transaction-response
"""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

Resource = dict[str, Any]

# The elements that some shape or pool looks at; the rest is dropped, so that big tiers fit.
KEPT = {
    "Patient": ("name", "address", "gender", "birthDate", "identifier"),
    "Observation": tuple(
        "subject encounter code category effectiveDateTime valueQuantity component".split()
    ),
    "Encounter": ("subject", "period", "class", "participant"),
    "Condition": ("subject", "code"),
    "MedicationRequest": ("subject",),
    "ExplanationOfBenefit": ("patient",),
    "Practitioner": ("identifier",),
}
# What is created and updated in the write phases: whole bodies, so many of each type.
TEMPLATES = {
    "Patient": 40,
    "Observation": 100,
    "Encounter": 40,
    "Condition": 40,
    "MedicationRequest": 40,
}


def lines(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for line in file:
            if line.strip():
                yield line.strip()


class World:
    """Facts by type and id. `templates` are whole resources with references that resolve."""

    def __init__(self) -> None:
        self.types: dict[str, dict[str, Resource]] = defaultdict(dict)
        self.counts: Counter[str] = Counter()
        self.templates: dict[str, list[Resource]] = defaultdict(list)
        self.failed = 0
        self._identified: dict[str, str] = {}

    def add(self, bundle: Resource, reply: Mapping[str, Any]) -> None:
        """Take in a Bundle as it was sent, and the Bundle that answered it."""
        entries, answers = bundle["entry"], reply.get("entry", [])
        places = [_place(each) for each in answers] + [None] * (len(entries) - len(answers))
        urls = {
            entry["fullUrl"]: place
            for entry, place in zip(entries, places, strict=True)
            if place and "fullUrl" in entry
        }
        for entry, place in zip(entries, places, strict=True):
            if place is None:
                self.failed += 1
            else:
                self._take(entry["resource"], place, urls)

    def _take(self, resource: Resource, place: str, urls: Mapping[str, str]) -> None:
        type, _, id = place.partition("/")
        self.counts[type] += 1
        for each in resource.get("identifier", ()) if type == "Practitioner" else ():
            self._identified[f"{type}?identifier={each.get('system')}|{each.get('value')}"] = place
        if len(self.templates[type]) < TEMPLATES.get(type, 0):
            self.templates[type].append(self._linked(resource, urls))
        if type in KEPT:
            kept = {name: resource[name] for name in KEPT[type] if name in resource}
            self.types[type][id] = self._linked(kept, urls)

    def _linked(self, value: Any, urls: Mapping[str, str]) -> Any:
        """A copy whose references name the server's ids."""
        if isinstance(value, dict):
            made = {name: self._linked(each, urls) for name, each in value.items()}
            target = made.get("reference")
            if isinstance(target, str):
                made["reference"] = urls.get(target) or self._identified.get(target) or target
            return made
        if isinstance(value, list):
            return [self._linked(each, urls) for each in value]
        return value


def decode(line: bytes) -> Resource:
    """JSON with its numbers exact, by Python's own decoder: it judges the server's."""
    value: Resource = json.loads(line, parse_float=Decimal)
    return value


def encode(resource: Resource) -> bytes:
    """JSON of a template; floats are good enough for what is only written."""
    return json.dumps(resource, ensure_ascii=False, default=float).encode()


def _place(entry: Mapping[str, Any]) -> str | None:
    """Type/id of an entry that was stored."""
    response = entry.get("response", {})
    if not str(response.get("status", "")).startswith("2"):
        return None
    parts = str(response.get("location", "")).partition("/_history/")[0].split("/")
    return "/".join(parts[-2:]) if len(parts) >= 2 else None
