"""The types that an expression walks through, as the definitions give them: which JSON members a
name means, and which type is a kind of which.

https://hl7.org/fhir/R4/fhirpath.html#types
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from conformance.definitions import Definitions, Element
from conformance.fhirpath.syntax import FhirPathError

# What a FHIR primitive is when an operator or function works on its value.
SYSTEM = {
    "boolean": "System.Boolean",
    "integer": "System.Integer",
    "unsignedInt": "System.Integer",
    "positiveInt": "System.Integer",
    "decimal": "System.Decimal",
    "date": "System.Date",
    "dateTime": "System.DateTime",
    "instant": "System.DateTime",
    "time": "System.Time",
    "string": "System.String",
    "code": "System.String",
    "id": "System.String",
    "markdown": "System.String",
    "uri": "System.String",
    "url": "System.String",
    "canonical": "System.String",
    "oid": "System.String",
    "uuid": "System.String",
    "base64Binary": "System.String",
    "xhtml": "System.String",
}
_SYSTEM_TYPES = frozenset((*SYSTEM.values(), "System.Any", "System.Quantity"))


class Step(NamedTuple):
    """One JSON member that a name may mean. `type` is a datatype, a resource type, or the path of
    an element that defines its own children (`Observation.component`); `datatype` is the FHIR name
    of it (`BackboneElement`), `path` that of the element (`Observation.value[x]`)."""

    key: str
    type: str
    datatype: str
    path: str
    many: bool
    primitive: bool


# What type() answers has two members of its own.
_TYPE_INFO = {
    ("System.TypeInfo", name): (Step(name, "System.String", "System.String", "", False, True),)
    for name in ("namespace", "name")
}


class Types:
    """The type system of one set of definitions; it remembers what it was asked."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._steps: dict[tuple[str, str], tuple[Step, ...]] = dict(_TYPE_INFO)
        self._members: dict[str, dict[str, Step]] = {}
        self._kinds: dict[str, frozenset[str]] = {}

    def steps(self, type: str, name: str) -> tuple[Step, ...]:
        """The members that `name` means on a type; several for a choice, none if it is unknown."""
        found = self._steps.get((type, name))
        if found is None:
            children = self._definitions.children(type)
            element = children.get(name) or children.get(f"{name}[x]")
            bare = type in SYSTEM and name == "value"
            found = () if element is None or bare else self._made(element)
            self._steps[type, name] = found
        return found

    def members(self, type: str) -> dict[str, Step]:
        """Every JSON member of a type, by key."""
        found = self._members.get(type)
        if found is None:
            steps = [
                step
                for name in self._definitions.children(type)
                for step in self.steps(type, name.removesuffix("[x]"))
            ]
            found = self._members[type] = {step.key: step for step in steps}
        return found

    def resource(self, type: str) -> bool:
        """Whether a value's own resourceType tells its type."""
        return type in ("Resource", "DomainResource")

    def own(self, resource: Mapping[str, Any]) -> str:
        """The type that a resource says it is; Resource when the definitions do not know it (what
        is remembered by type must not grow with what is sent)."""
        name = resource.get("resourceType")
        return name if name in self._definitions.types else "Resource"

    def kinds(self, type: str) -> frozenset[str]:
        """The type and all that it specialises, by FHIR or System name."""
        found = self._kinds.get(type)
        if found is None:
            found = self._kinds[type] = frozenset(self._ancestry(type))
        return found

    def datatype(self, type: str) -> str:
        """The FHIR name of a type: BackboneElement or Element for one that is a path."""
        if "." not in type or type.startswith("System."):
            return type
        return self._definitions.element(type).types[0].code

    def at(self, path: str) -> tuple[str, ...]:
        """The types that the element at `path`, or the type of that name, may have. FhirPathError
        if the definitions know neither."""
        if path in self._definitions.structures:
            return (path,)
        try:
            element = self._definitions.element(path)
        except KeyError:
            raise FhirPathError(f"`{path}` is no type and no element") from None
        return tuple(self._typed(element, each.code) for each in element.types) or (
            self._typed(element, ""),
        )

    def named(self, name: str) -> str:
        """The type that a type specifier names: a FHIR type first, then one of System. Nothing is
        of a System type that there is not."""
        namespace, _, rest = name.rpartition(".")
        if namespace != "System" and rest in self._definitions.structures:
            return rest
        if namespace == "System" or (not namespace and f"System.{rest}" in _SYSTEM_TYPES):
            return f"System.{rest}"
        raise FhirPathError(f"`{name}` is not a type")

    def known(self, name: str) -> bool:
        """Whether this is the name of a FHIR type."""
        return name in self._definitions.structures

    def _made(self, element: Element) -> tuple[Step, ...]:
        many = element.max is None or element.max > 1
        if not element.name.endswith("[x]"):
            code = element.types[0].code if element.types else ""
            return (self._step(element, element.name, code, many),)
        stem = element.name.removesuffix("[x]")
        return tuple(
            self._step(element, f"{stem}{each.code[0].upper()}{each.code[1:]}", each.code, many)
            for each in element.types
        )

    def _step(self, element: Element, key: str, code: str, many: bool) -> Step:
        type = self._typed(element, code)
        primitive = type in SYSTEM
        return Step(key, type, code or self.datatype(type), element.path, many, primitive)

    def _typed(self, element: Element, code: str) -> str:
        if element.content_reference:
            return element.content_reference.removeprefix("#")
        return element.path if self._definitions.children(element.path) else code

    def _ancestry(self, type: str) -> list[str]:
        if type.startswith("System."):
            return [type, "System.Any"]
        chain: list[str] = []
        at: str | None = self.datatype(type)
        while at:
            chain.append(at)
            at = self._definitions.structures[at].base if self.known(at) else None
        return chain


_KNOWN: dict[str, Types] = {}


def types_of(definitions: Definitions) -> Types:
    """The type system of these definitions; one for each file of definitions."""
    return _KNOWN.get(definitions.digest) or _KNOWN.setdefault(
        definitions.digest, Types(definitions)
    )


def fitting(types: tuple[str, ...], value: Any) -> str:
    """Of the types that a choice allows, the first that a JSON value can have. A caller who knows
    the type names it instead."""
    if len(types) == 1:
        return types[0]
    allowed = _JSON.get(type(value), frozenset())
    for each in types:
        if (each in allowed) if each in SYSTEM else isinstance(value, dict):
            return each
    return types[0]


_NUMBERS = frozenset({"integer", "decimal", "positiveInt", "unsignedInt"})
_JSON: dict[type, frozenset[str]] = {
    Decimal: frozenset({"decimal"}),
    bool: frozenset({"boolean"}),
    int: _NUMBERS,
    str: frozenset(SYSTEM) - _NUMBERS - {"boolean"},
}
