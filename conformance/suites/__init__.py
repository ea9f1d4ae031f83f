"""Suites that come with the product: TestScripts of our own, a file each.

https://hl7.org/fhir/R4/testscript.html
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from conformance.testscript import Script, suite

CORE = "core"  # all of them
_FOLDER = Path(__file__).parent


@cache
def shipped() -> dict[str, Script]:
    """The suites by name, in order."""
    found = {each.place.removesuffix(".json"): each for each in suite(_FOLDER)}
    return {name: found[name] for name in sorted(found)}
