"""A snapshot as a tree: elements with their children and slices.

https://hl7.org/fhir/R4/profiling.html#slicing
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

CORE = "http://hl7.org/fhir/StructureDefinition/"
_SYSTEM = "http://hl7.org/fhirpath/System."


@dataclass(slots=True)
class Branch:
    """An element of a snapshot. `slices` are by the name after the last `/`, so that slices of a
    slice hang below it; `name` is the last step of the path."""

    element: Mapping[str, Any]
    name: str
    children: dict[str, Branch] = field(default_factory=dict)
    slices: dict[str, Branch] = field(default_factory=dict)

    @property
    def min(self) -> int:
        found = self.element.get("min")
        return found if type(found) is int else 0

    @property
    def max(self) -> int | None:
        """None for `*`."""
        found = str(self.element.get("max", "*"))
        return int(found) if found.isdecimal() else None

    @property
    def types(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(each for each in self.element.get("type", ()) if type(each) is dict)

    def targets(self, code: str) -> tuple[str, ...]:
        """The canonicals that a Reference (or canonical) of this type may lead to."""
        return tuple(
            target
            for each in self.types
            if type_code(each) == code
            for target in each.get("targetProfile", ())
        )

    def profiles(self, code: str) -> tuple[str, ...]:
        """The canonicals of the profiles that narrow this type."""
        return tuple(
            profile
            for each in self.types
            if type_code(each) == code
            for profile in each.get("profile", ())
        )

    def value(self, stem: str) -> Any:
        """The value of `fixed[x]`, `pattern[x]`, `minValue[x]` or `maxValue[x]`, if there is."""
        for key, value in self.element.items():
            if key.startswith(stem) and key[len(stem) :][:1].isupper():
                return value
        return None


def type_code(type_: Mapping[str, Any]) -> str:
    """The name of a type; the System types of ids and urls by their FHIR names."""
    code = str(type_.get("code", ""))
    if code.startswith(_SYSTEM):
        return code.removeprefix(_SYSTEM)[:1].lower() + code.removeprefix(_SYSTEM)[1:]
    return code.removeprefix(CORE)


def grow(elements: Iterable[Mapping[str, Any]]) -> Branch:
    """The tree of a snapshot. ValueError if its elements are not in the order of a snapshot: each
    after its parent, a slice after what it slices."""
    root: Branch | None = None
    above: list[tuple[str, Branch]] = []
    for element in elements:
        path = str(element.get("path", ""))
        parent, _, name = path.rpartition(".")
        branch = Branch(element, name)
        if root is None:
            if parent:
                raise ValueError("A snapshot begins with its root")
            root = branch
        else:
            while above and above[-1][0] != parent:
                above.pop()
            if not above:
                raise ValueError("An element of a snapshot comes after its parent")
            _hang(above[-1][1], branch)
        above.append((path, branch))
    if root is None:
        raise ValueError("A snapshot has a root")
    return root


def _hang(parent: Branch, branch: Branch) -> None:
    sliced, slice_name = branch.name, branch.element.get("sliceName")
    if sliced not in parent.children and not slice_name:
        choice = _choice(parent, sliced)
        if choice is not None:
            sliced, slice_name = choice, sliced
    elif slice_name and sliced not in parent.children:
        sliced = _choice(parent, sliced) or sliced
    if not slice_name:
        parent.children[sliced] = branch
        return
    at = parent.children.get(sliced)
    if at is None:
        at = parent.children[sliced] = Branch({}, sliced)
    *outer, last = str(slice_name).split("/")
    for each in outer:
        at = at.slices.get(each, at)
    at.slices[last] = branch


def _choice(parent: Branch, name: str) -> str | None:
    """The choice that the name of one of its types stands for: `value[x]` for valueQuantity."""
    for each in parent.children:
        stem = each.removesuffix("[x]")
        if stem != each and name.startswith(stem) and name[len(stem) :][:1].isupper():
            return each
    return None
