"""Validation of a resource against R4, the profiles that it claims and those that are asked for:
every problem in one pass.

https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

from conformance.definitions import Definitions
from conformance.fhirpath.host import Units
from conformance.fhirpath.syntax import TooMuch
from conformance.outcome import Issue
from conformance.profiles import terms
from conformance.profiles.extensions import Rules
from conformance.profiles.further import CHECKS, Check
from conformance.profiles.run import Codes, ProfileRun, Resolve, Resource, Session
from conformance.profiles.shelf import Library, Shelf
from conformance.profiles.sweep import Sweep
from conformance.profiles.vitals import vital_signs
from conformance.validator import LIMIT, Validator
from conformance.validator.places import Places
from conformance.validator.rules import Found, Full, Rule

_INDEX = re.compile(r"\[\d+\]")
_LONGEST = 200  # characters of a canonical that an issue repeats


class Policy(NamedTuple):
    """What is made of extensions nobody knows, and whether vital signs are held to R4's profiles
    by their LOINC codes."""

    unknown_extensions: Literal["ignore", "warning", "error"] = "warning"
    vital_signs: bool = True


USUAL = Policy()
_UNFINISHED = Issue(
    "warning",
    "too-costly",
    "Not all was checked against profiles, since that would take too long: validate less at once",
)


class Profiles:
    """Checks resources. Profiles are compiled when they are first met."""

    def __init__(
        self,
        definitions: Definitions,
        library: Library,
        codes: Codes,
        *,
        validator: Validator | None = None,
        units: Units | None = None,
        policy: Policy = USUAL,
        checks: Mapping[str, Check] | None = None,
    ) -> None:
        self.definitions = definitions
        self.library = library
        self.codes = codes
        self.units = units
        self.policy = policy
        self.checks = CHECKS if checks is None else checks
        self._validator = validator or Validator(definitions)
        self._nodes = self._validator.nodes
        self.shelf = Shelf(definitions, self._nodes, library)
        self.extension = self.shelf.extension
        self._sweep = Sweep(definitions, self, _rules(policy))

    def validate(
        self,
        resource: Resource,
        profiles: Iterable[str] = (),
        *,
        resolve: Resolve | None = None,
        limit: int = LIMIT,
        warnings: bool = True,
        claims: bool = True,
        checked: bool = False,
    ) -> list[Issue]:
        """What is wrong with a resource, nothing if it is valid: errors, and with `warnings` also
        what is only advised. At most `limit` issues, errors first, and then one that says that
        there are more. `resolve` finds resources outside of this one by their references. Without
        `claims` what the resource itself claims in meta.profile counts as far as `profiles` name
        it; `checked`: the base was checked already."""
        type_ = resource.get("resourceType")
        if type(type_) is not str or type_ not in self._nodes.types:
            return [Issue("error", "structure", "`resourceType` must name a type of FHIR R4")]
        errors: list[Found] = []
        advice: list[Found] = []
        session = Session(self.shelf, self.codes, resource, resolve, self.units)
        environment = session.around(resource, resource)
        told = advice if warnings else None
        run = ProfileRun(environment, errors, told, limit, session, [])
        more: list[Issue] = []
        places = Places(resource, self._nodes)
        full = False
        try:
            if not checked:
                self._nodes.node(type_).check(resource, run)
            asked = tuple(profiles)
            own = _claimed(resource)
            demanded = set(asked) if claims else set(asked).difference(own)
            self._conform(resource, run, asked, own if claims else [], demanded)
            self._sweep.visit(type_).look(resource, run, type_)
            self._place(run, places)
            terms.ask(run)
            more = self._more(session, places, limit)
        except Full:
            full = True
        except TooMuch:
            more = [_UNFINISHED]
        return _told(errors, advice, more, places, limit, full)

    def having(self, library: Library, codes: Codes) -> Profiles:
        """The same with other definitions and another terminology beside."""
        return Profiles(
            self.definitions,
            library,
            codes,
            validator=self._validator,
            units=self.units,
            policy=self.policy,
            checks=self.checks,
        )

    # What the walk asks

    def enter(self, resource: Resource, run: ProfileRun) -> None:
        """A resource within another: what it says it conforms to."""
        type_ = resource.get("resourceType")
        if type(type_) is str and type_ in self._nodes.types:
            self._conform(resource, run, (), _claimed(resource), frozenset())
            self._sweep.visit(type_).look(resource, run, type_)

    def _conform(
        self,
        resource: Resource,
        run: ProfileRun,
        asked: tuple[str, ...],
        claimed: list[str],
        demanded: Collection[str],
    ) -> None:
        """Hold a resource to profiles. Not to know one is an error if it was `demanded`."""
        type_ = resource["resourceType"]
        if type_ in self.checks:
            run.session.later.append(resource)
        wanted = [*asked, *claimed]
        if self.policy.vital_signs and type_ == "Observation":
            wanted += vital_signs(resource)
        if not wanted:
            return
        done: set[str] = set()
        for canonical in dict.fromkeys(wanted):
            profile = self.shelf.compiled(canonical)
            if profile is None:
                run.add(
                    resource, None, _not_found(canonical) if canonical in demanded else _UNKNOWN
                )
            elif not self.shelf.is_a(type_, profile.type):
                run.add(resource, None, _of_other_type(profile.label, profile.type))
            elif profile.check is not None and profile.label not in done:
                done.add(profile.label)
                profile.check(resource, run)

    def _place(self, run: ProfileRun, places: Places) -> None:
        """Extensions that are not where their context says in short may be where it says in
        full, as `Patient.name.family`."""
        for extension, found in run.session.misplaced:
            path = _INDEX.sub("", places.expression(extension, None)).rpartition(".")[0]
            if path not in found.within:
                run.add(extension, None, found.misplaced)

    def _more(self, session: Session, places: Places, limit: int) -> list[Issue]:
        """What the checks of single types find: at most `limit` and one more errors, and as many
        others."""
        left = {True: limit + 1, False: limit + 1}
        found: list[Issue] = []
        for resource in session.later:
            type_ = str(resource["resourceType"])
            for each in self.checks[type_](resource, session):
                is_error = each.severity in ("error", "fatal")
                left[is_error] -= 1
                if left[is_error] >= 0:
                    rest = (each.expression or "").removeprefix(type_)
                    at = places.expression(resource, None)
                    found.append(each._replace(expression=at + rest))
            if left[True] <= 0:
                break
        return found


def _claimed(resource: Resource) -> list[str]:
    meta = resource.get("meta")
    claimed = meta.get("profile") if type(meta) is dict else None
    return [each for each in claimed if type(each) is str] if type(claimed) is list else []


def _rules(policy: Policy) -> Rules:
    if policy.unknown_extensions == "ignore":
        return Rules(unknown=None)
    unknown = Rules().unknown
    assert unknown is not None
    return Rules(unknown=unknown._replace(severity=policy.unknown_extensions))


_UNKNOWN = Rule(
    "warning",
    "not-found",
    "A profile that the resource claims in meta.profile is not known here, or its definition cannot"
    " be read, so it was not checked: install its package",
)


def _not_found(canonical: str) -> Rule:
    """Of a profile that was asked for: it is the request that is wrong, not the resource."""
    text = (
        f"The profile {canonical[:_LONGEST]} that was asked for is not known here, or its"
        " definition cannot be read, so nothing was checked against it: correct its url, or"
        " install its package"
    )
    return Rule("error", "not-found", text)


def _of_other_type(label: str, type_: str) -> Rule:
    return Rule("error", "structure", f"The profile {label} is one of {type_}, not of this type")


def _told(
    errors: list[Found],
    advice: list[Found],
    more: list[Issue],
    places: Places,
    limit: int,
    full: bool,
) -> list[Issue]:
    """The issues: errors first, each once."""
    if not errors and not advice and not more:
        return []
    wrong = [each for each in more if each.severity in ("error", "fatal")]
    rest = [each for each in more if each.severity not in ("error", "fatal")]
    issues = list(
        dict.fromkeys(
            [
                *(places.issue(each) for each in errors),
                *wrong,
                *(places.issue(each) for each in advice),
                *rest,
            ]
        )
    )
    if not full and len(issues) <= limit:
        return issues
    text = f"Only the first {limit} problems are told: correct them and validate again"
    return [*issues[:limit], Issue("information", "incomplete", text)]
