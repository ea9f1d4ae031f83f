"""Resources inside another that are the erased, or about them: contained, in a Bundle, in
Parameters; and by which names what is beside them there refers to them.

https://hl7.org/fhir/R4/references.html#contained, https://hl7.org/fhir/R4/bundle.html#references
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fhir_server.interaction import Resource

# Whether a resource is one of those that are gone, or about one: `names`, by which such are known
# where it stands; `ours`: whether its id, and the relative references in it, are this server's;
# `contained`: whether its id is its own.
Theirs = Callable[[Resource, "Names", bool, bool], bool]


@dataclass(frozen=True, slots=True)
class Names:
    """The names of what is gone: of what is contained in the same resource ("#id"), of what is in
    the same Bundle (its address, or relative to it)."""

    contained: set[str]
    beside: set[str]

    def __contains__(self, text: object) -> bool:
        return text in self.contained or text in self.beside


class _Holder(NamedTuple):
    """A resource that has others inside; as to `ours`, see Theirs."""

    value: Resource
    names: Names
    ours: bool


class _Inner(NamedTuple):
    value: Resource
    called: frozenset[str]  # by what is beside it
    told: set[str]  # where these names are put when it is gone
    known: Names  # the names that it may use itself
    ours: bool
    contained: bool


@dataclass(frozen=True, slots=True)
class Inside:
    """`gone` has the identities of objects that are to go, `names` those that hold in a resource,
    by its identity. Good for as long as the resource lives that it was made of."""

    gone: set[int] = field(default_factory=set)
    names: dict[int, Names] = field(default_factory=dict)


def look(resource: Resource, base_url: str, theirs: Theirs) -> Inside:
    """What of a resource's inside is to go: those that are gone, and whatever is about them."""
    found = Inside()
    names = found.names[id(resource)] = Names(set(), set())
    inner = list(_within(resource, _Holder(resource, names, True), found, base_url))
    while True:
        more = [
            each
            for each in inner
            if id(each.value) not in found.gone
            and theirs(each.value, each.known, each.ours, each.contained)
        ]
        for each in more:
            found.gone.add(id(each.value))
            each.told.update(each.called)
        if not more:
            return found


def _within(
    value: dict[str, Any], holder: _Holder, found: Inside, base_url: str
) -> Iterator[_Inner]:
    """Everything inside an object of a resource."""
    for key, child in value.items():
        for each in child if isinstance(child, list) else [child]:
            if not isinstance(each, dict):
                continue
            if "resourceType" not in each:
                yield from _within(each, holder, found, base_url)
            elif key == "contained":
                called = frozenset({f"#{each.get('id')}"})
                names = found.names[id(each)] = holder.names
                yield _Inner(each, called, names.contained, names, holder.ours, True)
            else:
                yield from _entry(each, value.get("fullUrl"), holder, found, base_url)


def _entry(
    each: Resource, address: object, holder: _Holder, found: Inside, base_url: str
) -> Iterator[_Inner]:
    """A resource in an entry of a Bundle, or in a parameter: within a Bundle all know the same."""
    called, ours = _called(each, address, base_url)
    beside = holder.names.beside if holder.value["resourceType"] == "Bundle" else set[str]()
    own = set[str]() if each["resourceType"] == "Bundle" else beside
    known = found.names[id(each)] = Names(set(), own)
    yield _Inner(each, called, beside, known, ours, False)
    yield from _within(each, _Holder(each, known, ours), found, base_url)


def _called(each: Resource, address: object, base_url: str) -> tuple[frozenset[str], bool]:
    """The names by which others in a Bundle refer to one, and whether it is of this server: an
    address elsewhere says that it is not."""
    relative = f"{each['resourceType']}/{each.get('id')}"
    if not isinstance(address, str):
        return frozenset({relative}), True
    ours = not address.startswith(("http://", "https://")) or address.startswith(f"{base_url}/")
    names = {address, relative} if address.endswith(f"/{relative}") else {address}
    return frozenset(names), ours
