"""What a Bundle demands of its entries together: full urls, references between them, the closure of
documents and messages, the entries of searches.

https://hl7.org/fhir/R4/bundle.html#references, https://hl7.org/fhir/R4/documents.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from conformance.outcome import Issue

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+", re.ASCII)
_RESTFUL = re.compile(
    r"(?P<base>https?://.+/)?(?P<name>[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64})"
    r"(?:/_history/(?P<version>[A-Za-z0-9.-]{1,64}))?",
    re.ASCII,
)
_DEPTH = 100  # levels that are searched for references
# Bundles whose first entry leads to all others.
_LED = {"document": "Composition", "message": "MessageHeader"}
# Bundles that travel alone, so that what has no place of its own must be in them.
_ALONE = frozenset({"document", "message", "transaction", "collection", "batch"})
# What a Composition refers to and a document must therefore hold.
_HELD = frozenset(
    {"subject", "encounter", "author", "party", "custodian", "detail", "entry", "focus"}
)

Resource = Mapping[str, Any]


class _Entry(NamedTuple):
    place: int
    full_url: str | None
    resource: Resource

    @property
    def name(self) -> str:
        """Type and id, as a relative reference has them."""
        return f"{self.resource.get('resourceType')}/{self.resource.get('id')}"

    @property
    def at(self) -> str:
        return f"Bundle.entry[{self.place}]"

    @property
    def base(self) -> str | None:
        """The base below which its full url is."""
        found = _RESTFUL.fullmatch(self.full_url or "")
        return found["base"] if found else None

    @property
    def version(self) -> str | None:
        meta = self.resource.get("meta")
        return meta.get("versionId") if isinstance(meta, dict) else None


class _Reference(NamedTuple):
    """A literal reference, where it stands and by which element of the resource it is said."""

    text: str
    at: str
    element: str


def check(bundle: Resource, limit: int = 100) -> list[Issue]:
    """What is wrong with the entries of a Bundle as a whole, at most `limit` issues."""
    return list(islice(_issues(bundle), limit))


def _issues(bundle: Resource) -> Iterator[Issue]:
    type_ = bundle.get("type")
    entries = _entries(bundle)
    for entry in entries:
        yield from _full_url(entry)
    if type_ == "searchset":
        yield from _searched(bundle, entries)
    if type(type_) is not str or type_ not in _ALONE:
        return
    links: dict[int, set[int]] = {entry.place: set() for entry in entries}
    known = _Known(entries)
    for entry in entries:
        for reference in _references(entry.resource, f"{entry.at}.resource", "", 0):
            found = known.find(reference.text, entry)
            for each in found:
                links[entry.place].add(each.place)
                links[each.place].add(entry.place)
            yield from _resolved(type_, entry, reference, found)
    yield from _unreached(type_, entries, links)


def _entries(bundle: Resource) -> list[_Entry]:
    found = bundle.get("entry")
    return [
        _Entry(place, url if isinstance(url := each.get("fullUrl"), str) else None, resource)
        for place, each in enumerate(found if isinstance(found, list) else ())
        if isinstance(each, dict) and isinstance(resource := each.get("resource"), dict)
    ]


def _full_url(entry: _Entry) -> Iterator[Issue]:
    """Absolute, and of the resource that it stands beside."""
    url = entry.full_url
    if url is None:
        return
    if not _ABSOLUTE.fullmatch(url):
        yield Issue("error", "invalid", "fullUrl must be an absolute URL", f"{entry.at}.fullUrl")
        return
    found = _RESTFUL.fullmatch(url)
    id = entry.resource.get("id")
    if found and isinstance(id, str) and found["name"] != entry.name:
        text = "fullUrl names another type or id than its resource has"
        yield Issue("error", "invalid", text, f"{entry.at}.fullUrl")


# --- searches ------------------------------------------------------------------------------------


def _searched(bundle: Resource, entries: list[_Entry]) -> Iterator[Issue]:
    """What was found has an id, and only outcomes are outcomes."""
    raw = bundle["entry"] if entries else ()
    for entry in entries:
        search = raw[entry.place].get("search")
        mode = search.get("mode") if isinstance(search, dict) else None
        tells = entry.resource.get("resourceType") == "OperationOutcome"
        at = f"{entry.at}.resource"
        if mode == "outcome" and not tells:
            text = "An entry with search mode outcome holds an OperationOutcome"
            yield Issue("error", "invalid", text, at)
        if mode == "match" and tells:
            text = "An OperationOutcome is no match: its search mode is outcome"
            yield Issue("error", "invalid", text, at)
        if mode != "outcome" and "id" not in entry.resource and not (tells and mode is None):
            yield Issue("error", "invalid", "What a search found has an id", at)


# --- references ----------------------------------------------------------------------------------


def _references(value: Any, at: str, element: str, depth: int) -> Iterator[_Reference]:
    """The literal references within a value, those of contained resources too."""
    if depth > _DEPTH:
        return
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _references(each, f"{at}[{index}]", element, depth + 1)
    elif isinstance(value, dict):
        text = value.get("reference")
        if isinstance(text, str) and not text.startswith("#"):
            yield _Reference(text, at, element)
        for name, each in value.items():
            if isinstance(each, dict | list):
                yield from _references(each, f"{at}.{name}", name, depth + 1)


class _Known:
    """The entries, as references find them: by full url, then by type and id below the base of
    the entry that refers."""

    def __init__(self, entries: list[_Entry]) -> None:
        self._by_url: dict[str, list[_Entry]] = {}
        self._by_name: dict[str, list[_Entry]] = {}
        for each in entries:
            if each.full_url is not None:
                self._by_url.setdefault(each.full_url, []).append(each)
            self._by_name.setdefault(each.name, []).append(each)

    def find(self, text: str, holder: _Entry) -> list[_Entry]:
        """The entries that a reference from `holder` may mean."""
        split = _RESTFUL.fullmatch(text)
        if split is None or text.startswith("urn:"):
            return self._by_url.get(text.partition("#")[0], [])
        base = split["base"] or holder.base
        found = self._by_url.get(f"{base}{split['name']}", []) if base else []
        if not found and not split["base"]:
            found = self._by_name.get(split["name"], [])
        version = split["version"]
        return found if version is None else [each for each in found if each.version == version]


def _resolved(
    type_: Any, entry: _Entry, reference: _Reference, found: list[_Entry]
) -> Iterator[Issue]:
    if len({each.place for each in found}) > 1:
        text = "More than one entry is what the reference names"
        yield Issue("error", "invalid", text, reference.at)
    elif not found and reference.text.startswith(("urn:uuid:", "urn:oid:")):
        text = "No entry has the fullUrl that the reference names"
        severity = "warning" if type_ == "collection" else "error"
        yield Issue(severity, "not-found", text, reference.at)
    elif not found and type_ == "document" and _is_held(entry, reference):
        text = "A document holds what its Composition refers to, and this is not in it"
        yield Issue("error", "not-found", text, reference.at)


def _is_held(entry: _Entry, reference: _Reference) -> bool:
    """Whether a document must hold what is referred to: only absolute links may lead outside."""
    is_composition = entry.resource.get("resourceType") == "Composition"
    return is_composition and reference.element in _HELD


def _unreached(type_: Any, entries: list[_Entry], links: Mapping[int, set[int]]) -> Iterator[Issue]:
    """Entries that no link, in either direction, joins with the first one."""
    first = next(iter(entries), None)
    leader = _LED.get(type_)
    if leader is None or first is None or first.resource.get("resourceType") != leader:
        return
    reached, waiting = {first.place}, [first.place]
    while waiting:
        for each in links[waiting.pop()] - reached:
            reached.add(each)
            waiting.append(each)
    for entry in entries:
        if entry.place not in reached and entry.resource.get("resourceType") != "Provenance":
            text = f"No reference joins this entry with the {leader}"
            yield Issue("warning", "informational", text, entry.at)
