"""What FHIR R4 4.0.1 defines, as data: types and their elements, search parameters, compartments,
operations and the codes of required bindings. Read from one compact file that
scripts/build_definitions.py makes of the official package.

https://hl7.org/fhir/R4/structuredefinition.html
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import msgspec

FILE = Path(__file__).parent / "r4.bin.gz"


class Constraint(NamedTuple):
    """An invariant: it must evaluate to true on the element that bears it."""

    key: str
    severity: str  # error or warning
    expression: str
    human: str


class TypeRef(NamedTuple):
    """One type of an element. `targets` are the resource types that a Reference or canonical may
    name (empty or Resource: any), `profiles` narrow the type itself (SimpleQuantity)."""

    code: str
    targets: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()


class Binding(NamedTuple):
    """A value set by its url without version. `max_value_set` binds even where `strength` is
    weaker than required."""

    strength: str  # required, extensible, preferred or example
    value_set: str
    max_value_set: str | None = None


class Element(NamedTuple):
    """One element of a snapshot. `max` None is `*`; `content_reference` is the path of the
    element whose children this one has."""

    path: str
    min: int
    max: int | None
    types: tuple[TypeRef, ...]
    content_reference: str | None
    binding: Binding | None
    constraints: tuple[Constraint, ...]  # without ele-1, which holds everywhere
    is_summary: bool
    is_modifier: bool
    max_length: int | None
    min_value: int | None
    max_value: int | None

    @property
    def name(self) -> str:
        """The last step of the path, `value[x]` for a choice."""
        return self.path.rpartition(".")[2]


class Structure(NamedTuple):
    """A type: its root is `elements[0]`. Paths begin with `name`, also for SimpleQuantity and
    MoneyQuantity, whose `type` is Quantity."""

    name: str
    url: str
    kind: str  # primitive-type, complex-type or resource
    abstract: bool
    type: str
    base: str | None
    regex: str | None  # of a primitive's value
    elements: tuple[Element, ...]


class SearchParameter(NamedTuple):
    """A search parameter as one resource type has it: `expression` holds only the parts of the
    union that speak of this type. `components` of a composite are (url of the parameter,
    expression relative to each node that `expression` yields)."""

    url: str
    code: str
    type: str
    expression: str
    targets: tuple[str, ...] = ()
    components: tuple[tuple[str, str], ...] = ()


class OperationParameter(NamedTuple):
    name: str
    use: str  # in or out
    min: int
    max: int | None
    type: str | None
    search_type: str | None
    parts: tuple[OperationParameter, ...] = ()


class Operation(NamedTuple):
    """An operation and where it may be called: on the system, a type, an instance."""

    url: str
    code: str
    affects_state: bool
    system: bool
    type: bool
    instance: bool
    resources: tuple[str, ...]
    parameters: tuple[OperationParameter, ...]


# A row of the file. Values that many elements share are positions in the file's tables.
class PackedElement(NamedTuple):
    path: str
    min: int
    max: int | None
    types: int
    content_reference: str | None
    binding: int | None
    constraints: tuple[int, ...]
    is_summary: bool
    is_modifier: bool
    max_length: int | None
    min_value: int | None
    max_value: int | None


class _PackedStructure(msgspec.Struct):
    name: str
    url: str
    kind: str
    abstract: bool
    type: str
    base: str | None
    regex: str | None
    elements: tuple[PackedElement, ...]


class _PackedParameter(msgspec.Struct):
    url: str
    code: str
    type: str
    targets: tuple[str, ...]
    components: tuple[tuple[str, str], ...]
    expressions: dict[str, str]


class _Packed(msgspec.Struct):
    source: str
    structures: tuple[_PackedStructure, ...]
    constraints: tuple[Constraint, ...]
    types: tuple[tuple[TypeRef, ...], ...]
    bindings: tuple[Binding, ...]
    parameters: tuple[_PackedParameter, ...]
    compartments: dict[str, dict[str, tuple[str, ...]]]
    code_lists: dict[str, dict[str, frozenset[str] | None]]
    operations: tuple[Operation, ...]


_NONE: Mapping[str, Element] = MappingProxyType({})
_NO_PARAMETERS: Mapping[str, SearchParameter] = MappingProxyType({})


@dataclass(frozen=True, eq=False)  # one is itself: caches hold it by identity
class Definitions:
    """FHIR R4 itself. `digest` is the SHA-256 of the file, `source` that of the package.
    `code_lists` has the codes of each required value set by code system; `open_lists` the required
    sets that cannot be listed (MIME types, languages, units, currencies), with their systems."""

    digest: str
    source: str
    types: frozenset[str]
    structures: Mapping[str, Structure]
    compartments: Mapping[str, Mapping[str, tuple[str, ...]]]
    code_lists: Mapping[str, Mapping[str, frozenset[str]]]
    open_lists: Mapping[str, tuple[str, ...]]
    operations: Mapping[str, Operation]
    _elements: Mapping[str, Element] = field(repr=False)
    _children: Mapping[str, Mapping[str, Element]] = field(repr=False)
    _parameters: Mapping[str, Mapping[str, SearchParameter]] = field(repr=False)

    def children(self, path: str) -> Mapping[str, Element]:
        """The children of a type (`HumanName`) or of an element that defines its own
        (`Observation.component`), by name in the order of the snapshot; a choice is one entry,
        `value[x]`. Empty where there are none of its own: then look at the element's type or
        `content_reference`."""
        return self._children.get(path, _NONE)

    def element(self, path: str) -> Element:
        """The element at a path. Raises KeyError if there is none."""
        return self._elements[path]

    def parameters(self, type: str) -> Mapping[str, SearchParameter]:
        """The search parameters of a resource type by code, `_id` and its kind included."""
        return self._parameters.get(type, _NO_PARAMETERS)


@cache
def load() -> Definitions:
    """The definitions, read once a process."""
    file = FILE.read_bytes()
    packed = msgspec.msgpack.decode(gzip.decompress(file), type=_Packed)
    structures = {each.name: each for each in _structures(packed)}
    elements = {e.path: e for each in structures.values() for e in each.elements}
    types = frozenset(
        s.name for s in structures.values() if s.kind == "resource" and not s.abstract
    )
    return Definitions(
        digest=hashlib.sha256(file).hexdigest(),
        source=packed.source,
        types=types,
        structures=MappingProxyType(structures),
        compartments=MappingProxyType(packed.compartments),
        code_lists=MappingProxyType(dict(_closed(packed))),
        open_lists=MappingProxyType(
            {
                url: tuple(lists)
                for url, lists in packed.code_lists.items()
                if None in lists.values()
            }
        ),
        operations=MappingProxyType({each.url: each for each in packed.operations}),
        _elements=elements,
        _children=_by_parent(elements.values()),
        _parameters=_parameters(packed.parameters, types),
    )


def _structures(packed: _Packed) -> Iterable[Structure]:
    for each in packed.structures:
        rows = tuple(
            Element(
                row.path,
                row.min,
                row.max,
                packed.types[row.types],
                row.content_reference,
                None if row.binding is None else packed.bindings[row.binding],
                tuple([packed.constraints[position] for position in row.constraints]),
                *row[7:],
            )
            for row in each.elements
        )
        yield Structure(
            each.name, each.url, each.kind, each.abstract, each.type, each.base, each.regex, rows
        )


def _by_parent(elements: Iterable[Element]) -> Mapping[str, Mapping[str, Element]]:
    children: dict[str, dict[str, Element]] = {}
    for element in elements:
        parent, _, name = element.path.rpartition(".")
        if parent:
            children.setdefault(parent, {})[name] = element
    return children


def _closed(packed: _Packed) -> Iterable[tuple[str, Mapping[str, frozenset[str]]]]:
    for url, lists in packed.code_lists.items():
        codes = {system: found for system, found in lists.items() if found is not None}
        if len(codes) == len(lists):
            yield url, codes


def _parameters(
    packed: Iterable[_PackedParameter], types: frozenset[str]
) -> Mapping[str, Mapping[str, SearchParameter]]:
    found: dict[str, dict[str, SearchParameter]] = {type: {} for type in sorted(types)}
    for each in packed:
        for base, expression in each.expressions.items():
            parameter = SearchParameter(
                each.url, each.code, each.type, expression, each.targets, each.components
            )
            for type in found if base in ("Resource", "DomainResource") else (base,):
                found[type][each.code] = parameter
    return found
