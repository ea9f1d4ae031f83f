"""Currencies (ISO 4217).

https://hl7.org/fhir/R4/valueset-currencies.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from terminology.provider import Concept
from terminology.providers.contents import content
from terminology.providers.listed import Listed


def currencies() -> Listed:
    """Those in use, and those that were: these are inactive."""
    return Listed("urn:iso:std:iso:4217", "ISO 4217 Currencies", None, _currencies)


def _currencies() -> Iterator[Concept]:
    listed: dict[str, list[Any]] = content("currencies")["currencies"]
    for code, (name, used) in listed.items():
        yield Concept(code, name, inactive=not used, status="active" if used else "retired")
