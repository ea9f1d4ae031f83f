"""Units (UCUM): by their grammar, with the filter on canonical units.

https://hl7.org/fhir/R4/terminologies-systems.html (Using UCUM with FHIR)
"""

from __future__ import annotations

from functools import lru_cache

from terminology import ucum
from terminology.provider import Concept, Designation, Property, Selection, unknown_filter
from terminology.providers import filters
from terminology.providers.endless import Endless


class Units(Endless):
    """Any unit by the grammar. `canonical` is the unit that all of its kind are measured in."""

    url = ucum.SYSTEM
    name = "Unified Code for Units of Measure (UCUM)"
    content = "complete"
    case_sensitive = True
    hierarchical = False
    language = "en"

    @property
    def version(self) -> str:
        return ucum.version()

    def locate(self, code: str) -> Concept | None:
        return _concept(code)

    def filter(self, property: str, op: str, value: str) -> Selection:
        """`canonical = m`: all units of length; the value is any unit of its kind."""
        if property == "canonical" and op == "=":
            return Selection(lambda code: ucum.commensurable(code, value))
        if property not in ("code", "canonical"):
            raise unknown_filter(self.url, property, op)
        test = filters.test_of(self.url, property, op, value)
        return filters.open_selection(self.locate, property, test)


@lru_cache(maxsize=2048)
def _concept(code: str) -> Concept | None:
    if ucum.validate(code) is not None:
        return None
    key = ucum.canonical_key(code)
    told = (Property("canonical", "string", key),) if key else ()
    return Concept(code, ucum.display(code), designations=_said(code), properties=told)


def _said(code: str) -> tuple[Designation, ...]:
    """What a unit is called besides its words: its code, and its print symbol."""
    symbol = ucum.symbol(code)
    names = (code,) if symbol in (None, code) else (code, symbol)
    return tuple(Designation("en", name) for name in names if name)
