"""What a Bundle demands of its entries together: full urls, references between them, the closure of
documents and messages, the entries of searches.

https://hl7.org/fhir/R4/bundle.html#references, https://hl7.org/fhir/R4/documents.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from conformance import definitions
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
# Bundles whose entries may lack a full url: some are not created yet, others have no identity.
_NAMELESS = frozenset({"transaction", "transaction-response", "batch", "batch-response"})
# Bundles whose entries are together by chance, so that two may be versions of one resource.
_LOOSE = frozenset({"collection", "batch"})
# What the first resource of a document or message refers to, and what must therefore be in it.
_HELD = {
    "document": frozenset(
        {"subject", "encounter", "author", "party", "custodian", "detail", "entry", "focus"}
    ),
    "message": frozenset({"focus"}),
}
# The resources of a document that nothing need refer to: style sheets, and who vouches for it.
_BESIDE = frozenset({"Binary", "Provenance"})

Resource = Mapping[str, Any]


class _Entry(NamedTuple):
    place: int
    full_url: str | None
    resource: Resource

    @property
    def name(self) -> str | None:
        """Type and id, as a relative reference has them."""
        id_ = self.resource.get("id")
        return f"{self.type}/{id_}" if isinstance(id_, str) else None

    @property
    def type(self) -> str:
        return str(self.resource.get("resourceType"))

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
        version = meta.get("versionId") if isinstance(meta, dict) else None
        return version if isinstance(version, str) else None


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
    if not isinstance(type_, str):
        return  # told by the validation of its type
    entries = _entries(bundle)
    for entry in entries:
        yield from _full_url(type_, entry)
    if type_ == "searchset":
        yield from _searched(bundle, entries)
    if type_ in _ALONE:
        yield from _joined(type_, entries)


def _joined(type_: str, entries: list[_Entry]) -> Iterator[Issue]:
    """The references between the entries."""
    links: dict[int, set[int]] = {entry.place: set() for entry in entries}
    known = _Known(entries)
    for entry in entries:
        at = f"{entry.at}.resource"
        for reference in _references(entry.resource, at, "", 0):
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


def _full_url(type_: str, entry: _Entry) -> Iterator[Issue]:
    """Absolute, and of the resource that it stands beside."""
    url = entry.full_url
    if url is None:
        named = entry.name is not None and entry.type != "OperationOutcome"
        if named and type_ not in _NAMELESS:
            text = "An entry has a fullUrl, unless its resource has no identity of its own"
            yield Issue("error", "required", text, entry.at)
        return
    if not _ABSOLUTE.fullmatch(url):
        yield Issue("error", "invalid", "fullUrl must be an absolute URL", f"{entry.at}.fullUrl")
        return
    found = _RESTFUL.fullmatch(url)
    if found is None or entry.name is None or found["name"] == entry.name:
        return
    # A path that only looks like a type and an id is no address of a FHIR server.
    if found["name"].partition("/")[0] in definitions.load().types:
        text = "fullUrl names another type or id than its resource has"
        yield Issue("error", "invalid", text, f"{entry.at}.fullUrl")


# --- searches ------------------------------------------------------------------------------------


def _searched(bundle: Resource, entries: list[_Entry]) -> Iterator[Issue]:
    """What was found has an id, and only outcomes are outcomes."""
    raw = bundle.get("entry") or ()
    for entry in entries:
        search = raw[entry.place].get("search")
        mode = search.get("mode") if isinstance(search, dict) else None
        tells = entry.type == "OperationOutcome"
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
        inner = value.get("resourceType") == "Bundle"
        for name, each in value.items():
            # The entries of a Bundle within refer to each other, and are checked with it.
            if isinstance(each, dict | list) and not (inner and name == "entry"):
                yield from _references(each, f"{at}.{name}", name, depth + 1)


class _Known:
    """The entries, as references find them: by full url, then by type and id below the base of
    the entry that refers. Of several only the first two are kept: that tells that it is not one."""

    def __init__(self, entries: list[_Entry]) -> None:
        self._by_url: dict[tuple[str, str | None], list[_Entry]] = {}
        self._by_name: dict[tuple[str, str | None], list[_Entry]] = {}
        for each in entries:
            for table, name in ((self._by_url, each.full_url), (self._by_name, each.name)):
                if name is not None:
                    for version in {None, each.version}:
                        known = table.setdefault((name, version), [])
                        if len(known) < 2:
                            known.append(each)

    def find(self, text: str, holder: _Entry) -> list[_Entry]:
        """The entries that a reference from `holder` may mean, two at most."""
        split = _RESTFUL.fullmatch(text)
        if split is None or text.startswith("urn:"):
            return self._by_url.get((text.partition("#")[0], None), [])
        base, name, version = split["base"] or holder.base, split["name"], split["version"]
        found = self._by_url.get((f"{base}{name}", version), []) if base else []
        if found or split["base"]:
            return found
        return self._by_name.get((name, version), [])[:1]


def _resolved(
    type_: str, entry: _Entry, reference: _Reference, found: list[_Entry]
) -> Iterator[Issue]:
    if len(found) > 1:
        text = "More than one entry is what the reference names"
        severity = "warning" if type_ in _LOOSE else "error"
        yield Issue(severity, "invalid", text, reference.at)
    elif not found and reference.text.startswith(("urn:uuid:", "urn:oid:")):
        text = "No entry has the fullUrl that the reference names"
        severity = "warning" if type_ == "collection" else "error"
        yield Issue(severity, "not-found", text, reference.at)
    elif not found and _is_held(type_, entry, reference):
        text = f"A {type_} holds what its {_LED[type_]} refers to here, and this is not in it"
        yield Issue("error", "not-found", text, reference.at)


def _is_held(type_: str, entry: _Entry, reference: _Reference) -> bool:
    """Whether a document or message must hold what is referred to: what its first resource does,
    itself."""
    if type_ not in _HELD or entry.place or entry.type != _LED[type_]:
        return False
    inside = reference.at.startswith(f"{entry.at}.resource.contained")
    return reference.element in _HELD[type_] and not inside


def _unreached(type_: str, entries: list[_Entry], links: Mapping[int, set[int]]) -> Iterator[Issue]:
    """Entries that no link, in either direction, joins with the first one."""
    first = next(iter(entries), None)
    leader = _LED.get(type_)
    if leader is None or first is None or first.type != leader:
        return
    reached, waiting = {first.place}, [first.place]
    while waiting:
        for each in links[waiting.pop()] - reached:
            reached.add(each)
            waiting.append(each)
    for entry in entries:
        if entry.place not in reached and entry.type not in _BESIDE:
            text = f"No reference joins this entry with the {leader}"
            yield Issue("warning", "informational", text, entry.at)
