"""A StructureDefinition that constrains another: whether a snapshot can be made of its
differential, and whether what it fixes and slices by fits what it constrains.

https://hl7.org/fhir/R4/structuredefinition.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from conformance.definitions import Definitions
from conformance.outcome import Issue
from conformance.snapshot import SnapshotError, with_snapshot

_ROOT = "StructureDefinition"
_PLAIN = re.compile(r"[a-z]\w*", re.ASCII)
_URL = "Extension.url"
# Types whose children are those of the element itself.
_INLINE = frozenset({"BackboneElement", "Element"})

Structure = Mapping[str, Any]
Find = Callable[[str], Structure | None]


def check(structure: Structure, find: Find, definitions: Definitions) -> Iterator[Issue]:
    """What is wrong with a profile or extension; `find` knows StructureDefinitions by canonical."""
    if structure.get("derivation") != "constraint" or not _elements(structure, "differential"):
        return
    base = find(str(structure.get("baseDefinition")))
    if base is None:
        text = "The base definition is not known here, so the differential was not checked"
        yield Issue("warning", "not-found", text, f"{_ROOT}.baseDefinition")
        return
    try:
        made = with_snapshot({k: v for k, v in structure.items() if k != "snapshot"}, find)
    except SnapshotError as error:
        yield Issue("error", "processing", str(error), f"{_ROOT}.differential")
        return
    except (ValueError, KeyError, TypeError, AttributeError):
        text = "The differential is malformed, so no snapshot can be made of it"
        yield Issue("error", "processing", text, f"{_ROOT}.differential")
        return
    yield from _named(structure)
    yield from _same_url(structure, base)
    yield from _sliced_by(structure, made, definitions)


def _numbered(structure: Structure, view: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    held = structure.get(view)
    found = held.get("element") if isinstance(held, dict) else None
    for index, each in enumerate(found if isinstance(found, list) else ()):
        if isinstance(each, dict):
            yield index, each


def _elements(structure: Structure, view: str) -> list[Mapping[str, Any]]:
    return [each for _, each in _numbered(structure, view)]


def _named(structure: Structure) -> Iterator[Issue]:
    """The id and the path of an element lead to the same place: but for slices, and a choice that
    one of them names by its type."""
    for index, each in _numbered(structure, "differential"):
        id, path = each.get("id"), each.get("path")
        if not isinstance(id, str) or not isinstance(path, str):
            continue
        ways = [step.partition(":")[0] for step in id.split(".")], path.split(".")
        if len(ways[0]) != len(ways[1]) or not all(map(_same_step, *ways)):
            text = "The path of the element is not that of its id"
            yield Issue("error", "value", text, f"{_ROOT}.differential.element[{index}].path")


def _same_step(one: str, other: str) -> bool:
    stems = [each.removesuffix("[x]") for each in (one, other) if each.endswith("[x]")]
    return one == other or any(one.startswith(s) and other.startswith(s) for s in stems)


def _same_url(structure: Structure, base: Structure) -> Iterator[Issue]:
    """An extension derived from another keeps its url: readers know it by that."""
    fixed = _fixed_url(_elements(base, "snapshot") or _elements(base, "differential"))
    own = _fixed_url(_elements(structure, "differential"))
    if fixed is not None and own is not None and fixed != own:
        text = "The base definition fixes another value of Extension.url"
        yield Issue("error", "value", text, f"{_ROOT}.differential")


def _fixed_url(elements: list[Mapping[str, Any]]) -> str | None:
    for each in elements:
        if each.get("id", each.get("path")) == _URL and isinstance(each.get("fixedUri"), str):
            return str(each["fixedUri"])
    return None


def _sliced_by(structure: Structure, made: Structure, definitions: Definitions) -> Iterator[Issue]:
    """A discriminator's path begins with an element that what is sliced has."""
    types = {str(each.get("id")): _codes(each) for each in _elements(made, "snapshot")}
    for index, each in _numbered(structure, "differential"):
        slicing = each.get("slicing")
        paths = slicing.get("discriminator") if isinstance(slicing, dict) else None
        for place, discriminator in enumerate(paths if isinstance(paths, list) else ()):
            path = discriminator.get("path") if isinstance(discriminator, dict) else None
            first = str(path).partition(".")[0]
            codes = types.get(str(each.get("id")), [])
            if not _PLAIN.fullmatch(first) or not codes:
                continue
            if not _has(codes, str(each.get("path")), first, definitions):
                at = f"{_ROOT}.differential.element[{index}].slicing.discriminator[{place}]"
                text = "The path of the discriminator is no element of what is sliced"
                yield Issue("error", "invalid", text, at)


def _codes(element: Mapping[str, Any]) -> list[str]:
    """The types of an element."""
    types = element.get("type")
    found = [each for each in types if isinstance(each, dict)] if isinstance(types, list) else []
    return [each["code"] for each in found if isinstance(each.get("code"), str)]


def _has(codes: list[str], path: str, name: str, definitions: Definitions) -> bool:
    """Whether what is at a path and of one of these types has a child of this name, as far as its
    definition is known."""
    for code in codes:
        children = definitions.children(path if code in _INLINE else code)
        if code == "Resource" or not children:
            return True
        if name in children or f"{name}[x]" in children:
            return True
    return False
