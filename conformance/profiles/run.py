"""One validation against profiles: what it knows of its surroundings, and what it still has to ask.

https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from conformance.fhirpath import Allowance, Environment, contained
from conformance.fhirpath.resolution import share
from conformance.questionnaires import Budget, Form
from conformance.validator.rules import Found, Full, Rule, Run, Whole

# What the slices and invariants of profiles may visit and make in one validation: some 3 s of work.
_STEPS = 2_000_000
_ASKED = 10  # what it costs to ask whether a value conforms to a profile
_DEEPEST = 40  # such questions inside one another

Resource: TypeAlias = dict[str, Any]
Resolve: TypeAlias = Callable[[str], Resource | None]


class Lacking(Protocol):
    """Canonicals of what a value set needs and nobody here knows, or not all of."""

    @property
    def sets(self) -> Sequence[str]: ...

    @property
    def systems(self) -> Sequence[str]: ...


class Codes(Protocol):
    """What validation asks of a terminology. None: it cannot be told."""

    def member(
        self, value_set: str, system: str | None, code: str, version: str | None = None
    ) -> bool | None:
        """Whether a code is of a value set; without a system, in any of the set's systems."""

    def lacking(self, value_set: str) -> Lacking:
        """What is not here of a value set of which it cannot be told."""

    def known(self, system: str, code: str, version: str | None = None) -> bool | None:
        """Whether a code system has a code; in one of its versions, where that is given."""

    def versions(self, system: str) -> Sequence[str]:
        """Those that are known of a code system that is here."""

    def named(self, system: str) -> str:
        """A code system that is known, with the version that is asked."""

    def display_matches(self, system: str, code: str, display: str) -> bool | None:
        """Whether a display is one that the code system gives to its code."""


class Compiled(Protocol):
    """A profile that can be run: `check` asks of an object what the profile adds to its type."""

    @property
    def label(self) -> str: ...

    @property
    def type(self) -> str: ...

    @property
    def check(self) -> Whole | None: ...


class Shelf(Protocol):
    """Where profiles are found by their canonical."""

    def compiled(self, canonical: str) -> Compiled | None:
        """The profile, or None where nobody knows it."""

    def is_a(self, type: str, of: str) -> bool:
        """Whether a type is another or specialises it."""

    def find(self, type: str, canonical: str) -> Resource | None:
        """A definition of any type by its canonical, or None where nobody knows it."""


class Bound(NamedTuple):
    """A binding as it is asked for: `broken` is said of what is outside of the set, `unsure` of
    what cannot be told since some value sets or code systems are not here."""

    value_set: str
    kind: str  # code, Coding, CodeableConcept or Quantity
    required: bool
    broken: Rule
    unsure: Callable[[Sequence[str]], Rule]


class Asked(NamedTuple):
    """A value that a binding is to be asked about."""

    value: Any
    holder: Any
    at: Any
    bound: Bound


class Session:
    """What all runs of one validation share. It is the host of FHIRPath too."""

    __slots__ = (
        "_around",
        "_depth",
        "_outside",
        "allowance",
        "asked",
        "budget",
        "bundle",
        "codes",
        "codings",
        "later",
        "memo",
        "misplaced",
        "shelf",
        "units",
    )

    def __init__(
        self,
        shelf: Shelf,
        codes: Codes,
        root: Resource,
        resolve: Resolve | None = None,
        units: Any = None,
    ) -> None:
        self.shelf = shelf
        self.codes = codes
        self.units = units
        # Whether (a resource by identity, canonical) conforms; such a resource outlives the run.
        self.memo: dict[tuple[int, str], bool | None] = {}
        self.bundle = root if root.get("resourceType") == "Bundle" else None
        self.codings: list[Resource] = []
        # Extensions whose place must be looked at in full, with their definitions.
        self.misplaced: list[tuple[Resource, Any]] = []
        self.later: list[Resource] = []  # resources whose type has checks of its own
        # Questionnaires by their canonical, so that many responses read each once.
        self.asked: dict[str, tuple[Resource | None, Form]] = {}
        self.budget = Budget()
        self.allowance = Allowance(_STEPS)
        self._depth = 0
        self._outside = resolve
        self._around: dict[str, Resource] | None = None

    def found(self, reference: str, environment: Environment) -> Resource | None:
        """What a reference leads to: contained, in the same Bundle, or where the caller looks."""
        if reference[:1] == "#":
            found = contained(reference, environment)
            return found if type(found) is dict else None
        if self.bundle is not None:
            if self._around is None:
                self._around = dict(_entries(self.bundle))
            inner = self._around.get(reference)
            if inner is not None:
                return inner
        return self._outside(reference) if self._outside is not None else None

    # The host of FHIRPath

    def resolve(self, reference: str) -> tuple[str, Any] | None:
        """The resource behind a reference that is not contained, with its type."""
        found = self.found(reference, _NOWHERE) if reference[:1] != "#" else None
        type_ = found.get("resourceType") if found is not None else None
        return (type_, found) if type(type_) is str else None

    def member_of(self, value_set: str, value: Any) -> bool | None:
        """Whether a code, Coding or CodeableConcept is of a value set."""
        return concept_member(self.codes, value_set, value)

    def conforms_to(self, canonical: str, value: Any) -> bool | None:
        """Whether a resource or element conforms to a profile."""
        if type(value) is not dict:
            return None
        return self.conforms(value, canonical, self.around(value, value))

    def around(self, resource: Resource, root: Resource) -> Environment:
        """What surrounds the values of a resource in this validation."""
        return Environment(resource, root, self, self.allowance)

    def spend(self, steps: int) -> None:
        """Take from what this validation may do. TooMuch when nothing is left; FhirError when its
        time is over."""
        self.allowance.take(steps, steps)

    # Conformance of one value to one profile

    def conforms(self, value: Resource, canonical: str, around: Environment) -> bool | None:
        """Whether an object conforms to a profile: asked once each, and answered yes where the
        question is met again inside itself. None for an unknown profile, and where one question
        leads to another too often to be told. TooMuch."""
        key = (id(value), canonical)
        if key in self.memo:
            return self.memo[key]
        if self._depth >= _DEEPEST:
            return None
        self.spend(_ASKED)
        profile = self.shelf.compiled(canonical)
        if profile is None:
            self.memo[key] = None
            return None
        self.memo[key] = True
        own = value.get("resourceType")
        if type(own) is str and not self.shelf.is_a(own, profile.type):
            self.memo[key] = False
        elif profile.check is not None:
            environment = self.around(value, value) if type(own) is str else around
            self._depth += 1
            try:
                self.memo[key] = self.quietly(profile.check, value, environment)
            finally:
                self._depth -= 1
        return self.memo[key]

    def quietly(self, check: Whole, value: Resource, environment: Environment) -> bool:
        """Whether a check finds no error; nothing is told."""
        run = ProfileRun(environment, [], None, 0, self, [])
        try:
            check(value, run)
        except Full:
            return False
        return not any(
            each.bound.required and outside(self.codes, each) is True for each in run.asked
        )


class ProfileRun(Run):
    """A validation that may ask its session, and collects what its bindings want to know."""

    __slots__ = ("asked", "session")

    def __init__(
        self,
        environment: Environment,
        found: list[Found],
        advice: list[Found] | None,
        limit: int,
        session: Session,
        asked: list[Asked],
    ) -> None:
        super().__init__(environment, found, advice, limit)
        self.session = session
        self.asked = asked

    def within(self, environment: Environment) -> ProfileRun:
        """The same validation, inside another resource."""
        return ProfileRun(
            environment, self.found, self.advice, self.limit, self.session, self.asked
        )

    def inside(self, resource: Resource, root: Any = None) -> ProfileRun:
        """The same validation inside a resource; `root` contains it, where it is contained."""
        inner = self.session.around(resource, root or resource)
        return self.within(
            share(self.environment, inner) if root is self.environment.root else inner
        )


def outside(codes: Codes, asked: Asked) -> bool | None:
    """Whether a value is outside of the set of its binding; None if that cannot be told."""
    value, bound = asked.value, asked.bound
    kind, value_set = bound.kind, bound.value_set
    if kind == "code":
        found = codes.member(value_set, None, value) if type(value) is str else True
    elif type(value) is not dict:
        found = True
    elif kind == "CodeableConcept":
        found = concept_member(codes, value_set, value)
        if found is None and not value.get("coding"):
            found = not bound.required
    elif kind == "Coding" or "code" in value:
        found = _coding_member(codes, value_set, value)
    else:
        found = True  # a Quantity without a coded unit
    return None if found is None else not found


def concept_member(codes: Codes, value_set: str, value: Any) -> bool | None:
    """Whether a code, a Coding or any coding of a CodeableConcept is of a value set."""
    if type(value) is str:
        return codes.member(value_set, None, value)
    if type(value) is not dict:
        return None
    codings = value.get("coding") if "code" not in value else [value]
    if type(codings) is not list or not codings:
        return None
    answers = [_coding_member(codes, value_set, each) for each in codings]
    return True if True in answers else None if None in answers else False


def _coding_member(codes: Codes, value_set: str, coding: Any) -> bool | None:
    code = coding.get("code") if type(coding) is dict else None
    if type(code) is not str:
        return False
    version = coding.get("version")
    system = coding.get("system")
    if type(system) is not str:
        return False
    if type(version) is not str:
        return codes.member(value_set, system, code)
    return codes.member(value_set, system, code, version)


def _entries(bundle: Mapping[str, Any]) -> list[tuple[str, Resource]]:
    """The resources of a Bundle by fullUrl, by Type/id, and by both with their version; the first
    where several have the same."""
    found: list[tuple[str, Resource]] = []
    entries = bundle.get("entry")
    for entry in entries if type(entries) is list else ():
        resource = entry.get("resource") if type(entry) is dict else None
        if type(resource) is not dict:
            continue
        full_url, id_ = entry.get("fullUrl"), resource.get("id")
        if type(full_url) is str:
            found.append((full_url, resource))
            local = "/".join(full_url.rsplit("/", 2)[-2:])
            found.append((local, resource))
        if type(id_) is str:
            found.append((f"{resource.get('resourceType')}/{id_}", resource))
    return found[::-1]


_NOWHERE = Environment({}, {})
