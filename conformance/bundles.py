"""What a Bundle demands of its entries together: full urls, references between them, the closure of
documents and messages, the entries of searches.

https://hl7.org/fhir/R4/bundle.html#references, https://hl7.org/fhir/R4/documents.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from conformance import definitions
from conformance.fhirpath import reference_type
from conformance.outcome import Issue
from conformance.validator.references import CONTRADICTED, called

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+", re.ASCII)
_RESTFUL = re.compile(
    r"(?P<base>https?://.+/)?(?P<name>[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64})"
    r"(?:/_history/(?P<version>[A-Za-z0-9.-]{1,64}))?",
    re.ASCII,
)
# The url of a request that sends a resource of the type it names, by method: others (operations,
# searches, patches, addresses outside) may send anything.
_SENT = {
    "POST": re.compile(r"/?(?P<type>[A-Z][A-Za-z]+)/?(\?.*)?", re.ASCII),
    "PUT": re.compile(r"/?(?P<type>[A-Z][A-Za-z]+)(/[A-Za-z0-9.-]{1,64})?(\?.*)?", re.ASCII),
}
_STEP = re.compile(r"(\w+)(?:\[(\d+)\])?", re.ASCII)
_LISTED = 8  # types that an issue names
_DEPTH = 100  # levels that are searched for references
# Bundles whose first entry leads to all others.
_LED = {"document": "Composition", "message": "MessageHeader"}
# Bundles that travel alone, so that what has no place of its own must be in them.
_PERFORMED = frozenset({"transaction", "batch"})
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

_ANY: frozenset[str] = frozenset()
_RESOURCES = frozenset({"Resource", "DomainResource"})

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
    """A literal reference, where it stands, by which element of the resource it is said, and what
    it calls the type of its target."""

    text: str
    at: str
    element: str
    type: str | None


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
    if type_ in _PERFORMED:
        yield from _requested(bundle)
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


def _requested(bundle: Resource) -> Iterator[Issue]:
    """What is created or updated is sent, and of the type that the request names."""
    found = bundle.get("entry")
    for place, entry in enumerate(found if isinstance(found, list) else ()):
        request = entry.get("request") if isinstance(entry, dict) else None
        if not isinstance(request, dict):
            continue
        method, url, resource = request.get("method"), request.get("url"), entry.get("resource")
        shape = _SENT.get(method) if isinstance(method, str) else None
        asked = shape.fullmatch(url) if shape is not None and isinstance(url, str) else None
        if asked is None or asked["type"] not in definitions.load().types:
            continue
        at = f"Bundle.entry[{place}]"
        if resource is None:
            text = "The entry must have the resource that its request creates or updates"
            yield Issue("error", "required", text, at)
        elif isinstance(resource, dict) and resource.get("resourceType") != asked["type"]:
            text = "request.url must name the type of the entry's resource"
            yield Issue("error", "invalid", text, f"{at}.request.url")


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
            yield _Reference(text, at, element, called(value))
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
    elif found:
        yield from _aimed(entry, reference, found[0].type)
    elif not found and reference.text.startswith(("urn:uuid:", "urn:oid:")):
        text = "No entry has the fullUrl that the reference names"
        severity = "warning" if type_ == "collection" else "error"
        yield Issue(severity, "not-found", text, reference.at)
    elif not found and _is_held(type_, entry, reference):
        text = f"A {type_} holds what its {_LED[type_]} refers to here, and this is not in it"
        yield Issue("error", "not-found", text, reference.at)


def _aimed(entry: _Entry, reference: _Reference, type_: str) -> Iterator[Issue]:
    """The type of a target that the reference itself does not tell: where it does, the resource
    that refers was checked by that already."""
    known = definitions.load().types
    if type_ not in known or reference_type(reference.text) is not None:
        return
    if reference.type != type_:
        allowed = _targets(*_element(entry, reference.at))
        if allowed and type_ not in allowed:
            some = len(allowed) <= _LISTED
            named = ", ".join(sorted(allowed)) if some else "the types it is defined for"
            text = f"The entry that this refers to is not of a type that is allowed here: {named}"
            yield Issue("error", "structure", text, reference.at)
        if reference.type in known:
            yield Issue("error", "structure", CONTRADICTED.text, f"{reference.at}.type")


def _element(entry: _Entry, at: str) -> tuple[str, tuple[str, ...]]:
    """The type of the innermost resource that a place of an entry is in, and the steps from it."""
    type_, steps, value = entry.type, [], entry.resource
    for step in at.removeprefix(f"{entry.at}.resource.").split("."):
        found = _STEP.fullmatch(step)
        if found is None:
            return "", ()
        steps.append(found[1])
        inner = value.get(found[1])
        if found[2] is not None and isinstance(inner, list):
            inner = inner[int(found[2])]
        value = inner if isinstance(inner, dict) else {}
        if "resourceType" in value:
            type_, steps = str(value["resourceType"]), []
    return type_, tuple(steps)


@lru_cache(maxsize=4096)
def _targets(type_: str, steps: tuple[str, ...]) -> frozenset[str]:
    """The types of resource that a Reference may be to; none where it may be to any."""
    known = definitions.load()
    owner, found = type_, None
    for step in steps:
        children = known.children(owner)
        found = children.get(step)
        code = found.types[0].code if found and found.types else ""
        if found is None:
            for each in children.values():
                stem = each.name.removesuffix("[x]")
                if stem != each.name and step.startswith(stem):
                    found, code = each, step.removeprefix(stem)
        if found is None:
            return _ANY
        owner = found.content_reference or (found.path if known.children(found.path) else code)
    targets = frozenset(each for type_ in (found.types if found else ()) for each in type_.targets)
    return targets if targets <= known.types and not targets & _RESOURCES else _ANY


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
