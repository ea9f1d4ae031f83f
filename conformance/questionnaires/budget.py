"""How much the responses of one validation may ask of their questionnaires.

https://hl7.org/fhir/R4/security.html
"""

from __future__ import annotations

STEPS = 1_000_000  # items, conditions, answers and what is as much work
CONTAINED = 5_000  # steps that the contained value sets of one response count for


class TooMuch(Exception):
    """What is asked would take too long."""


class Budget:
    """The steps that are left."""

    __slots__ = ("_left",)

    def __init__(self, steps: int = STEPS) -> None:
        self._left = steps

    def spend(self, steps: int = 1) -> None:
        """TooMuch when none are left."""
        self._left -= steps
        if self._left < 0:
            raise TooMuch
