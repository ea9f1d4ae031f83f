"""Compiles each type, and each element that has children of its own, to one closure that checks
the properties of an object, what is lacking, its choices and its invariants.

https://hl7.org/fhir/R4/structuredefinition.html#snapshot
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from conformance.definitions import Definitions, Element, TypeRef
from conformance.fhirpath import Environment, Invariant
from conformance.fhirpath.resolution import share
from conformance.narrative import problems
from conformance.primitives import CHECKS, EXPECTED, Check
from conformance.validator import bindings, values
from conformance.validator.invariants import Held, compiled
from conformance.validator.references import aimed
from conformance.validator.rules import Member, Rule, Run, Whole, shown, structure
from conformance.validator.systems import NO_SYSTEMS, Systems, measured

_OWN_CHILDREN = frozenset({"BackboneElement", "Element"})
_RESOURCES = frozenset({"Resource", "DomainResource"})
_PLANS = 256  # sets of properties that are remembered of a type


class Part(NamedTuple):
    """A property that an object may have: the name that FHIRPath knows it by, its check, the node
    of its objects where it has some, and what makes a single primitive legal at first glance."""

    name: str
    member: Member
    node: Node | None = None
    legal: Check | None = None


class Choice(NamedTuple):
    """A choice of types: of these properties at most one, or exactly one."""

    keys: frozenset[str]
    lacking: Rule | None
    several: Rule


class Shape(NamedTuple):
    """What a node consists of. `required` are (property, its partner, the rule)."""

    parts: dict[str, Part]
    required: tuple[tuple[str, str, Rule], ...]
    choices: tuple[Choice, ...]
    errors: tuple[Held, ...]
    advice: tuple[Held, ...]


class Node:
    """An object's definition, compiled when the first such object is met: types contain each
    other, and most of the 146 resource types are never seen."""

    __slots__ = ("_nodes", "check", "parts", "path")

    def __init__(self, path: str, nodes: Nodes) -> None:
        self.path = path
        self.parts: dict[str, Part] = {}
        self.check: Whole = self._first
        self._nodes = nodes

    def compile(self) -> Node:
        if not self.parts:
            shape = self._nodes.shape(self.path)
            self.check = _closure(self.path, shape)
            self.parts = shape.parts
        return self

    def _first(self, value: dict[str, Any], run: Run) -> None:
        self.compile().check(value, run)


class Plan(NamedTuple):
    """What the properties that an object has tell alone: what it breaks by them, and the
    invariants that speak of them."""

    broken: tuple[Rule, ...]
    errors: tuple[Held, ...]
    advice: tuple[Held, ...]


def _closure(path: str, shape: Shape) -> Whole:
    def unknown(item: Any, value: Any, key: Any, run: Run) -> None:
        run.add(value, None, structure(f"`{path}` has no element {shown(key)}"))

    none = (None, unknown)
    checks_of = {key: (part.legal, part.member) for key, part in shape.parts.items()}.get
    rest = _rest(shape)

    def check(value: dict[str, Any], run: Run) -> None:
        for key, item in value.items():
            legal, member = checks_of(key, none)
            if legal is None or not legal(item):
                member(item, value, key, run)
        if rest is not None:
            rest(value, run)

    return check


def _rest(shape: Shape) -> Whole | None:
    """The check of an object beside its properties: what is lacking, choices and invariants."""
    _, required, choices, errors, advice = shape
    if choices or advice or len(errors) + len(required) > 1:
        return _planned(shape)
    if errors:
        (held,) = errors
        return _asked(*held)
    return _needed(*required[0]) if required else None


def _needed(name: str, partner: str, rule: Rule) -> Whole:
    def check(value: dict[str, Any], run: Run) -> None:
        if name not in value and partner not in value:
            run.add(value, None, rule)

    return check


def _asked(guard: frozenset[str] | None, holds: Invariant, rule: Rule) -> Whole:
    def check(value: dict[str, Any], run: Run) -> None:
        if guard is not None and guard.isdisjoint(value):
            return
        if not holds(value, run.environment):
            run.add(value, None, rule)

    return check


def _planned(shape: Shape) -> Whole:
    """Most objects of a type have the same few sets of properties: what follows from those alone
    is found once each."""
    plans: dict[tuple[str, ...], Plan] = {}
    plan_of = plans.get

    def check(value: dict[str, Any], run: Run) -> None:
        keys = tuple(value)
        plan = plan_of(keys)
        if plan is None:
            plan = _plan(shape, frozenset(keys))
            if shape.parts.keys() >= value.keys():  # others may be long, and any
                if len(plans) >= _PLANS:
                    plans.clear()
                plans[keys] = plan
        broken, errors, advice = plan
        for rule in broken:
            run.add(value, None, rule)
        for _, holds, rule in errors:
            if not holds(value, run.environment):
                run.add(value, None, rule)
        if advice and run.advice is not None:
            for _, holds, rule in advice:
                if not holds(value, run.environment):
                    run.add(value, None, rule)

    return check


def _plan(shape: Shape, present: frozenset[str]) -> Plan:
    return Plan(
        (*_lacks(shape, present), *_chosen(shape, present)),
        tuple(each for each in shape.errors if _spoken_of(each, present)),
        tuple(each for each in shape.advice if _spoken_of(each, present)),
    )


def _lacks(shape: Shape, present: frozenset[str]) -> Iterator[Rule]:
    for name, partner, rule in shape.required:
        if name not in present and partner not in present:
            yield rule


def _chosen(shape: Shape, present: frozenset[str]) -> Iterator[Rule]:
    for keys, lacking, several in shape.choices:
        # A value and its own partner are one choice, not two.
        chosen = {key.lstrip("_") for key in keys & present}
        if len(chosen) > 1:
            yield several
        elif lacking is not None and not chosen:
            yield lacking


def _spoken_of(held: Held, present: frozenset[str]) -> bool:
    return held.guard is None or not held.guard.isdisjoint(present)


class Nodes:
    """All nodes of one set of definitions."""

    def __init__(self, definitions: Definitions, systems: Systems = NO_SYSTEMS) -> None:
        self._definitions = definitions
        self._systems = systems
        self.types = definitions.types
        self._nodes: dict[str, Node] = {}

    def node(self, path: str) -> Node:
        """The node of a type or of an element with children of its own."""
        found = self._nodes.get(path)
        if found is None:
            found = self._nodes[path] = Node(path, self)
        return found

    def shape(self, path: str) -> Shape:
        """The definition of a node, compiled."""
        children = self._definitions.children(path).values()
        parts: dict[str, Part] = {}
        choices: list[Choice] = []
        required: list[tuple[str, str, Rule]] = []
        for element in children:
            own = dict(self._parts(element))
            parts.update(own)
            if element.name.endswith("[x]"):
                choices.append(_choice(element, own))
            elif element.min:
                required.append((element.name, f"_{element.name}", _lacking(element)))
        if path in self._definitions.types:
            parts["resourceType"] = Part("resourceType", values.ignored)
        held = self._held(path, {key: part.name for key, part in parts.items()})
        return Shape(
            parts,
            tuple(required),
            tuple(choices),
            tuple(each for each in held if each.rule.severity == "error"),
            tuple(each for each in held if each.rule.severity != "error"),
        )

    def _held(self, path: str, keys: dict[str, str]) -> tuple[Held, ...]:
        element = self._definitions.element(path)
        told = compiled(element.constraints, path, keys, self._definitions)
        return (*told, *measured(path, self._systems))

    def _parts(self, element: Element) -> Iterator[tuple[str, Part]]:
        """The properties of one element: one for each type of a choice, and their partners."""
        if element.content_reference:
            node = self.node(element.content_reference)
            yield element.name, Part(element.name, self._objects(element, node), node)
            return
        name = element.name.removesuffix("[x]")
        for type_ in element.types:
            key = name + type_.code[:1].upper() + type_.code[1:] if name != element.name else name
            if type_.code in CHECKS or type_.code == "xhtml":
                yield from self._primitive(element, key, name, type_.code)
            else:
                yield key, self._complex(element, name, type_)

    # Primitives

    def _primitive(
        self, element: Element, key: str, name: str, type_: str
    ) -> Iterator[tuple[str, Part]]:
        yield key, self._primitive_part(element, name, type_)
        if not _is_attribute(element, type_):
            node = self.node("Element")
            partner = values.one_partner if element.max == 1 else values.many_partners
            yield f"_{key}", Part(name, partner(element.path, node), node)

    def _primitive_part(self, element: Element, name: str, type_: str) -> Part:
        held = self._more_held(element, None)
        many = element.max != 1
        if element.max == 0 or type_ == "xhtml":
            member = values.forbidden(element.path) if element.max == 0 else _narrative
            return Part(name, _with_held(member, held, many) if held else member)
        legal, rule = self._legal(element, type_)
        if many or held:
            make = values.many_primitives if many else values.one_primitive
            member = make(element.path, legal, rule)
            return Part(name, _with_held(member, held, many) if held else member)
        return Part(name, values.one_primitive(element.path, legal, rule), None, legal)

    def _legal(self, element: Element, type_: str) -> tuple[Check, Rule]:
        """What a value of a primitive must be, and the rule that says so."""
        path = element.path
        value_set = bindings.required_set(element.binding)
        codes = bindings.codes_of(value_set, self._definitions) if value_set else None
        if value_set and codes is not None and type_ == "code":
            return _one_of(codes), bindings.unlisted(path, value_set, codes)
        wrong = self._systems.wrong
        form = bindings.form_of(path, value_set, wrong) if value_set and type_ == "code" else None
        legal, rule = form or (
            CHECKS[type_],
            Rule("error", "value", f"`{path}` must be {EXPECTED[type_]}"),
        )
        return _narrowed(element, legal), rule

    # Objects

    def _complex(self, element: Element, name: str, type_: TypeRef) -> Part:
        if element.max == 0:
            return Part(name, values.forbidden(element.path))
        if type_.code in _RESOURCES:
            return Part(name, self._resources(element))
        own = type_.code in _OWN_CHILDREN and self._definitions.children(element.path)
        node = self.node(element.path if own else (*type_.profiles, type_.code)[0])
        member = self._objects(element, node, type_)
        held = () if own else self._more_held(element, node.path)
        return Part(name, _with_held(member, held, element.max != 1) if held else member, node)

    def _objects(self, element: Element, node: Node, type_: TypeRef | None = None) -> Member:
        each = values.one_object(element.path, node)
        many = element.max != 1
        special = self._narrow_object(element, each, type_) if type_ else None
        if special is not None:
            return _each(element.path, special) if many else special
        return values.many_objects(element.path, node) if many else each

    def _narrow_object(self, element: Element, each: Member, type_: TypeRef) -> Member | None:
        """The check of an object whose element narrows its type: where a Reference may go, which
        codes a Coding or CodeableConcept may have."""
        if type_.code == "Reference":
            targets = frozenset(type_.targets) - _RESOURCES
            if not targets or len(targets) < len(type_.targets):
                return None
            return aimed(element.path, targets, self._definitions.types, each)
        value_set = bindings.concept_set(element.binding, self._definitions)
        bound = _BOUND.get(type_.code)
        if value_set is None or bound is None:
            return None
        legal = bound(value_set, self._definitions, self._systems.wrong)
        if legal is None:
            return None
        codes = bindings.codes_of(value_set, self._definitions) or frozenset()
        return _bound(each, legal, bindings.unlisted(element.path, value_set, codes))

    def _resources(self, element: Element) -> Member:
        member = self._resource(element.path, element.name == "contained")
        return member if element.max == 1 else _each(element.path, member)

    def _resource(self, path: str, contained: bool) -> Member:
        types, node = self._definitions.types, self.node
        rule = structure(f"`{path}` must be a resource with the resourceType of an R4 type")

        def member(value: Any, holder: Any, at: Any, run: Run) -> None:
            type_ = value.get("resourceType") if type(value) is dict else None
            if type(type_) is not str or type_ not in types:
                run.add(holder, at, rule)
                return
            outer = run.environment
            around = (
                share(outer, Environment(value, outer.root))
                if contained
                else Environment(value, value)
            )
            node(type_).check(value, run.within(around))

        return member

    def _more_held(self, element: Element, type_path: str | None) -> tuple[Held, ...]:
        """The invariants of an element that its type does not have already."""
        of_type = self._definitions.element(type_path).constraints if type_path else ()
        known = {constraint.key for constraint in of_type}
        more = [each for each in element.constraints if each.key not in known]
        return compiled(more, element.path, {}, self._definitions)


_BOUND = {"Coding": bindings.coding_is_bound, "CodeableConcept": bindings.concept_is_bound}


def _choice(element: Element, parts: dict[str, Part]) -> Choice:
    several = structure(f"`{element.path}` has values of more than one type")
    return Choice(frozenset(parts), _lacking(element) if element.min else None, several)


def _lacking(element: Element) -> Rule:
    parent, _, name = element.path.rpartition(".")
    return Rule("error", "required", f"`{parent}` lacks `{name}`, which is required")


def _is_attribute(element: Element, type_: str) -> bool:
    """Whether the value can have neither id nor extensions: an attribute in XML, or XHTML; and the
    id of a resource, which is a logical id and nothing more."""
    return type_ == "xhtml" or element.name == "id" or element.path == "Extension.url"


def _one_of(codes: frozenset[str]) -> Check:
    return lambda value: type(value) is str and value in codes


def _narrowed(element: Element, legal: Check) -> Check:
    """`legal`, and within the length or range that the element sets."""
    length, low, high = element.max_length, element.min_value, element.max_value
    if length is not None:
        return lambda value: legal(value) and len(value) <= length
    if low is None and high is None:
        return legal
    return lambda value: (
        legal(value) and (low is None or value >= low) and (high is None or value <= high)
    )


def _narrative(value: Any, holder: Any, at: Any, run: Run) -> None:
    if type(value) is not str:
        run.add(holder, at, structure("`Narrative.div` must be text"))
        return
    for key, text in problems(value):
        run.add(holder, at, Rule("error", "invariant" if key else "structure", text, key))


def _bound(member: Member, legal: Check, rule: Rule) -> Member:
    def bound(value: Any, holder: Any, at: Any, run: Run) -> None:
        member(value, holder, at, run)
        if not legal(value):
            run.add(holder, at, rule)

    return bound


def _each(path: str, member: Member) -> Member:
    """`member` for each item of an array."""

    def members(value: Any, holder: Any, at: Any, run: Run) -> None:
        if type(value) is not list or not value:
            run.add(holder, at, values.no_array(path, value))
            return
        for index, item in enumerate(value):
            member(item, value, index, run)

    return members


def _with_held(member: Member, held: tuple[Held, ...], many: bool) -> Member:
    """`member`, and the invariants that the element has beyond those of its type."""

    def ask(value: Any, holder: Any, at: Any, run: Run) -> None:
        for _, holds, rule in held:
            if rule.severity != "error" and run.advice is None:
                continue
            if not holds(value, run.environment):
                run.add(holder, at, rule)

    def checked(value: Any, holder: Any, at: Any, run: Run) -> None:
        member(value, holder, at, run)
        if not many:
            ask(value, holder, at, run)
        elif type(value) is list:
            for index, item in enumerate(value):
                if item is not None:
                    ask(item, value, index, run)

    return checked
