"""Snapshots of profiles that are published as a differential only.

https://hl7.org/fhir/R4/profiling.html#snapshot

The base's snapshot becomes a tree; each element of the differential walks down in it, unfolding
data types, profiles and content references where it goes deeper than the base did, and is merged
into the place where it ends. Slices hang beside the element that they slice. Elements are shared
with the base as far as they say the same: nothing inside of one is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from conformance.patience import look

Element: TypeAlias = dict[str, Any]
Structure: TypeAlias = Mapping[str, Any]
Resolve: TypeAlias = Callable[[str], Structure | None]

TYPES = "http://hl7.org/fhir/StructureDefinition/"
DEPTH = 32  # bases of bases without a snapshot, and data types within data types
ELEMENTS = 20_000  # of one snapshot
COPIES = 5 * ELEMENTS  # of elements while it is made: slices within slices multiply what they copy
_LOOK = 256  # of them between two looks at the clock

_BY_TYPE = {
    "discriminator": [{"type": "type", "path": "$this"}],
    "ordered": False,
    "rules": "open",
}
_BY_URL = {
    "discriminator": [{"type": "value", "path": "url"}],
    "ordered": False,
    "rules": "open",
}
_EXTENSIONS = ("extension", "modifierExtension")
_OF_PLACE = frozenset({"id", "path", "base", "sliceName"})  # not taken from a differential
_JOINED = {"condition": None, "alias": None, "constraint": "key", "example": "label", "code": None}
_APPENDED = ("definition", "comment", "requirements")  # "..." adds to what the base says
# What an element that is fixed on one place does not hand on to its slices.
_NOT_SLICED = ("slicing", "min")


class SnapshotError(Exception):
    """A snapshot cannot be made; the text names what is missing or does not fit."""


class _Node:
    """An element with what is below it (None: not unfolded yet) and its slices."""

    __slots__ = ("children", "element", "name", "origin", "slice", "slices")

    def __init__(self, name: str, element: Element, slice: str = "") -> None:
        self.name, self.slice, self.element = name, slice, element
        self.children: list[_Node] | None = None
        self.slices: list[_Node] = []
        self.origin: Element | None = None  # as it was before the differential

    def child(self, name: str) -> _Node | None:
        """The child with a name."""
        return next((each for each in self.children or () if each.name == name), None)

    def sliced(self, slice: str) -> _Node | None:
        """The slice with a name."""
        return next((each for each in self.slices if each.slice == slice), None)


def with_snapshot(structure: Structure, resolve: Resolve) -> dict[str, Any]:
    """The StructureDefinition with a snapshot made of its base and its differential. `resolve`
    gives the StructureDefinition of a canonical. SnapshotError."""
    return _Making(resolve).derived(structure, DEPTH)


class _Making:
    """The making of one snapshot: what it draws in, each once, and how much it may yet copy."""

    def __init__(self, resolve: Resolve) -> None:
        self.resolve = resolve
        self._made: dict[str, Structure] = {}
        self._left = COPIES

    def derived(self, structure: Structure, depth: int) -> dict[str, Any]:
        """With its snapshot. SnapshotError."""
        if depth == 0:
            raise SnapshotError(f"{_called(structure)} is derived from itself")
        tree = _Tree(self.known(structure.get("baseDefinition", ""), depth), self, depth)
        for element in structure.get("differential", {}).get("element", ()):
            look()
            tree.constrain(element)
        return {**structure, "snapshot": {"element": list(tree.elements(str(structure["type"])))}}

    def known(self, canonical: str, depth: int) -> Structure:
        """A StructureDefinition with its snapshot. SnapshotError."""
        found = self._made.get(canonical) or self.resolve(canonical)
        if found is None:
            raise SnapshotError(f"{canonical or 'The base'} is not known")
        if "snapshot" not in found:
            found = self.derived(found, depth - 1)
        self._made[canonical] = found
        return found

    def copied(self, nodes: Iterable[_Node]) -> list[_Node]:
        """Nodes with all that is below them, anew. SnapshotError."""
        return [self._copied(each) for each in nodes]

    def _copied(self, node: _Node) -> _Node:
        self.spend()
        made = _Node(node.name, {**node.element}, node.slice)
        made.origin = node.origin
        made.slices = self.copied(node.slices)
        made.children = None if node.children is None else self.copied(node.children)
        return made

    def spend(self) -> None:
        """One more element is made. SnapshotError."""
        self._left -= 1
        if self._left < 0:
            raise SnapshotError(f"A snapshot is made of at most {COPIES} elements")
        if not self._left % _LOOK:
            look()


def _called(structure: Structure) -> str:
    return str(structure.get("url") or structure.get("name"))


class _Tree:
    """A snapshot while it is made."""

    def __init__(self, base: Structure, making: _Making, depth: int) -> None:
        self._making, self._depth = making, depth
        self._root = _rooted(base, making)
        (self._base,) = making.copied([self._root])

    def constrain(self, element: Element) -> None:
        """Merge an element of the differential into its place."""
        node = owner = self._root
        if len(_steps(element)) > DEPTH:
            raise SnapshotError(f"An element lies deeper than {DEPTH} levels")
        for name, slice in _steps(element)[1:]:
            node, owner = self._step(node, name, slice)
        self._merge(node, element)
        if node is not owner and not _last(element).startswith(node.name):
            _settle(owner, node)

    def elements(self, type: str) -> Iterator[Element]:
        """The elements in order, with ids and paths."""
        for count, element in enumerate(_told(self._root, type, type)):
            if count >= ELEMENTS:
                raise SnapshotError(f"A snapshot has at most {ELEMENTS} elements")
            yield element

    def _step(self, node: _Node, name: str, slice: str) -> tuple[_Node, _Node]:
        """The child of a node, made where it is not there yet, and the element that it slices."""
        self._unfold(node)
        found = node.child(name)
        if found is None:
            found, slice = self._choice(node, name, slice)
        if found.origin is None:
            found.origin = {**found.element}
        return (self._slice(found, slice) if slice else found), found

    def _choice(self, node: _Node, name: str, slice: str) -> tuple[_Node, str]:
        """value[x] for valueQuantity, and the slice that this means; none where the element is of
        one type anyway."""
        for each in node.children or ():
            stem = each.name.removesuffix("[x]")
            if stem == each.name or not name.startswith(stem):
                continue
            codes = [str(type["code"]) for type in each.element.get("type", ())]
            for code in codes:
                if name == stem + code[:1].upper() + code[1:]:
                    if len(codes) > 1 and node.slice and _is_backbone(node.element):
                        _narrow(each.element, each.name, name)  # a slice has one type of value
                        codes = [code]
                    single = len(codes) == 1 and not each.slices
                    return each, "" if single else slice or name
        raise SnapshotError(f"There is no element {name[:100]} below {node.name}")

    def _slice(self, node: _Node, slice: str) -> _Node:
        """A slice of an element, made where it is not there yet: as the element was before the
        differential (what that says of the element holds for its slices anyway), with what is below
        it now, as publishers of guides do."""
        found = node.sliced(slice)
        if found is not None:
            return found
        beside = node.sliced(slice.rpartition("/")[0])
        origin = beside.element if beside else node.origin or node.element
        self._making.spend()
        made = _Node(node.name, {**origin}, slice)
        for name in _NOT_SLICED:
            made.element.pop(name, None)
        made.element["min"] = 0
        if node.name.endswith("[x]"):
            node.element.setdefault("slicing", _BY_TYPE)
            _narrow(made.element, node.name, slice)
        elif node.name in _EXTENSIONS:
            node.element.setdefault("slicing", _BY_URL)
        below = (beside or node).children if _is_backbone(made.element) else None
        made.children = None if below is None else self._making.copied(below)
        node.slices.append(made)
        return made

    def _unfold(self, node: _Node) -> None:
        """Give a node its children."""
        if node.children is not None:
            return
        reference = node.element.pop("contentReference", None)
        if reference is not None:
            origin = self._at(reference.partition("#")[2])
            node.element["type"] = origin.element.get("type", [])
            node.children = self._making.copied(origin.children or ())
            return
        node.children = _rooted(self._type_of(node), self._making).children or []

    def _type_of(self, node: _Node) -> Structure:
        """The StructureDefinition of what a node holds: its one profile, or its type; of several
        types what they share."""
        types = node.element.get("type", ())
        if len(types) != 1:
            return self._making.known(TYPES + "Element", self._depth - 1)
        profiles = types[0].get("profile", ())
        if len(profiles) == 1 and self._making.resolve(profiles[0]) is not None:
            return self._making.known(profiles[0], self._depth - 1)
        return self._making.known(TYPES + str(types[0]["code"]), self._depth - 1)

    def _at(self, id: str) -> _Node:
        """The element of the base that a content reference names."""
        node: _Node | None = self._base
        for name in id.split(".")[1:]:
            node = node.child(name) if node else None
        if node is None:
            raise SnapshotError(f"There is no element {id[:100]}, which another refers to")
        return node

    def _merge(self, node: _Node, element: Element) -> None:
        own = node.element
        profiled = self._profiled(node, element)
        if profiled is not None:
            own.update(profiled)
        for name, value in element.items():
            if name in _OF_PLACE:
                continue
            if name in _JOINED:
                own[name] = _joined(own.get(name, []), value, _JOINED[name])
            elif name in _APPENDED and isinstance(value, str) and value.startswith("..."):
                own[name] = f"{own.get(name, '')}\r\n{value[3:]}"
            elif name == "binding":
                own[name] = {**own.get(name, {}), **value}
            else:
                _one_of(own, name)
                own[name] = value

    def _profiled(self, node: _Node, element: Element) -> Element | None:
        """What the root of an extension says of the element that holds it."""
        types = element.get("type", ())
        if node.name not in _EXTENSIONS or len(types) != 1 or not types[0].get("profile"):
            return None
        if self._making.resolve(types[0]["profile"][0]) is None:
            return None
        root = self._making.known(types[0]["profile"][0], self._depth - 1)
        first = root["snapshot"]["element"][0]
        return {name: first[name] for name in _OF_EXTENSION if name in first}


_OF_EXTENSION = ("min", "max", "short", "definition", "comment", "isModifier", "constraint")


def _rooted(structure: Structure, making: _Making) -> _Node:
    """The tree of a snapshot. SnapshotError."""
    elements = structure["snapshot"]["element"]
    root = _Node(str(structure["type"]), {**elements[0]})
    home = TYPES + str(structure["type"])  # where references without an address lead
    for element in elements[1:]:
        node = root
        *above, (name, slice) = _steps(element)[1:]
        for each, beside in above:
            node = _below(node, each, beside)
        if node.children is None:
            node.children = []
        making.spend()
        made = _Node(name, {**element}, slice)
        if str(element.get("contentReference", "")).startswith("#"):
            made.element["contentReference"] = home + element["contentReference"]
        owner = node.child(name)
        if slice and owner is not None:
            owner.slices.append(made)
        else:
            made.slice = ""
            node.children.append(made)
    return root


def _below(node: _Node, name: str, slice: str) -> _Node:
    found = node.child(name)
    if found is not None and slice:
        found = found.sliced(slice) or found
    if found is None:
        raise SnapshotError(f"A snapshot goes below {name[:100]}, which it does not have")
    return found


def _steps(element: Element) -> list[tuple[str, str]]:
    """Names and slices from the root to an element: its id, or its path and its slice."""
    id = element.get("id")
    if id is None:
        id = element["path"]
        if "sliceName" in element:
            id = f"{id}:{element['sliceName']}"
    steps = []
    for part in str(id).split("."):
        name, _, slice = part.partition(":")
        steps.append((name, slice))
    return steps


def _last(element: Element) -> str:
    return _steps(element)[-1][0]


def _told(node: _Node, id: str, path: str) -> Iterator[Element]:
    """An element, what is below it, its slices."""
    named = {"id": id, "path": path}
    if node.slice:
        named["sliceName"] = node.slice
    rest = {name: value for name, value in node.element.items() if name not in named}
    if "base" not in rest:
        told = (rest.get("min", 0), rest.get("max", "*"))
        rest["base"] = {"path": path, "min": told[0], "max": told[1]}
    yield {**named, **rest}
    for child in node.children or ():
        yield from _told(child, f"{id}.{child.name}", f"{path}.{child.name}")
    for slice in node.slices:
        yield from _told(slice, f"{id}:{slice.slice}", path)


def _settle(owner: _Node, slice: _Node) -> None:
    """An element must have a value of the one type that the differential names for it."""
    if owner.name.endswith("[x]") and slice.element.get("min") and len(owner.slices) == 1:
        owner.element["min"] = 1
        owner.element["type"] = slice.element["type"]
        owner.element["slicing"] = {**owner.element["slicing"], "rules": "closed"}


def _narrow(element: Element, name: str, slice: str) -> None:
    """Leave a slice of a choice the type that its name says."""
    stem = name.removesuffix("[x]")
    for type in element.get("type", ()):
        code = str(type["code"])
        if slice == stem + code[:1].upper() + code[1:]:
            element["type"] = [type]


def _is_backbone(element: Element) -> bool:
    codes = [type.get("code") for type in element.get("type", ())]
    return codes in (["BackboneElement"], ["Element"])


def _joined(own: list[Any], more: list[Any], key: str | None) -> list[Any]:
    """Two lists, nothing twice."""
    if key is None:
        return [*own, *(each for each in more if each not in own)]
    known = {each.get(key) for each in own}
    return [*own, *(each for each in more if each.get(key) not in known)]


def _one_of(element: Element, name: str) -> None:
    """Remove what a fixed value, a pattern or a default of another type would stand beside."""
    for stem in ("fixed", "pattern", "defaultValue", "minValue", "maxValue"):
        if name.startswith(stem):
            for each in [each for each in element if each.startswith(stem)]:
                del element[each]
