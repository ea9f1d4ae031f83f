"""A code system of a list: concepts, filters on their properties, and a hierarchy if it has one.

https://hl7.org/fhir/R4/codesystem.html
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

from terminology.provider import Concept, Selection, selection, unknown_filter
from terminology.providers import filters

_BELOW = {"is-a": True, "descendent-of": False}  # whether the concept itself is among them


class Listed:
    """`read` gives the concepts in their order, `properties` are the codes of what they tell, and
    a concept's property `parent` names the one above it."""

    content = "complete"
    case_sensitive = True
    language = "en"

    def __init__(
        self,
        url: str,
        name: str,
        version: str | None,
        read: Callable[[], Iterable[Concept]],
        properties: Sequence[str] = (),
    ) -> None:
        self.url = url
        self.name = name
        self.version = version
        self.hierarchical = "parent" in properties
        self._properties = frozenset(("code", "display", *properties))
        self._read = read

    @cached_property
    def _concepts(self) -> Mapping[str, Concept]:
        return {each.code: each for each in self._read()}

    @cached_property
    def _children(self) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {}
        for code in self._concepts:
            for parent in self.parents(code):
                found.setdefault(parent, []).append(code)
        return found

    def __len__(self) -> int:
        return len(self._concepts)

    def locate(self, code: str) -> Concept | None:
        return self._concepts.get(code)

    def filter(self, property: str, op: str, value: str) -> Selection:
        if op in _BELOW and self.hierarchical and property == "concept":
            return selection(([value] if _BELOW[op] else []) + list(self._descendants(value)))
        if property not in self._properties:
            raise unknown_filter(self.url, property, op)
        test = filters.test_of(self.url, property, op, value)
        concepts = self._concepts.values()
        return selection(each.code for each in concepts if test(filters.of(each, property)))

    def subsumes(self, ancestor: str, descendant: str) -> bool:
        return descendant in self._descendants(ancestor)

    def expand(self) -> Iterable[Concept]:
        return self._concepts.values()

    def children(self, code: str) -> Sequence[str]:
        return self._children.get(code, ())

    def parents(self, code: str) -> Sequence[str]:
        if not self.hierarchical:
            return ()
        above = filters.of(self._concepts[code], "parent") if code in self._concepts else None
        return (above,) if above in self._concepts and above else ()

    def _descendants(self, code: str) -> dict[str, None]:
        found: dict[str, None] = {}
        waiting = deque(self.children(code))
        while waiting:
            each = waiting.popleft()
            if each not in found:
                found[each] = None
                waiting += self.children(each)
        return found
