"""Compiles a profile to what it adds to its base type: closures over objects that the base has
checked already.

https://hl7.org/fhir/R4/profiling.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from conformance.definitions import Definitions, Element
from conformance.fhirpath import FhirPathError, errata
from conformance.primitives import CHECKS
from conformance.profiles import checks, natives, slicing, values
from conformance.profiles.checks import Part
from conformance.profiles.rules import Says
from conformance.profiles.run import Bound, Shelf
from conformance.profiles.tree import CORE, Branch, type_code
from conformance.validator.invariants import ELSEWHERE, held
from conformance.validator.nodes import Nodes
from conformance.validator.rules import Member, Whole

_RESOURCES = frozenset({"Resource", "DomainResource"})
_BINDABLE = {
    "code": "code",
    "uri": "code",
    "string": "code",
    "Coding": "Coding",
    "CodeableConcept": "CodeableConcept",
    "Quantity": "Quantity",
}
_BINDING = frozenset({"required", "extensible"})
# R4 binds the components of vital signs to these units too, which lack those of what is inhaled;
# the reference validator takes the binding for an extensible one.
_TOO_STRONG = "http://hl7.org/fhir/ValueSet/ucum-vitals-common"
ADDITIONAL = (
    "http://hl7.org/fhir/5.0/StructureDefinition/extension-ElementDefinition.binding.additional",
    "http://hl7.org/fhir/tools/StructureDefinition/additional-binding",
)
MAX_VALUE_SET = CORE + "elementdefinition-maxValueSet"


class Spot(NamedTuple):
    """A property that an element may be: its key in JSON, the type of its value, and where the
    definitions have the children of that."""

    key: str
    type: str
    owner: str
    primitive: bool


# A canonical of a type of resource, as the profile means it.
Pin: TypeAlias = Callable[[str, str], str]


class Deltas:
    """Compiles the branches of one profile."""

    def __init__(
        self, definitions: Definitions, nodes: Nodes, shelf: Shelf, says: Says, pin: Pin
    ) -> None:
        self._pin = pin
        self.definitions = definitions
        self.nodes = nodes
        self.shelf = shelf
        self.says = says

    def root(self, branch: Branch, type_: str) -> Whole | None:
        """What a profile adds to a type."""
        members = [*self._constraints(branch, type_, type_, None, None)]
        return checks.whole(members, self.children(branch, type_, type_))

    def children(self, branch: Branch, owner: str, path: str) -> list[Part]:
        """What the children of a branch add to those of `owner`."""
        found: list[Part] = []
        for name, child in branch.children.items():
            base = self._base(owner, name)
            if base is not None and base.path != "Extension.url":  # by which it was found
                found += self._child(child, base, f"{path}.{base.name}")
        return found

    def _base(self, owner: str, name: str) -> Element | None:
        known = self.definitions.children(owner)
        found = known.get(name)
        if found is not None:
            return found
        for each in known.values():
            stem = each.name.removesuffix("[x]")
            if stem != each.name and name.startswith(stem):
                return each
        return None

    def spots(self, base: Element) -> tuple[Spot, ...]:
        """The properties that a base element may be."""
        if base.content_reference:
            return (Spot(base.name, "BackboneElement", base.content_reference, False),)
        stem = base.name.removesuffix("[x]")
        found = []
        for each in base.types:
            key = stem + each.code[:1].upper() + each.code[1:] if stem != base.name else stem
            own = bool(self.definitions.children(base.path))
            primitive = each.code in CHECKS or each.code == "xhtml"
            found.append(Spot(key, each.code, base.path if own else each.code, primitive))
        return tuple(found)

    # Children

    def _child(self, child: Branch, base: Element, path: str) -> Iterator[Part]:
        """The checks of one child: how many, which types, each item, its slices."""
        spots = self.spots(base)
        many = base.max != 1
        keys = tuple(each.key for each in spots)
        allowed = self._allowed(child, spots)
        if child.max == 0:
            if base.max != 0:
                yield checks.absent(keys, self.says.exceeds(path, 0))
            return
        if len(allowed) < len(spots):
            forbidden = frozenset(each.key for each in spots if each not in allowed)
            names = tuple(each.type for each in allowed)
            yield checks.absent(tuple(forbidden), self.says.other_type(path, names))
        yield from self._amount(child, base, tuple(each.key for each in allowed), path)
        for spot in allowed:
            yield from self._items(child, spot, many, path)
        if child.slices or (child.element.get("slicing") or {}).get("rules") == "closed":
            yield from slicing.compiled(self, child, base, allowed, path)

    def _allowed(self, child: Branch, spots: tuple[Spot, ...]) -> tuple[Spot, ...]:
        """The properties that the profile leaves: of a choice those of its types."""
        if len(spots) < 2 or not child.types:
            return spots
        codes = {type_code(each) for each in child.types}
        return tuple(each for each in spots if each.type in codes)

    def _amount(
        self, child: Branch, base: Element, keys: tuple[str, ...], path: str
    ) -> Iterator[Part]:
        least, most = child.min, child.max
        if base.max == 1:
            if least > base.min:
                yield checks.present(keys, self.says.lacks(path, 1))
            return
        low = self.says.lacks(path, least) if least > base.min else None
        narrower = most is not None and (base.max is None or most < base.max)
        high = self.says.exceeds(path, most) if narrower and most is not None else None
        if low is not None or high is not None:
            yield checks.counted(keys[0], least if low else 0, most if high else None, low, high)

    def _items(self, child: Branch, spot: Spot, many: bool, path: str) -> Iterator[Part]:
        member = self.item(child, spot, path, None)
        if member is not None:
            yield checks.Each(spot.key, member) if many else checks.One(spot.key, member)
        if spot.primitive and child.children:
            inner = checks.whole((), self.children(child, "Element", path))
            if inner is not None:
                yield checks.partners(spot.key, inner)

    # One item

    def item(self, branch: Branch, spot: Spot, path: str, general: Branch | None) -> Member | None:
        """What a branch adds for one value; what `general` has too is checked there."""
        if branch.element is (general.element if general else None):
            return None
        members: list[Member] = []
        members += self._literals(branch, path, general)
        members += self._binding(branch, spot, path, general)
        if spot.type == "Reference":
            members += self._targets(branch, path, general)
        elif spot.type != "Extension":
            members += self._profiles(branch, spot, path, general)
        members += self._constraints(branch, spot.owner, branch_path(branch), general, spot)
        if not spot.primitive:
            inner = checks.whole((), self.children(branch, spot.owner, path))
            if inner is not None:
                members.append(checks.inner(inner))
        return checks.together(members)

    def _literals(self, branch: Branch, path: str, general: Branch | None) -> Iterator[Member]:
        yield from values.literals(branch, path, self.says, general)
        text = branch.children.get("value")
        if text is not None and text.element.get("path", "").endswith(".value"):
            yield from values.lengths(text, path, self.says)

    def _binding(
        self, branch: Branch, spot: Spot, path: str, general: Branch | None
    ) -> Iterator[Member]:
        kind = _BINDABLE.get(spot.type)
        binding = branch.element.get("binding")
        if kind is None or not binding or (general and general.element.get("binding") == binding):
            return
        for more, strict in _additional(binding):
            yield values.bound(self.bound(path, kind, more, strict))
        value_set = binding.get("valueSet")
        known = self._known_binding(branch)
        if binding.get("strength") in _BINDING and value_set and known != binding:
            required = binding["strength"] == "required" and not value_set.startswith(_TOO_STRONG)
            yield values.bound(self.bound(path, kind, value_set, required))
        most = next(
            (
                each.get("valueCanonical") or each.get("valueUri")
                for each in binding.get("extension", ())
                if each.get("url") == MAX_VALUE_SET
            ),
            None,
        )
        if most and known != binding and binding.get("strength") != "required":
            yield values.bound(self.bound(path, kind, most, True))

    def _known_binding(self, branch: Branch) -> Any:
        """The binding itself if the base has the same, so that it is asked there."""
        binding = branch.element["binding"]
        path = str(branch.element.get("base", {}).get("path", ""))
        try:
            known = self.definitions.element(path).binding
        except KeyError:
            return None
        if known is None or known.strength != binding.get("strength"):
            return None
        same = str(binding.get("valueSet")).partition("|")[0] == known.value_set
        return binding if same else None

    def bound(self, path: str, kind: str, value_set: str, required: bool) -> Bound:
        """A binding with what is said when it is broken."""
        value_set = self._pin("ValueSet", value_set)
        broken = self.says.unbound(path, value_set, required)
        unsure = partial(self.says.unsure, path, value_set)
        return Bound(value_set, kind, required, broken, unsure)

    def targets(self, branch: Branch) -> tuple[str, ...]:
        """What a Reference may lead to."""
        known = branch.targets("Reference")
        return tuple(self._pin("StructureDefinition", each) for each in known)

    def profiles(self, branch: Branch, code: str) -> tuple[str, ...]:
        """The profiles that narrow a type."""
        known = branch.profiles(code)
        return tuple(self._pin("StructureDefinition", each) for each in known)

    def _targets(self, branch: Branch, path: str, general: Branch | None) -> Iterator[Member]:
        targets = self.targets(branch)
        if targets and targets != (self.targets(general) if general else ()):
            own = {f"{CORE}{each}" for each in self._own_targets(branch)}
            if own != {each.partition("|")[0] for each in targets}:
                yield values.targets(path, targets, self.shelf, self.says)

    def _own_targets(self, branch: Branch) -> Sequence[str]:
        path = str(branch.element.get("base", {}).get("path", ""))
        try:
            types = self.definitions.element(path).types
        except KeyError:
            return ()
        return tuple(target for each in types for target in each.targets)

    def _profiles(
        self, branch: Branch, spot: Spot, path: str, general: Branch | None
    ) -> Iterator[Member]:
        if spot.type in _RESOURCES:
            known = {type_code(each) for each in branch.types} - _RESOURCES
            wanted = tuple(p for code in sorted(known) for p in self.profiles(branch, code))
            if known:
                yield values.resource_type(path, tuple(sorted(known)), self.says)
        else:
            wanted = self.profiles(branch, spot.type)
        own = spot.type in ("Quantity", "Money") and all("SimpleQuantity" in p for p in wanted)
        if wanted and not own and wanted != (self.profiles(general, spot.type) if general else ()):
            yield values.profiled(path, wanted, self.shelf, self.says)

    # Invariants

    def _constraints(
        self,
        branch: Branch,
        owner: str,
        base_path: str,
        general: Branch | None,
        spot: Spot | None,
    ) -> Iterator[Member]:
        known = {*self._keys(owner), *self._keys(base_path)}
        if spot is not None:
            known |= self._keys(spot.type)
        if general is not None:
            known |= {each.get("key") for each in general.element.get("constraint", ())}
        for each in branch.element.get("constraint", ()):
            key, expression = each.get("key"), each.get("expression")
            if key in known or key in ELSEWHERE or not expression:
                continue
            member = self._held(each, owner, spot)
            if member is not None:
                yield member

    def _keys(self, path: str) -> set[Any]:
        try:
            return {each.key for each in self.definitions.element(path).constraints}
        except KeyError:
            return set()

    def _held(self, constraint: Any, owner: str, spot: Spot | None) -> Member | None:
        key, severity = str(constraint["key"]), str(constraint.get("severity", "error"))
        rule = self.says.invariant(key, str(constraint.get("human", "")), severity)
        primitive = spot is not None and spot.primitive
        keys: dict[str, str] = {}
        if not primitive:
            parts = self.nodes.node(owner).compile().parts
            keys = {name: part.name for name, part in parts.items()}
        # A profile may give the key of a base rule to another, so its expression alone counts.
        expression = errata("", str(constraint["expression"]))
        native = natives.of(expression, owner)
        if native is not None:
            return None if native is natives.always else checks.held(None, native, rule)
        try:
            asked = held(expression, owner, keys, self.definitions, rule)
        except FhirPathError:
            return values.advised(self.says.unreadable(key))
        return checks.held(asked.guard, asked.holds, rule)


def _additional(binding: Any) -> Iterator[tuple[str, bool]]:
    """The bindings beside the first that hold everywhere: value set, and whether it is required."""
    for each in binding.get("extension", ()):
        if each.get("url") not in ADDITIONAL:
            continue
        parts = {part.get("url"): part for part in each.get("extension", ())}
        purpose = parts.get("purpose", {}).get("valueCode")
        value_set = parts.get("valueSet", {}).get("valueCanonical")
        if purpose in _BINDING and type(value_set) is str and "usage" not in parts:
            yield value_set, purpose == "required"


def branch_path(branch: Branch) -> str:
    """The path of the base element that a branch is made of."""
    return str(branch.element.get("base", {}).get("path") or branch.element.get("path", ""))
