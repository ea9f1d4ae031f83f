"""A walk over a resource for what the base leaves to others: its extensions, its coded values that
a terminology must judge, and the resources in it.

https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

from conformance.definitions import Definitions, Element
from conformance.primitives import CHECKS
from conformance.profiles.extensions import Contexts, Defined, Rules
from conformance.profiles.rules import Says
from conformance.profiles.run import Asked, Bound, ProfileRun, Resource
from conformance.validator.bindings import FORMS

_RESOURCES = frozenset({"Resource", "DomainResource"})
_KINDS = frozenset({"Coding", "CodeableConcept", "Quantity", "code"})
CORE_VERSION = "4.0.1"

# Looks at a property's value; `path` is that of the element that has the property.
Look: TypeAlias = Callable[[Any, dict[str, Any], ProfileRun, str], None]


class Around(Protocol):
    """What a walk asks whoever started it."""

    def extension(self, url: str) -> Defined | None:
        """The definition of an extension."""

    def enter(self, resource: Resource, run: ProfileRun) -> None:
        """A resource within another: checks what it says it conforms to, and walks it."""


class Sweep:
    """Compiles a walk for each type when it is first met."""

    def __init__(self, definitions: Definitions, around: Around, rules: Rules) -> None:
        self._definitions = definitions
        self._around = around
        self._rules = rules
        self._contexts = Contexts(definitions)
        self._visits: dict[str, Visit] = {}

    def visit(self, owner: str) -> Visit:
        """The walk over objects that the definitions know by `owner`."""
        found = self._visits.get(owner)
        if found is None:
            found = self._visits[owner] = Visit(owner, self)
        return found

    def steps(self, owner: str) -> dict[str, Step]:
        """What is done with the properties of an object."""
        found: dict[str, Step] = {}
        for element in self._definitions.children(owner).values():
            found.update(self._element(owner, element))
        return found

    def _element(self, owner: str, element: Element) -> Iterator[tuple[str, Step]]:
        name = element.name
        if name in ("extension", "modifierExtension"):
            yield name, Step(self._extensions(owner, name == "modifierExtension"))
            return
        if element.content_reference:
            at = element.content_reference
            yield name, Step(None, self.visit(at), at)
            return
        stem = name.removesuffix("[x]")
        for type_ in element.types:
            code = type_.code
            key = stem + code[:1].upper() + code[1:] if stem != name else name
            if code in CHECKS or code == "xhtml":
                yield f"_{key}", Step(None, self.visit("Element"), element.path)
                bound = self._bound(element, code)
                if bound is not None:
                    yield key, Step(_asking(bound, key))
            elif code in _RESOURCES:
                yield key, Step(self._resources(name == "contained"))
            else:
                own = bool(self._definitions.children(element.path))
                bound = self._bound(element, code)
                look = None if bound is None else _asking(bound, key)
                yield key, Step(look, self.visit(element.path if own else code), element.path)

    def _bound(self, element: Element, code: str) -> Bound | None:
        """A binding that the base does not check: one that is only extensible, or one whose codes
        the definitions do not list."""
        binding, lists = element.binding, self._definitions.code_lists
        if binding is None or binding.strength not in ("required", "extensible"):
            return None
        if code not in _KINDS:
            return None
        required = binding.strength == "required"
        if required and (binding.value_set in lists or binding.value_set in FORMS):
            return None
        says = Says(f"FHIR {CORE_VERSION}")
        value_set = f"{binding.value_set}|{CORE_VERSION}"
        broken = says.unbound(element.path, value_set, required)
        unsure = partial(says.unsure, element.path, value_set)
        return Bound(value_set, code, required, broken, unsure)

    def _resources(self, contained: bool) -> Look:
        enter = self._around.enter

        def look(value: Any, holder: dict[str, Any], run: ProfileRun, path: str) -> None:
            for each in value if type(value) is list else (value,):
                if type(each) is dict:
                    enter(each, run.inside(each, run.environment.root if contained else each))

        return look

    # Extensions

    def _extensions(self, owner: str, modifier: bool) -> Look:
        known, rules = self._around.extension, self._rules
        walk = self.visit("Extension")
        place, around = self._place, self._parts

        inner = owner == "Extension"

        def look(value: Any, holder: dict[str, Any], run: ProfileRun, path: str) -> None:
            parts = around(holder) if inner else None
            for each in value if type(value) is list else ():
                url = each.get("url") if type(each) is dict else None
                if type(url) is not str:
                    continue
                if ":" not in url:
                    if not inner:
                        run.add(each, None, rules.relative)
                    elif parts is not None and url not in parts:
                        run.add(each, None, rules.undefined)
                    walk.look(each, run, "Extension")
                    continue
                found = known(url)
                if found is None:
                    unknown = rules.unknown_modifier if modifier else rules.unknown
                    if unknown is not None:
                        run.add(each, None, unknown)
                else:
                    if found.modifier is not modifier:
                        run.add(each, None, rules.no_modifier if modifier else rules.modifier)
                    place(found, each, holder, path, run)
                    if found.profile.check is not None:
                        found.profile.check(each, run)
                walk.look(each, run, "Extension")

        return look

    def _parts(self, extension: dict[str, Any]) -> frozenset[str] | None:
        """The urls that the parts of an extension may have; None if nobody says."""
        url = extension.get("url")
        found = self._around.extension(url) if type(url) is str else None
        return found.parts or None if found is not None else None

    def _place(
        self, found: Defined, each: Any, holder: dict[str, Any], path: str, run: ProfileRun
    ) -> None:
        if not self._contexts.fits(found, holder, path, run):
            run.session.misplaced.append((each, found))
        elif found.conditions and not self._contexts.holds(found, holder, path, run):
            run.add(each, None, found.untrue)


class Step(NamedTuple):
    """What is done with a property: its objects, known by `path`, are walked, or it is looked at
    otherwise; both where its binding must be asked about."""

    look: Look | None
    visit: Visit | None = None
    path: str = ""


class Visit:
    """The walk over the objects of one definition, compiled when the first is met."""

    __slots__ = ("_owner", "_sweep", "look")

    def __init__(self, owner: str, sweep: Sweep) -> None:
        self._owner = owner
        self._sweep = sweep
        # Looks at an object, which is the element at a path.
        self.look: Callable[[dict[str, Any], ProfileRun, str], None] = self._first

    def _first(self, value: dict[str, Any], run: ProfileRun, path: str) -> None:
        self.look = _walk(self._sweep.steps(self._owner), self._owner == "Coding")
        self.look(value, run, path)


def _walk(
    steps: dict[str, Step], coding: bool
) -> Callable[[dict[str, Any], ProfileRun, str], None]:
    step_of = steps.get
    nothing_in = frozenset(steps).isdisjoint

    def walk(value: dict[str, Any], run: ProfileRun, path: str) -> None:
        if coding:
            run.session.codings.append(value)
        if nothing_in(value):
            return
        for key, item in value.items():
            step = step_of(key)
            if step is None:
                continue
            look, visit, at = step
            if look is not None:
                look(item, value, run, path)
            if visit is None:
                continue
            if type(item) is list:
                for each in item:
                    if type(each) is dict:
                        visit.look(each, run, at)
            elif type(item) is dict:
                visit.look(item, run, at)

    return walk


def _asking(bound: Bound, key: str) -> Look:
    def look(value: Any, holder: dict[str, Any], run: ProfileRun, _: str) -> None:
        if type(value) is list:
            run.asked.extend([Asked(each, value, at, bound) for at, each in enumerate(value)])
        else:
            run.asked.append(Asked(value, holder, key, bound))

    return look
