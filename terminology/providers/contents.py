"""The lists that the build script made, each with the version of its source.

https://hl7.org/fhir/R4/terminologies-systems.html
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

_FOLDER = Path(__file__).parent


@cache
def content(name: str) -> dict[str, Any]:
    """A list by its name: with its source, licence, version and what it lists."""
    found: dict[str, Any] = msgspec.json.decode(
        gzip.decompress((_FOLDER / f"{name}.json.gz").read_bytes())
    )
    return found
