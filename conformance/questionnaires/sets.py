"""The value sets that a Questionnaire names: those known here, and those contained in it.

https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.answerValueSet
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from conformance.outcome import FhirError
from conformance.primitives import is_id
from conformance.questionnaires.budget import CONTAINED, Budget
from conformance.questionnaires.values import objects

_LOCAL = "urn:contained:"  # what contained value sets are known by beside the others


class Codes(Protocol):
    """What is asked of terminology; None says that it cannot be told."""

    def member(
        self, value_set: str, system: str | None, code: str, version: str | None = None
    ) -> bool | None:
        """Whether a code is in a value set."""
        ...


@runtime_checkable
class Extensible(Protocol):
    """A terminology that takes more resources, for whoever brings them only."""

    def having(self, resources: Iterable[Mapping[str, Any]]) -> Codes:
        """The same with these."""
        ...


class ValueSets:
    """Codes, and the value sets of `contained`, which a url with # means."""

    def __init__(self, codes: Codes, contained: Any, budget: Budget) -> None:
        self._codes = codes
        self._budget = budget
        self._contained = objects(contained)
        self._own: Codes | None = None

    def member(self, value_set: str, coded: Mapping[str, Any]) -> bool | None:
        """Whether a Coding, or a Quantity by its unit, is in a value set. Not, if it has no system
        or no code; None where it cannot be told. TooMuch."""
        system, code, version = coded.get("system"), coded.get("code"), coded.get("version")
        if not isinstance(system, str) or not isinstance(code, str):
            return False
        version = version if isinstance(version, str) else None
        if not value_set.startswith("#"):
            return self._codes.member(value_set, system, code, version)
        try:
            if self._own is None:
                self._budget.spend(CONTAINED)
                self._own = _extended(self._codes, self._contained)
            return self._own.member(_LOCAL + value_set[1:], system, code, version)
        except (FhirError, ValueError, KeyError, TypeError, AttributeError):
            return None  # a contained value set need not be valid, and is told so elsewhere


def _extended(codes: Codes, contained: Sequence[Mapping[str, Any]]) -> Codes:
    if not isinstance(codes, Extensible):
        return codes
    own: list[Mapping[str, Any]] = []
    for each in contained:
        if each.get("resourceType") == "CodeSystem":
            own.append(each)
        elif each.get("resourceType") == "ValueSet" and is_id(each.get("id")):
            rest = {name: value for name, value in each.items() if name != "version"}
            own.append({**rest, "url": _LOCAL + each["id"]})
    return codes.having(own)
