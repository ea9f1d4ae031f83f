"""What a code system can be asked, whoever keeps its codes: locate, filter, subsumes, expand.

https://hl7.org/fhir/R4/codesystem.html, https://hl7.org/fhir/R4/valueset-filter-operator.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from conformance.outcome import FhirError


class Designation(NamedTuple):
    """Another way to say a concept. `use` is the (system, code, display) of its Coding; `value`
    is the text; `extension` are those of the designation, as JSON; `source` is the canonical of the
    supplement that it comes from."""

    language: str | None
    value: str
    use: tuple[str | None, str | None, str | None] | None = None
    extension: tuple[Any, ...] = ()
    source: str | None = None


class Property(NamedTuple):
    """One property of a concept. `type` is code, Coding, string, integer, boolean, dateTime or
    decimal; `value` is the JSON value of it; `uri` tells what the property means, where known."""

    code: str
    type: str
    value: Any
    uri: str | None = None


class Concept(NamedTuple):
    """A code of a code system, in the spelling that the system defines."""

    code: str
    display: str | None = None
    definition: str | None = None
    designations: tuple[Designation, ...] = ()
    properties: tuple[Property, ...] = ()
    abstract: bool = False
    inactive: bool = False
    status: str | None = None
    extension: tuple[Any, ...] = ()


class Selection(NamedTuple):
    """The codes that a filter lets through. `codes` lists them, None when they cannot be listed;
    `holds` answers for one code that the system has, in its defined spelling."""

    holds: Callable[[str], bool]
    codes: Callable[[], Iterable[str]] | None = None


def selection(codes: Iterable[str]) -> Selection:
    """The Selection of exactly these codes, in this order."""
    listed = dict.fromkeys(codes)
    return Selection(listed.__contains__, lambda: listed)


class Provider(Protocol):
    """A version of a code system. Reads only, and safe to ask from several threads."""

    @property
    def url(self) -> str: ...

    @property
    def version(self) -> str | None: ...

    @property
    def name(self) -> str:
        """What $lookup calls it."""
        ...

    @property
    def content(self) -> str:
        """complete, fragment, example or not-present."""
        ...

    @property
    def case_sensitive(self) -> bool | None:
        """None where the system does not say: then any case is found, and the right one told."""
        ...

    @property
    def hierarchical(self) -> bool: ...

    @property
    def language(self) -> str | None:
        """The language of `Concept.display`."""
        ...

    def locate(self, code: str) -> Concept | None:
        """The concept of a code, by the case rule of the system."""
        ...

    def filter(self, property: str, op: str, value: str) -> Selection:
        """What a filter of a value set lets through. FhirError (`unknown_filter`) for a property
        or an operator that the system does not have."""
        ...

    def subsumes(self, ancestor: str, descendant: str) -> bool:
        """Whether one code is a strict ancestor of the other. Both exist, in defined spelling."""
        ...

    def expand(self) -> Iterable[Concept] | None:
        """Every concept, in the system's order; None when they cannot be listed."""
        ...

    def children(self, code: str) -> Sequence[str]: ...

    def parents(self, code: str) -> Sequence[str]: ...


def unknown_filter(system: str, property: str, op: str) -> FhirError:
    """The refusal of a filter that a code system does not have; it is never ignored."""
    return FhirError(
        "invalid",
        f"The code system {system} has no filter on the property {property} with operator {op}",
        status=422,
    )
