"""What an evaluation asks of its surroundings: other resources, terminology, profiles, units.

https://hl7.org/fhir/R4/fhirpath.html#functions
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Protocol


class Units(Protocol):
    """UCUM, as far as comparing and calculating need it."""

    def canonical(self, value: Decimal, code: str, /) -> tuple[Decimal, str] | None:
        """The value in base units, and these; None for what is no unit. Products and quotients are
        asked for as UCUM writes them, such as `(cm).(m)`."""
        ...


class Host(Protocol):
    """Who evaluates. Nothing here raises for what is unknown: None says so."""

    @property
    def units(self) -> Units | None:
        """Without, only equal units, durations and a few masses and lengths compare."""
        ...

    def resolve(self, reference: str) -> tuple[str, Any] | None:
        """The type and the JSON of what a reference that is not to a contained resource names."""
        ...

    def member_of(self, value_set: str, value: Any) -> bool | None:
        """Whether a code, Coding or CodeableConcept is in a value set."""
        ...

    def conforms_to(self, canonical: str, value: Any) -> bool | None:
        """Whether the JSON of a resource or element meets a profile."""
        ...
