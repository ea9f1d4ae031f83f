"""One package in a compact form of our own: a table of contents, and its resources in groups.

https://hl7.org/fhir/packages.html

Opening a package reads the table of contents only. A resource is found, unpacked with the few
that lie beside it, and parsed when it is asked for.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import zstandard

from conformance.json import encode, parse
from conformance.outcome import FhirError

MAGIC = b"SALUSPK1"
GROUP = 1024 * 1024  # bytes of resources that are packed together
CONTENTS = 64 * 1024 * 1024  # bytes of a table of contents, at most
RESOURCE = 64 * 1024 * 1024  # bytes of one resource, at most
LEVEL = 9  # of zstd: what an installation waits for
GROUPS_OPEN = 4
RESOURCES_OPEN = 512

_CORE = Path(__file__).parent.parent / "r4-package.bin"
_CANONICAL_OF_NAMING = (
    "http://hl7.org/fhir/5.0/StructureDefinition/extension-NamingSystem.url",
    "http://hl7.org/fhir/StructureDefinition/structuredefinition-url",
)


class PackageError(Exception):
    """Something is wrong with a package; the text names it."""


class Listed(NamedTuple):
    """What the table of contents says of one resource; "" for what it does not have.

    kind        StructureDefinition.kind, CodeSystem.content, SearchParameter.type
    of          StructureDefinition.type
    base        StructureDefinition.baseDefinition, CodeSystem.supplements
    derivation  StructureDefinition.derivation
    """

    type: str
    url: str
    version: str
    id: str
    place: int
    name: str = ""
    title: str = ""
    status: str = ""
    kind: str = ""
    of: str = ""
    base: str = ""
    derivation: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """What package.json says."""

    name: str
    version: str
    canonical: str = ""
    title: str = ""
    description: str = ""
    kind: str = ""
    dependencies: tuple[tuple[str, str], ...] = ()
    fhir_versions: tuple[str, ...] = ()


class _Contents(msgspec.Struct, array_like=True):
    """`places`: group, first byte within it, length; `groups`: first byte after the table of
    contents, packed bytes, unpacked bytes; `digest`: SHA-256 of all groups."""

    manifest: Manifest
    listed: tuple[Listed, ...]
    places: tuple[tuple[int, int, int], ...]
    groups: tuple[tuple[int, int, int], ...]
    digest: bytes


class Package:
    """An immutable package. `listed` is in the order of the package's files; resources without a
    canonical url (examples) have none there."""

    def __init__(self, data: bytes) -> None:
        contents, self._start = _contents(data)
        self.data = data
        manifest = contents.manifest
        self.manifest = manifest
        self.name, self.version = manifest.name, manifest.version
        self.canonical, self.title = manifest.canonical, manifest.title
        self.dependencies = manifest.dependencies
        self.fhir_versions = manifest.fhir_versions
        self.listed = contents.listed
        self.digest = contents.digest.hex()
        self._places, self._groups = contents.places, contents.groups
        self._group = lru_cache(GROUPS_OPEN)(self._unpacked)
        self._resource = lru_cache(RESOURCES_OPEN)(self._parsed)

    def __repr__(self) -> str:
        return f"Package({self.name}#{self.version})"

    @property
    def label(self) -> str:
        """name#version"""
        return f"{self.name}#{self.version}"

    def resource(self, listed: Listed) -> dict[str, Any]:
        """A resource, decimals as Decimal. It is shared: whoever changes it makes a copy."""
        return self._resource(listed.place)

    def bytes_of(self, listed: Listed) -> bytes:
        """A resource as JSON."""
        group, start, length = self._places[listed.place]
        return self._group(group)[start : start + length]

    @cached_property
    def by_url(self) -> Mapping[tuple[str, str], tuple[Listed, ...]]:
        """What has a canonical url, by resource type and url."""
        found: dict[tuple[str, str], tuple[Listed, ...]] = {}
        for listed in self.listed:
            if listed.url:
                key = (listed.type, listed.url)
                found[key] = (*found.get(key, ()), listed)
        return found

    @cached_property
    def by_type(self) -> Mapping[str, tuple[Listed, ...]]:
        """All that is listed, by resource type."""
        found: dict[str, list[Listed]] = defaultdict(list)
        for listed in self.listed:
            found[listed.type].append(listed)
        return {type: tuple(each) for type, each in found.items()}

    def check(self) -> None:
        """Raises PackageError when the resources are not those of the table of contents; nothing is
        unpacked for that."""
        if not all(0 <= place[0] < len(self._groups) for place in self._places):
            raise PackageError(f"{self.label} is damaged: a resource lies outside")
        last = max((group[0] + group[1] for group in self._groups), default=0)
        if self._start + last != len(self.data):
            raise PackageError(f"{self.label} is damaged: its length is another")
        digest = hashlib.sha256(self.data[self._start :]).digest()
        if digest.hex() != self.digest:
            raise PackageError(f"{self.label} is damaged: its digest is another")

    def verify(self) -> None:
        """The same, and unpack everything. Raises PackageError for what is no resource."""
        self.check()
        for number, listed in enumerate(self.listed):
            if listed.place != number or self.resource(listed).get("resourceType") != listed.type:
                raise PackageError(f"{self.label} is damaged: {listed.type} number {number}")

    def _unpacked(self, group: int) -> bytes:
        start, packed, plain = self._groups[group]
        if plain > GROUP + RESOURCE:
            raise PackageError(f"{self.label} is damaged: a group is too large")
        first = self._start + start
        return _plain(self.data[first : first + packed], plain)

    def _parsed(self, place: int) -> dict[str, Any]:
        group, start, length = self._places[place]
        try:
            return parse(self._group(group)[start : start + length])
        except FhirError as error:
            raise PackageError(f"{self.label} is damaged: a resource is no JSON") from error


class Packing:
    """Packs a package, one resource after the other, so that only one group lies in memory."""

    def __init__(self, level: int = LEVEL) -> None:
        self._compress = zstandard.ZstdCompressor(
            level=level, write_content_size=True, write_checksum=True
        ).compress
        self._listed: list[Listed] = []
        self._places: list[tuple[int, int, int]] = []
        self._groups: list[tuple[int, int, int]] = []
        self._open = bytearray()
        self._packed: list[bytes] = []
        self._length = 0

    def add(self, resource: Mapping[str, Any]) -> None:
        """Append a resource, its narrative and mappings left out."""
        data = encode(without_narrative(resource))
        if self._open and len(self._open) + len(data) > GROUP:
            self._close_group()
        self._places.append((len(self._groups), len(self._open), len(data)))
        self._listed.append(_listed(resource, len(self._listed)))
        self._open += data

    def finish(self, manifest: Manifest) -> bytes:
        """The package."""
        if self._open:
            self._close_group()
        body = b"".join(self._packed)
        contents = _Contents(
            manifest,
            tuple(self._listed),
            tuple(self._places),
            tuple(self._groups),
            hashlib.sha256(body).digest(),
        )
        head = self._compress(msgspec.msgpack.encode(contents))
        return MAGIC + len(head).to_bytes(4, "big") + head + body

    def _close_group(self) -> None:
        packed = self._compress(bytes(self._open))
        self._groups.append((self._length, len(packed), len(self._open)))
        self._packed.append(packed)
        self._length += len(packed)
        self._open.clear()


def pack(package: Package) -> bytes:
    """The compact form of a package, to be kept."""
    return package.data


def unpack(data: bytes) -> Package:
    """The package of a compact form. Raises PackageError for what is none."""
    return Package(data)


@cache
def core() -> Package:
    """hl7.fhir.r4.core 4.0.1."""
    return Package(_CORE.read_bytes())


def without_narrative(resource: Mapping[str, Any]) -> dict[str, Any]:
    """A definition without what only pages of a guide need: narrative, mappings, contacts."""
    if "url" not in resource:  # an example: patients have contacts
        return dict(resource)
    kept = {name: value for name, value in resource.items() if name not in _LEFT_OUT}
    if resource["resourceType"] == "StructureDefinition":
        for form in ("snapshot", "differential"):
            if form in kept:
                elements = kept[form].get("element", ())
                kept[form] = {**kept[form], "element": [_element(each) for each in elements]}
    return kept


_LEFT_OUT = {"text", "mapping", "contact"}


def _element(element: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in element.items() if name != "mapping"}


def _contents(data: bytes) -> tuple[_Contents, int]:
    """The table of contents, and where the groups begin."""
    if not data.startswith(MAGIC):
        raise PackageError("This is no package in Salus's own form")
    start = len(MAGIC) + 4
    length = int.from_bytes(data[len(MAGIC) : start], "big")
    head = data[start : start + length]
    try:
        plain = zstandard.get_frame_parameters(head).content_size
        made = msgspec.msgpack.decode(_plain(head, plain, CONTENTS), type=_Contents)
    except (zstandard.ZstdError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PackageError("The package is damaged: its table of contents") from error
    if len(made.listed) != len(made.places):
        raise PackageError("The package is damaged: its table of contents")
    return made, start + length


def _plain(packed: bytes, size: int, most: int = GROUP + RESOURCE) -> bytes:
    """Unpack one frame of a known size. A decompressor is no thing to share among threads."""
    if size > most:
        raise PackageError("The package is damaged: a part is too large")
    try:
        plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)
    except zstandard.ZstdError as error:
        raise PackageError("The package is damaged: a part cannot be unpacked") from error
    if len(plain) != size:
        raise PackageError("The package is damaged: a part has another length")
    return plain


def _listed(resource: Mapping[str, Any], place: int) -> Listed:
    type = resource["resourceType"]
    named = {name: _text(resource.get(element)) for name, element in _NAMED.items()}
    more = {name: _text(resource.get(element)) for name, element in _OF_TYPE.get(type, {}).items()}
    return Listed(type, url=_canonical(resource), place=place, **named, **more)


_NAMED = {"version": "version", "id": "id", "name": "name", "title": "title", "status": "status"}
_OF_TYPE = {
    "StructureDefinition": {
        "kind": "kind",
        "of": "type",
        "base": "baseDefinition",
        "derivation": "derivation",
    },
    "CodeSystem": {"kind": "content", "base": "supplements"},
    "SearchParameter": {"kind": "type"},
    "OperationDefinition": {"kind": "kind"},
    "CapabilityStatement": {"kind": "kind"},
}


def _canonical(resource: Mapping[str, Any]) -> str:
    """The canonical url; of a NamingSystem, which has none in R4, what its extension says."""
    if resource["resourceType"] != "NamingSystem":
        return _text(resource.get("url")) if resource["resourceType"] not in _EXAMPLES else ""
    for extension in resource.get("extension", ()):
        if isinstance(extension, dict) and extension.get("url") in _CANONICAL_OF_NAMING:
            return _text(extension.get("valueUri"))
    return ""


_EXAMPLES = {"Subscription"}  # has an element url that is no canonical


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
