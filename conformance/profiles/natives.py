"""Invariants of much used profiles in plain Python, where that is several times as fast; a test
holds that they agree with their expressions.

https://hl7.org/fhir/R4/observation-vitalsigns.html
"""

from __future__ import annotations

import re
from typing import Any

from conformance.fhirpath import Environment, Invariant

# A dateTime is as precise as its text is long.
_PRECISE = re.compile(
    r"\$this is dateTime implies \$this\.toString\(\)\.length\(\) ?>= ?(\d+)"
    r"|\$this\.ofType\(dateTime\)\.empty\(\) or "
    r"\(\$this as dateTime\)\.toString\(\)\.length\(\) ?>= ?(\d+)"
)


def of(expression: str, type_: str) -> Invariant | None:
    """The invariant on values of a type, if it is one of these."""
    found = _PRECISE.fullmatch(expression)
    if found is None:
        return None
    return _precise(int(found[1] or found[2])) if type_ == "dateTime" else _always


def _precise(length: int) -> Invariant:
    def holds(value: Any, environment: Environment) -> bool:
        return type(value) is str and len(value) >= length

    return holds


def _always(value: Any, environment: Environment) -> bool:
    return True
