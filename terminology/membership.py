"""Whether a code is in a value set, told in microseconds: what validation and search ask.

https://hl7.org/fhir/R4/terminologies.html#4.1.4
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from conformance.outcome import FhirError
from terminology.compose import PARTIAL, Budget, Part, Plan

MOST = 50_000  # codes of a set that are kept as a list
_KEPT = 1_000  # answers of a plan that are remembered, of one set
_LONGEST = 64  # characters of a code whose answer is


class Membership(NamedTuple):
    """A value set as sets of codes. `final`: the systems whose answer is certain when a code is
    not listed; `plan` answers for all others; `undecided`: systems that are not, or not wholly,
    here; `told`: what the plan answered."""

    codes: Mapping[str, frozenset[str]]
    final: frozenset[str]
    drawn: frozenset[str]
    undecided: frozenset[str]
    plan: Plan
    told: dict[tuple[str, str], bool | None]

    def holds(self, system: str, code: str) -> bool | None:
        """None when it cannot be told."""
        listed = self.codes.get(system)
        if listed is not None and code in listed:
            return True
        if system in self.final or system not in self.drawn:
            return False
        at = system, code
        try:
            return self.told[at]
        except KeyError:
            pass
        held = self.plan.holds(system, self._spelled(system, code))
        answer = True if held else None if system in self.undecided else False
        if len(code) <= _LONGEST:
            if len(self.told) >= _KEPT:
                self.told.clear()
            self.told[at] = answer
        return answer

    def anywhere(self, code: str) -> bool | None:
        """The same for a bare code, of whichever system."""
        if any(code in listed for listed in self.codes.values()):
            return True
        found = [self.holds(system, code) for system in self.drawn]
        if True in found:
            return True
        return None if None in found else False

    def _spelled(self, system: str, code: str) -> str:
        """The code as its system defines it."""
        for part in self.plan.parts(system):
            if part.provider is not None:
                found = part.provider.locate(code)
                return code if found is None else found.code
        return code


def membership(plan: Plan, budget: Budget) -> Membership:
    """A value set, listed as far as it can be."""
    parts = list(plan.systems())
    drawn = frozenset(str(each.system) for each in parts)
    undecided = frozenset(str(each.system) for each in parts if _undecided(each))
    try:
        members = list(islice(plan.members(budget), MOST + 1))
    except FhirError:
        members = None
    if members is None or len(members) > MOST:
        return Membership({}, frozenset(), drawn, undecided, plan, {})
    codes: dict[str, set[str]] = {system: set() for system in drawn}
    for each in members:
        codes.setdefault(each.system, set()).add(each.concept.code)
    loose = {str(each.system) for each in parts if not _exact(each)}
    return Membership(
        {system: frozenset(listed) for system, listed in codes.items()},
        drawn - undecided - loose,
        drawn,
        undecided,
        plan,
        {},
    )


def _undecided(part: Part) -> bool:
    if part.references is not None:
        return False
    return part.provider is None or part.provider.content in PARTIAL


def _exact(part: Part) -> bool:
    """Whether a code is written in one way only."""
    return part.provider is None or part.provider.case_sensitive is True
