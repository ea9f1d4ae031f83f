"""Resources of others without what names the erased: references go, with the item of a list that
they stand for; where the resource would not be valid without one, it says that it is masked.

https://hl7.org/fhir/R4/references.html, https://hl7.org/fhir/R4/extension-data-absent-reason.html
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any
from urllib.parse import unquote_plus

from conformance.json import encode
from conformance.outcome import FhirError
from fhir_server import owners
from fhir_server.core import Core
from fhir_server.erasure.inner import Inside, Names, look
from fhir_server.erasure.subjects import (
    PATIENT,
    Identifier,
    Name,
    local,
    means_patient,
    subject,
)
from fhir_server.interaction import Resource

_NAMED = re.compile(rb"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})")
_IDS = re.compile(rb'"id":"([A-Za-z0-9\-.]{1,64})"')
_WORDS = re.compile(r"[A-Za-z0-9\-.]+", re.ASCII)
_WORD = re.compile(r"\w{3,}")
_NAME_OF_PARAMETER = re.compile(r"(?:^[^?\"]*\?|&)[^=&]*=|\"\w+\":")
_TELLING = 4  # characters that an identifier has at least that stands in a text by no accident
_REFERENCE = frozenset({"reference", "type", "identifier", "display", "extension", "id"})
_SAID_OF_ALL = ("text", "signature")  # of a resource: both may name what was in it
_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
REDACTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "REDACTED",
}
# What is about nothing once what these elements name is gone.
_ABOUT = {
    "Provenance": "target",
    "Binary": "securityContext",
    "Bundle": "entry",
    "Parameters": "parameter",
}
_HEADED = frozenset({"document", "message"})  # Bundles that are about what comes first in them
_BARE = ("resourceType", "id", "meta")  # what is left of a version that was about the erased
# Where what is named narrows what is said: without it, a consent would be to more than it was.
_NARROWING = frozenset({"Consent"})
_GONE = object()


def masked() -> dict[str, Any]:
    """A Reference that says that something was named."""
    return {"extension": [{"url": _ABSENT, "valueCode": "masked"}]}


class Cut:
    """Finds and removes the `names` of resources that are no more, and references by identifiers
    of patients among them."""

    def __init__(
        self,
        names: Collection[Name],
        identifiers: Iterable[Identifier],
        core: Core,
        words: Iterable[str] = (),
    ) -> None:
        self.names = frozenset(names)
        self._words = tuple(words)
        self._names = {f"{type}/{id}" for type, id in names}
        self._ids = {id for _, id in names}
        self._id_bytes = {id.encode() for id in self._ids}
        self._bytes = {name.encode() for name in self._names}
        # One without a system may be anybody's.
        self._identifiers = {each for each in identifiers if each[0]}
        self._values = tuple(encode(value)[1:-1] for _, value in self._identifiers)
        self._core = core
        said = {each.casefold().lstrip("+") for each in self._words}
        self._said = {each for each in said if _WORD.fullmatch(each)}
        self._phrases = {each for each in said - self._said if len(each) >= _TELLING}
        # A name below another server's address is somebody else's.
        ours = re.escape(core.base_url)
        pattern = rf"(?:(?<={ours}/)|(?<![\w/]))[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{{1,64}}"
        self._in_text = re.compile(pattern, re.ASCII)

    def extended(self, names: Collection[Name]) -> Cut:
        """One that finds and removes these names, too."""
        return Cut({*self.names, *names}, self._identifiers, self._core, self._words)

    def touches(self, body: bytes) -> bool:
        """Whether a body names what is to go."""
        if self._named_in(body) or self._has_inside(body):
            return True
        return any(value in body for value in self._values)

    def asked_for(self, query: str) -> bool:
        """Whether a query, as a URL has it, asks for an id, an identifier, a name or a telephone
        that is to go; or what another system reported says one."""
        text = unquote_plus(query)
        if not self._ids.isdisjoint(_WORDS.findall(text)):
            return True
        if any(len(value) >= _TELLING and value in text for _, value in self._identifiers):
            return True
        # A parameter is called `name` or `family`, and so may somebody be.
        values = _NAME_OF_PARAMETER.sub(" ", text.casefold())
        if not self._said.isdisjoint(_WORD.findall(values)):
            return True
        return any(each in values for each in self._phrases)

    def named_in(self, body: bytes) -> set[Name]:
        """Which of the names a body has."""
        names = (each.decode().split("/") for each in self._named_in(body))
        return {(type, id) for type, id in names}

    def _has_inside(self, body: bytes) -> bool:
        """Whether a body may have a resource inside with an id that is gone."""
        if body.count(b'"resourceType"') < 2:
            return False
        return not self._id_bytes.isdisjoint(_IDS.findall(body))

    def _named_in(self, body: bytes) -> set[bytes]:
        """A name may end a sentence."""
        ours, found = self._bytes, {b"%s/%s" % each for each in _NAMED.findall(body)}
        return (found & ours) | ({each.rstrip(b".") for each in found if each[-1] == 46} & ours)

    def without(self, resource: Resource) -> Resource | None:
        """A copy without what is to go, valid where the resource was; the same object when there is
        nothing, None when the resource is about what is gone, or nothing is left that it could be
        about."""
        if self._is_about(resource):
            return None
        inside = look(resource, self._core.base_url, self._theirs)
        made = self._made(resource, inside, mask=resource["resourceType"] in _NARROWING)
        if made is resource:
            return resource
        if _is_empty(resource, made) or _lost_its_head(resource, inside):
            return None
        if not self._is_valid(made):
            made = self._made(resource, inside, mask=True)
        return made

    def redacted(self, resource: Resource) -> Resource:
        """A copy of an old version without what is to go, labelled so; nothing else of one that was
        about it."""
        made = self.without(resource)
        if made is resource:
            return resource
        if made is None:
            made = {key: resource[key] for key in _BARE if key in resource}
        meta = made.get("meta", {})
        labels = [*(each for each in meta.get("security", ()) if each != REDACTED), REDACTED]
        return {**made, "meta": {**meta, "security": labels}}

    def _is_about(self, resource: Resource) -> bool:
        """Whether the one whom a resource is about is a patient who is gone."""
        who = subject(resource, self._core.definitions)
        name = None if who is None else self.local(who.get("reference"))
        return name is not None and name.startswith(f"{PATIENT}/")

    def _theirs(self, inner: Resource, known: Names, ours: bool, contained: bool) -> bool:
        """Whether a resource inside another is gone, or about what is."""
        type = inner["resourceType"]
        if type == PATIENT and not self._identifiers.isdisjoint(identifiers_of([inner])):
            return True
        if ours and not contained and f"{type}/{inner.get('id')}" in self._names:
            return True
        who = subject(inner, self._core.definitions)
        if who is not None and (who.get("reference") in known or self.is_meant_by(who)):
            return True
        return ours and (self._is_about(inner) or self._is_owned(inner))

    def _is_owned(self, inner: Resource) -> bool:
        """Whether it would be sealed as a patient's who is gone, had it been put by itself."""
        if inner["resourceType"] == PATIENT:
            return False
        try:
            entries = self._core.index.entries(inner)
        except FhirError:
            return False
        return owners.owner(inner, entries, self._core.index) in self._names

    def _is_valid(self, resource: Resource) -> bool:
        issues = self._core.validator.validate(resource)
        return not any(each.severity in ("error", "fatal") for each in issues)

    def _made(self, resource: Resource, inside: Inside, mask: bool) -> Resource:
        making = _Making(self, self._core, inside, mask)
        made = making.object(resource, item=False)
        return made if made is not _GONE else resource

    def is_meant_by(self, value: dict[str, Any]) -> bool:
        """Whether a Reference has an identifier of a patient who is gone."""
        logical = value.get("identifier")
        if not isinstance(logical, dict) or "value" not in logical:
            return False
        if value.get("type", PATIENT) != PATIENT:
            return False
        return (logical.get("system"), logical["value"]) in self._identifiers

    def local(self, text: object) -> str | None:
        """The name that a reference is, relative or absolute, with a version or not."""
        named = local(text, self._core.base_url)
        return named if named in self._names else None

    def said(self, text: str) -> str:
        """A text without the names in it."""
        return self._in_text.sub(self._unsaid, text)

    def _unsaid(self, found: re.Match[str]) -> str:
        """What stands in a text in place of a name."""
        name = found[0]
        bare = name if name in self._names else name.rstrip(".")
        return f"erased{name[len(bare) :]}" if bare in self._names else name


class _Making:
    """Makes one copy: `mask` tells whether references go or say that they are masked."""

    def __init__(self, cut: Cut, core: Core, inside: Inside, mask: bool) -> None:
        self._cut, self._core, self._inside, self._mask = cut, core, inside, mask
        self._steps: list[str] = []  # from the innermost resource's type to where it is at
        self._known = Names(set(), set())

    def object(self, value: dict[str, Any], item: bool) -> Any:
        """A copy of an object; itself when nothing of it goes, _GONE when all of it does. `item`:
        it stands in a list."""
        if id(value) in self._inside.gone:
            return _GONE
        if "resourceType" in value:
            return self._resource(value)
        if self._is_reference(value):
            return masked() if self._mask else _GONE
        made, hole = self._members(value)
        if made is value:
            return value
        if item and id(value.get("resource")) in self._inside.gone:
            return _GONE
        if hole and item and not self._mask:
            return _GONE
        return made or (masked() if self._mask else _GONE)

    def _resource(self, value: Resource) -> Resource:
        outer = self._steps, self._known
        self._steps = [value["resourceType"]]
        self._known = self._inside.names.get(id(value), self._known)
        made, _ = self._members(value)
        self._steps, self._known = outer
        if made is value:
            return value
        return {key: child for key, child in made.items() if key not in _SAID_OF_ALL}

    def _members(self, value: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """A copy of what an object has, or itself; whether an object of it is gone."""
        made, hole = dict[str, Any](), False
        for key, child in value.items():
            self._steps.append(key)
            new = self._value(child)
            self._steps.pop()
            if new is not _GONE:
                made[key] = new
            elif type(child) is dict:
                hole = True
        same = all(made.get(key) is child for key, child in value.items())
        return (value if same else made), hole

    def _value(self, child: Any) -> Any:
        if type(child) is dict:
            return self.object(child, item=False)
        if type(child) is list:
            return self._list(child)
        if type(child) is str and "/" in child:
            return self._text(child)
        return child

    def _list(self, value: list[Any]) -> Any:
        made = [
            self.object(each, item=True) if type(each) is dict else self._value(each)
            for each in value
        ]
        left = [each for each in made if each is not _GONE]
        if len(left) == len(value) and all(a is b for a, b in zip(left, value, strict=True)):
            return value
        return left or _GONE

    def _text(self, text: str) -> Any:
        """A text without what it names; an address of just that goes."""
        if self._cut.local(text) is not None:
            return _GONE
        made = self._cut.said(text)
        return text if made == text else made

    def _is_reference(self, value: dict[str, Any]) -> bool:
        if not value.keys() <= _REFERENCE:
            return False
        text = value.get("reference")
        if isinstance(text, str) and (text in self._known or self._cut.local(text) is not None):
            return True
        if not self._cut.is_meant_by(value):
            return False
        return value.get("type") == PATIENT or means_patient(self._steps, self._core.definitions)


def _is_empty(resource: Resource, made: Resource) -> bool:
    """Whether what a resource was about is gone from it."""
    about = _ABOUT.get(resource["resourceType"])
    return about is not None and about in resource and about not in made


def _lost_its_head(resource: Resource, inside: Inside) -> bool:
    """Whether the Composition of a document, the MessageHeader of a message, is gone."""
    if resource.get("type") not in _HEADED or resource["resourceType"] != "Bundle":
        return False
    entries = resource.get("entry", [])
    return any(id(each.get("resource")) in inside.gone for each in entries[:1])


def identifiers_of(resources: Iterable[Resource]) -> Collection[Identifier]:
    """The business identifiers of a patient, by which it may be referred to as well."""
    return {
        (each.get("system"), each["value"])
        for resource in resources
        if resource.get("resourceType") == "Patient"
        for each in resource.get("identifier", ())
        if isinstance(each.get("value"), str)
    }
