"""Codes of systems that no value set lists: units, currencies, media types and languages. What is
known of them is handed in, since this package knows R4 alone.

https://hl7.org/fhir/R4/datatypes.html#Quantity, https://hl7.org/fhir/R4/valueset-ucum-units.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from conformance.fhirpath import Environment
from conformance.validator.invariants import Held
from conformance.validator.rules import Rule

UCUM = "http://unitsofmeasure.org"

Wrong = Callable[[str], str | None]  # why a text is no code of a system; None when it is one


class Systems(NamedTuple):
    """`wrong` by code system; `comparable` tells whether two units measure the same."""

    wrong: Mapping[str, Wrong] = {}
    comparable: Callable[[str, str], bool] | None = None


NO_SYSTEMS = Systems()

# The units that the largest value set of these types allows: those comparable with this one; and
# some of them.
_KINDS: Mapping[str, tuple[str, str, str]] = {
    "Age": ("a", "time", "a, mo, wk or d"),
    "Duration": ("s", "time", "s, min, h or d"),
    "Distance": ("m", "length", "m, cm or km"),
}
_QUANTITIES = frozenset(("Quantity", "SimpleQuantity", "Count", *_KINDS))
_CODE = frozenset(("code",))


def measured(path: str, systems: Systems) -> tuple[Held, ...]:
    """What the units of a quantity must be, by the path of its type: of an age, a duration or a
    distance an error, of other quantities advice."""
    found: list[Held] = []
    wrong, comparable = systems.wrong.get(UCUM), systems.comparable
    if path in _QUANTITIES - _KINDS.keys() and wrong is not None:
        text = (
            "The code of a quantity in UCUM should be a unit of UCUM, such as mm[Hg], Cel or /min"
        )
        found.append(Held(_CODE, _is_unit(wrong), Rule("warning", "code-invalid", text)))
    if path in _KINDS and comparable is not None:
        unit, kind, some = _KINDS[path]
        text = f"The code of this quantity must be a unit of {kind} in UCUM, such as {some}"
        found.append(Held(_CODE, _measures(comparable, unit), Rule("error", "code-invalid", text)))
    return tuple(found)


def _is_unit(wrong: Wrong) -> Callable[[Any, Environment], bool]:
    def holds(value: Any, environment: Environment) -> bool:
        code = value.get("code")
        return value.get("system") != UCUM or type(code) is not str or wrong(code) is None

    return holds


def _measures(
    comparable: Callable[[str, str], bool], unit: str
) -> Callable[[Any, Environment], bool]:
    def holds(value: Any, environment: Environment) -> bool:
        code = value.get("code")
        return value.get("system") != UCUM or type(code) is not str or comparable(code, unit)

    return holds
