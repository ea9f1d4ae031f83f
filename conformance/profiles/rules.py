"""What a profile says when it is broken: the rule, the profile it is of, and what would be right.

https://hl7.org/fhir/R4/valueset-issue-type.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conformance.validator.rules import Rule

_LISTED = 8  # names that an issue lists


@dataclass(frozen=True, slots=True)
class Says:
    """Makes the rules of one profile; `profile` is its url and version."""

    profile: str

    def _rule(self, code: str, text: str, key: str | None = None, severity: str = "error") -> Rule:
        return Rule(severity, code, f"{text} (profile {self.profile})", key)

    def lacks(self, path: str, least: int, part: str | None = None) -> Rule:
        """Fewer than the profile wants."""
        what = f"the slice `{part}` of `{path}`" if part else f"`{path}`"
        if least == 1:
            return self._rule("required", f"{what[:1].upper()}{what[1:]} is required: add it")
        return self._rule("required", f"At least {least} of {what} are required: add them")

    def exceeds(self, path: str, most: int, part: str | None = None) -> Rule:
        """More than the profile allows."""
        what = f"the slice `{part}` of `{path}`" if part else f"`{path}`"
        if most == 0:
            text = f"{what} may not be used here: leave it out"
            return self._rule("structure", text[:1].upper() + text[1:])
        return self._rule("structure", f"At most {most} of {what} are allowed: leave the rest out")

    def other_type(self, path: str, allowed: Sequence[str]) -> Rule:
        """A type that the profile takes away."""
        return self._rule("structure", f"`{path}` may only be a {listed(allowed)} here")

    def fixed(self, path: str, literal: str) -> Rule:
        """Another value than the fixed one."""
        return self._rule("value", f"`{path}` must be exactly {literal}")

    def pattern(self, path: str, literal: str) -> Rule:
        """Less than the pattern has."""
        return self._rule("value", f"`{path}` must hold {literal}")

    def too_long(self, path: str, length: int) -> Rule:
        """More characters than allowed."""
        return self._rule("too-long", f"`{path}` may have at most {length} characters")

    def beyond(self, path: str, what: str) -> Rule:
        """Below the least or above the greatest value."""
        return self._rule("value", f"`{path}` must be {what}")

    def unbound(self, path: str, value_set: str, required: bool) -> Rule:
        """A code outside of a bound value set."""
        if required:
            return self._rule("code-invalid", f"`{path}` must have a code of {value_set}")
        text = f"`{path}` has no code of {value_set}: use one of it unless none fits"
        return self._rule("code-invalid", text, None, "warning")

    def unsure(self, path: str, value_set: str, lacking: Sequence[str]) -> Rule:
        """A binding that could not be asked, since something is not here: the set itself, or what
        that is made of."""
        text = f"`{path}` could not be checked against {value_set}"
        if value_set in lacking:
            text += ": install the package that has it"
        elif lacking:
            text += f", which needs {listed(lacking, ' and ')}: no package here has all of that"
        else:
            text += ", whose definition does not tell which codes are in it"
        return self._rule("not-found", text, None, "warning")

    def invariant(self, key: str, human: str, severity: str) -> Rule:
        """A constraint of the profile that does not hold."""
        return self._rule("invariant", f"{human.rstrip('. ')} ({key})", key, severity)

    def unreadable(self, key: str) -> Rule:
        """A constraint that cannot be compiled."""
        return self._rule(
            "not-supported", f"The constraint {key} cannot be evaluated here", key, "warning"
        )

    def unreadable_profile(self) -> Rule:
        """A definition that cannot be compiled."""
        text = "The definition cannot be read, so nothing was checked against it: correct it"
        return self._rule("not-supported", text, None, "warning")

    def target(self, path: str, allowed: Sequence[str]) -> Rule:
        """A reference to something else than the profile allows."""
        return self._rule("structure", f"`{path}` may refer only to {listed(allowed)}")

    def not_conforming(self, path: str, profiles: Sequence[str]) -> Rule:
        """A value, or what a reference leads to, that does not conform to any of its profiles."""
        text = f"`{path}` must conform to {listed(profiles)}: validate it against that"
        return self._rule("structure", text)

    def unknown_profile(self, path: str, canonical: str) -> Rule:
        """A profile that nobody knows."""
        text = f"`{path}` was not checked against {canonical}, which is not known here"
        return self._rule("not-found", text, None, "warning")

    def unmatched(self, path: str, names: Sequence[str]) -> Rule:
        """An item that is of no slice where the slicing is closed."""
        allowed = (
            f"only have the slices {listed(names)}" if names else "not be used: it has no slice"
        )
        return self._rule("structure", f"`{path}` may {allowed}")

    def several(self, path: str) -> Rule:
        """An item that is of two slices."""
        return self._rule("structure", f"An item of `{path}` may be of one slice only, not of two")

    def behind(self, path: str) -> Rule:
        """An unmatched item before a matched one where the slicing is open at its end."""
        text = f"Items of `{path}` that are of no slice must come after those that are"
        return self._rule("structure", text)

    def disordered(self, path: str) -> Rule:
        """A slice before one that comes first."""
        return self._rule("structure", f"The slices of `{path}` must be in the profile's order")

    def unsliceable(self, path: str) -> Rule:
        """Slices whose discriminators cannot be told apart."""
        text = f"The slices of `{path}` cannot be told apart by their discriminators"
        return self._rule("not-supported", text, None, "warning")


def too_costly(rule: Rule) -> Rule:
    """What is said where it takes too long to tell whether a rule is broken."""
    text = f"This was not checked, since that would take too long: {rule.text}"
    return Rule("warning", "too-costly", text, rule.key)


def listed(names: Sequence[str], between: str = " or ") -> str:
    """Names in a sentence."""
    shown = list(names[:_LISTED])
    more = [f"{len(names) - _LISTED} others"] if len(names) > _LISTED else []
    parts = [f"`{each}`" if "/" not in each else each for each in shown] + more
    return between.join(parts)
