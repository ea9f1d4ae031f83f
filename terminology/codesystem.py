"""A code system whose concepts a CodeSystem resource lists, kept in memory.

https://hl7.org/fhir/R4/codesystem.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from conformance.outcome import FhirError
from conformance.patience import look
from terminology.canonical import Canonical
from terminology.concepts import Defined, also, defined, meanings, read, supplemented, walk, written
from terminology.issues import refusal
from terminology.patterns import matcher
from terminology.provider import Concept, Selection, selection, unknown_filter

_CODE = frozenset({"concept", "code"})
_LOOK = 4_096  # concepts that are read between two looks at the clock
_SAID, _TEXT = 4, 64  # properties, and characters, that weigh as much as a concept and a property
# What any code system may be asked for, though it defines no such property.
_COMMON = frozenset({"inactive", "status", "notSelectable", "abstract", "deprecated", "retired"})


class CodeSystem:
    """A Provider over one CodeSystem resource, and the supplements that go with it."""

    def __init__(
        self, resource: Mapping[str, Any], supplements: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self.url: str = resource["url"]
        self.version: str | None = resource.get("version")
        self.name: str = resource.get("name") or resource.get("title") or self.url
        self.content: str = resource.get("content", "complete")
        self.case_sensitive: bool | None = resource.get("caseSensitive")
        self.language: str | None = resource.get("language")
        self.definitions = defined(resource)
        for supplement in supplements:
            self.definitions |= defined(supplement)
        self._meanings = meanings(self.definitions)
        self._concepts: dict[str, Concept] = {}
        self._children: dict[str, dict[str, None]] = {}
        self._parents: dict[str, dict[str, None]] = {}
        for at, (raw, parent) in enumerate(walk(resource.get("concept", ()))):
            if not at % _LOOK:
                look()
            self._add(raw, parent)
        self._relate()
        for supplement in supplements:
            self._supplement(supplement)

    def _add(self, raw: Mapping[str, Any], parent: str | None) -> None:
        concept = read(raw, self.definitions, self._meanings)
        self._concepts.setdefault(concept.code, concept)
        if parent is not None:
            self._link(parent, concept.code)

    def _link(self, parent: str, child: str) -> None:
        self._children.setdefault(parent, {})[child] = None
        self._parents.setdefault(child, {})[parent] = None

    def _relate(self) -> None:
        """The relations that properties tell, which a resource may have beside nesting."""
        for concept in self._concepts.values():
            for each in concept.properties:
                other = written(each.value)
                if other == concept.code or other not in self._concepts:
                    continue
                if each.code in self._meanings.parent:
                    self._link(other, concept.code)
                elif each.code in self._meanings.child:
                    self._link(concept.code, other)

    def _supplement(self, resource: Mapping[str, Any]) -> None:
        source = str(Canonical(resource["url"], resource.get("version")))
        known = defined(resource)
        added: dict[str, list[Concept]] = {}
        for raw, _ in walk(resource.get("concept", ())):
            concept = self._concepts.get(raw["code"])
            if concept is not None:
                added.setdefault(concept.code, []).append(supplemented(raw, source, known))
        for code, more in added.items():
            self._concepts[code] = also(self._concepts[code], more)

    @property
    def hierarchical(self) -> bool:
        return bool(self._children)

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {code.casefold(): code for code in reversed(self._concepts)}

    def __len__(self) -> int:
        return len(self._concepts)

    @cached_property
    def weight(self) -> int:
        """What a filter has to look at: its concepts, with what is said of them."""
        said = sum(
            len(each.properties)
            + len(each.designations)
            + (
                len(each.code)
                + len(each.display or "")
                + len(each.definition or "")
                + sum(len(one.value) for one in each.designations)
                + sum(len(str(one.value)) for one in each.properties)
            )
            // _TEXT
            for each in self._concepts.values()
        )
        return len(self) + said // _SAID

    def locate(self, code: str) -> Concept | None:
        """The concept of a code: the exact one first, then, unless the system says that case
        matters, the one that differs by case only."""
        found = self._concepts.get(code)
        if found is None and self.case_sensitive is not True:
            right = self._folded.get(code.casefold())
            return self._concepts[right] if right is not None else None
        return found

    def expand(self) -> Iterable[Concept]:
        return self._concepts.values()

    def children(self, code: str) -> Sequence[str]:
        return tuple(self._children.get(code, ()))

    def parents(self, code: str) -> Sequence[str]:
        return tuple(self._parents.get(code, ()))

    def subsumes(self, ancestor: str, descendant: str) -> bool:
        return ancestor != descendant and any(
            each == ancestor for each in _reached(descendant, self._parents)
        )

    def filter(self, property: str, op: str, value: str) -> Selection:
        """FhirError for a property or an operator that the system does not have."""
        related = RELATIONS.get(op)
        if related is not None:
            if property not in _CODE:
                raise unknown_filter(self.url, property, op)
            return self._related(related, value)
        values = self._values(property, op)
        test = _test(op, value)
        if test is None:
            raise unknown_filter(self.url, property, op)
        return selection(code for code, concept in self._concepts.items() if test(values(concept)))

    def _related(
        self, related: Callable[[CodeSystem, str], Iterable[str]], value: str
    ) -> Selection:
        concept = self.locate(value)
        if concept is None:
            text = f"A filter on the code system {self.url} names a code that it does not have"
            raise refusal("broken-set", text=text)
        return selection(related(self, concept.code))

    def _values(self, property: str, op: str) -> Callable[[Concept], tuple[str, ...]]:
        """How the values that a filter compares are had of a concept."""
        if property in _CODE:
            return lambda concept: (concept.code,)
        if property in ("display", "definition"):
            return lambda concept: _given(getattr(concept, property))
        if property == "designation":
            return lambda concept: tuple(each.value for each in concept.designations)
        if property in ("parent", "child") and self._children:
            near = self._parents if property == "parent" else self._children
            return lambda concept: tuple(near.get(concept.code, ()))
        if property not in self.definitions and property not in _COMMON and not self._has(property):
            raise unknown_filter(self.url, property, op)
        return lambda concept: tuple(
            written(each.value) for each in concept.properties if each.code == property
        )

    def _has(self, property: str) -> bool:
        return any(
            each.code == property for one in self._concepts.values() for each in one.properties
        )

    def descendants(self, code: str) -> Iterator[str]:
        """Every code below one, without it, each once."""
        return _reached(code, self._children)

    def ancestors(self, code: str) -> Iterator[str]:
        return _reached(code, self._parents)

    def uri(self, property: str) -> str | None:
        """What a property means."""
        known: Defined | None = self.definitions.get(property)
        return known.uri if known else None


def _given(text: str | None) -> tuple[str, ...]:
    return () if text is None else (text,)


def _reached(start: str, edges: Mapping[str, Mapping[str, None]]) -> Iterator[str]:
    """What is reached from a code, depth first, each once, though the edges may run in circles."""
    seen = {start}
    waiting = [*edges.get(start, ())][::-1]
    while waiting:
        code = waiting.pop()
        if code not in seen:
            seen.add(code)
            yield code
            waiting.extend([*edges.get(code, ())][::-1])


def _is_a(system: CodeSystem, code: str) -> Iterator[str]:
    yield code
    yield from system.descendants(code)


def _is_not_a(system: CodeSystem, code: str) -> Iterator[str]:
    below = {code, *system.descendants(code)}
    return (each.code for each in system.expand() if each.code not in below)


def _generalizes(system: CodeSystem, code: str) -> Iterator[str]:
    yield code
    yield from system.ancestors(code)


def _leaves(system: CodeSystem, code: str) -> Iterator[str]:
    return (each for each in system.descendants(code) if not system.children(each))


RELATIONS: Mapping[str, Callable[[CodeSystem, str], Iterable[str]]] = {
    "is-a": _is_a,
    "descendent-of": CodeSystem.descendants,
    "is-not-a": _is_not_a,
    "generalizes": _generalizes,
    "child-of": CodeSystem.children,
    "descendent-leaf": _leaves,
}


def _test(op: str, value: str) -> Callable[[tuple[str, ...]], bool] | None:
    """What the values of a property must be."""
    match op:
        case "=":
            return lambda values: value in values
        case "in":
            listed = frozenset(each.strip() for each in value.split(","))
            return lambda values: not listed.isdisjoint(values)
        case "not-in":
            listed = frozenset(each.strip() for each in value.split(","))
            return lambda values: listed.isdisjoint(values)
        case "regex":
            matches = matcher(value)
            return lambda values: any(matches(each) for each in values)
        case "exists":
            return _existence(value)
    return None


def _existence(value: str) -> Callable[[tuple[str, ...]], bool]:
    if value not in ("true", "false"):
        raise FhirError("invalid", "The value of an exists filter is true or false", status=422)
    wanted = value == "true"
    return lambda values: bool(values) is wanted
