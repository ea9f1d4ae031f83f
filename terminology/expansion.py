"""$expand: the codes of a value set, filtered, in a language, paged or nested.

https://hl7.org/fhir/R4/valueset-operation-expand.html
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from conformance.patience import look
from terminology.asked import Asked
from terminology.canonical import Canonical, canonical
from terminology.catalog import Limits
from terminology.codesystem import CodeSystem
from terminology.compose import PARTIAL, Budget, Member, Plan
from terminology.contents import Told, contains, property_uri
from terminology.issues import refusal
from terminology.languages import Languages
from terminology.nesting import nested
from terminology.provider import Provider

_WORD = re.compile(r"\w+")
PROPERTY = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ValueSet.expansion.property"

# The parameters that an answer tells back, with the types that they have there.
_ECHOED: Mapping[str, str] = {
    "activeOnly": "Boolean",
    "count": "Integer",
    "designation": "String",
    "exclude-system": "Uri",
    "excludeNested": "Boolean",
    "excludeNotForUI": "Boolean",
    "excludePostCoordinated": "Boolean",
    "filter": "String",
    "force-system-version": "Uri",
    "check-system-version": "Uri",
    "includeDefinition": "Boolean",
    "includeDesignations": "Boolean",
    "offset": "Integer",
    "system-version": "Uri",
}


class Listing:
    """The members of a value set, listed once."""

    def __init__(self, plan: Plan, limits: Limits) -> None:
        self.plan = plan
        self.members = tuple(plan.members(Budget(limits.compared)))

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """What a filter looks at, word by word, of each member."""
        return tuple(_searchable(each) for each in self.members)

    @cached_property
    def versions(self) -> Counter[str]:
        """How many versions of each code system there are."""
        return Counter(
            system for system, _ in {(each.system, each.version) for each in self.members}
        )


class Wanted(NamedTuple):
    """What is asked of an expansion."""

    filter: str | None
    offset: int
    page: int | None
    active: bool
    flat: bool
    selectable: bool
    excluded: tuple[Canonical, ...]
    definition: bool
    told: Told


def wanted(asked: Asked, languages: Languages | None) -> Wanted:
    """FhirError for values that are none."""
    offset, count = asked.number("offset"), asked.number("count")
    filter = asked.text("filter") if asked.given.get("filter") else None
    designation = asked.texts("designation")
    return Wanted(
        filter,
        offset or 0,
        count,
        asked.flag("activeOnly") is True,
        asked.flag("excludeNested") is True or bool(filter or offset or count is not None),
        asked.flag("excludeNotForUI") is True,
        tuple(canonical(each) for each in asked.texts("exclude-system")),
        asked.flag("includeDefinition") is True,
        Told(
            languages,
            asked.flag("includeDesignations") is True or bool(designation),
            designation,
            asked.texts("property"),
        ),
    )


def expand(
    listing: Listing, asked: Asked, want: Wanted, limits: Limits, stamp: tuple[str, str]
) -> dict[str, Any]:
    """The ValueSet with its expansion; `stamp` is its identifier and the time. FhirError when it
    is larger than is told at once."""
    found = _chosen(listing, want)
    total = len(found)
    page = found[want.offset :]
    page = page if want.page is None else page[: want.page]
    if len(page) > limits.expansion:
        text = (
            f"The expansion has {total} codes, and at most {limits.expansion} are given at once;"
            " ask for pages with count and offset, or for fewer with filter"
        )
        raise refusal("too-costly", text=text)
    look()
    ambiguous = {system for system, versions in listing.versions.items() if versions > 1}
    made = [(each, contains(each, want.told, each.system in ambiguous)) for each in page]
    made_of: dict[str, dict[int, Provider | None]] = {}
    for member, (_, names) in made:
        for name in names:
            made_of.setdefault(name, {})[id(member.provider)] = member.provider
    expansion: dict[str, Any] = {
        "extension": [_defined(name, made_of[name].values()) for name in sorted(made_of)],
        "identifier": stamp[0],
        "timestamp": stamp[1],
        "total": total,
    }
    if asked.number("offset") is not None:
        expansion["offset"] = want.offset
    expansion["parameter"] = [*_echoed(asked, want.told.languages), *used(listing.plan)]
    flat = [(member, one) for member, (one, _) in made]
    expansion["contains"] = [one for _, one in flat] if want.flat else nested(flat)
    headed = _head(listing.plan.resource, want.definition)
    return {**headed, "expansion": {key: value for key, value in expansion.items() if value != []}}


def used(plan: Plan) -> Iterator[dict[str, Any]]:
    """What was drawn on: code systems, value sets and supplements, with their versions."""
    systems: dict[str, str] = {}
    for part in plan.systems():
        name = "used-codesystem" if part.provider is not None else "unknown-codesystem"
        version = part.provider.version if part.provider is not None else part.version
        systems[str(Canonical(str(part.system), version))] = name
        if part.provider is not None and part.provider.content in PARTIAL:
            yield {
                "name": part.provider.content,
                "valueUri": str(Canonical(part.provider.url, version)),
            }
    yield from ({"name": name, "valueUri": url} for url, name in systems.items())
    for url in dict.fromkeys(each.name for each in plan.sets()):
        yield {"name": "used-valueset", "valueUri": url}
    supplements = {id(each): each for each in plan.supplements}
    for each in supplements.values():
        named = Canonical(str(each.get("url")), each.get("version"))
        yield {"name": "used-supplement", "valueUri": str(named)}


def _searchable(member: Member) -> str:
    concept, reference = member.concept, member.reference or {}
    texts = (concept.code, concept.display or "", reference.get("display") or "")
    said = " ".join((*texts, *(each.value for each in concept.designations)))
    return " ".join(("", *_WORD.findall(said.casefold())))


def _chosen(listing: Listing, want: Wanted) -> Sequence[Member]:
    found: Sequence[Member] = listing.members
    if want.filter is not None:
        found = _matching(listing, want.filter)
    tests: list[Callable[[Member], bool]] = []
    if want.active:
        tests.append(lambda one: not one.concept.inactive)
    if want.selectable and want.flat:
        tests.append(lambda one: not one.concept.abstract)
    if want.excluded:
        out = frozenset(want.excluded)
        tests.append(
            lambda one: out.isdisjoint((Canonical(one.system), Canonical(one.system, one.version)))
        )
    return [one for one in found if all(test(one) for test in tests)] if tests else found


def _matching(listing: Listing, text: str) -> list[Member]:
    """The members in which each word of the text begins some word: those that are it exactly
    first, then those that begin with it."""
    words = [" " + word for word in dict.fromkeys(_WORD.findall(text.casefold()))]
    left = list(zip(listing.members, listing.texts, strict=True))
    for word in words:
        look()
        left = [(member, said) for member, said in left if word in said]
    found = [member for member, _ in left]
    asked = text.strip().casefold()

    def rank(member: Member) -> int:
        texts = [member.concept.code.casefold(), (member.concept.display or "").casefold()]
        return 0 if asked in texts else 1 if any(one.startswith(asked) for one in texts) else 2

    return sorted(found, key=rank)


def _echoed(asked: Asked, languages: Languages | None) -> Iterator[dict[str, Any]]:
    if languages is not None:
        yield {"name": "displayLanguage", "valueCode": languages.written}
    for name, type in _ECHOED.items():
        values: Iterable[Any] = asked.texts(name) if type in ("String", "Uri") else ()
        if type == "Boolean":
            values = (asked.flag(name),)
        elif type == "Integer":
            values = (asked.number(name),)
        yield from ({"name": name, f"value{type}": each} for each in values if each is not None)


def _defined(name: str, systems: Iterable[Provider | None]) -> dict[str, Any]:
    """What a property in the expansion means."""
    own = (each.uri(name) for each in systems if isinstance(each, CodeSystem))
    uri = next((each for each in own if each), None) or property_uri(name)
    parts: list[dict[str, Any]] = [{"url": "code", "valueCode": name}]
    if uri is not None:
        parts.append({"url": "uri", "valueUri": uri})
    return {"url": PROPERTY, "extension": parts}


def _head(resource: Mapping[str, Any], definition: bool) -> dict[str, Any]:
    """The value set without what an expansion does not repeat."""
    left_out = {"text", "expansion", "_contained", *(() if definition else ("compose",))}
    head = {key: value for key, value in resource.items() if key not in left_out}
    return {**head, "resourceType": "ValueSet", "status": resource.get("status", "unknown")}
