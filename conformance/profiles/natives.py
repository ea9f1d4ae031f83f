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
# No value of FHIR is a DateTime of FHIRPath.
_NEVER = re.compile(r"\$this is DateTime implies \$this\.toString\(\)\.length\(\) ?>= ?\d+")
# The system of a value of one type; with `value.` it is asked of a child that no such value has.
_SYSTEM = re.compile(
    r"(value\.)?ofType\((\w+)\)\.((?:coding\.)?system)\.empty\(\) or "
    r"(\(?)\1?ofType\(\2\)\.\3 (?:=|contains) '([^']*)'\)?"
)
# The types that the value of an Observation may be.
_VALUES = frozenset(
    "CodeableConcept Period Quantity Range Ratio SampledData boolean dateTime integer string"
    " time".split()
)


def of(expression: str, type_: str) -> Invariant | None:
    """The invariant on values of a type, if it is one of these."""
    found = _PRECISE.fullmatch(expression)
    if found is not None:
        return _precise(int(found[1] or found[2])) if type_ == "dateTime" else always
    if _NEVER.fullmatch(expression):
        return always if type_ in _VALUES else None
    found = _SYSTEM.fullmatch(expression)
    if found is None or type_ not in _VALUES:
        return None
    at, kind, path, _, system = found.groups()
    if at or kind != type_:
        return always
    return _of_system(system) if path == "system" and kind == "Quantity" else None


def always(value: Any, environment: Environment) -> bool:
    """Holds of whatever there is: it need not be asked."""
    return True


def _precise(length: int) -> Invariant:
    def holds(value: Any, environment: Environment) -> bool:
        return type(value) is str and len(value) >= length

    return holds


def _of_system(system: str) -> Invariant:
    def holds(value: Any, environment: Environment) -> bool:
        if type(value) is not dict:
            return True
        found = value.get("system")
        return bool(found == system) or (found is None and value.get("_system") is None)

    return holds
