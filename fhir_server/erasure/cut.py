"""Resources of others without what names the erased: references go, with the item of a list that
they stand for; where the resource would not be valid without one, it says that it is masked.

https://hl7.org/fhir/R4/references.html, https://hl7.org/fhir/R4/extension-data-absent-reason.html
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any, TypeAlias
from urllib.parse import unquote_plus

from conformance.json import encode
from fhir_server.core import Core
from fhir_server.interaction import Resource

Name: TypeAlias = tuple[str, str]  # type and id
Identifier: TypeAlias = tuple[str | None, str]  # system and value

_NAMED = re.compile(rb"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})")
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
_ABOUT = {"Provenance": "target", "Binary": "securityContext"}
# Where what is named narrows what is said: without it, a consent would be to more than it was.
_NARROWING = frozenset({"Consent"})
_GONE = object()


def masked() -> dict[str, Any]:
    """A Reference that says that something was named."""
    return {"extension": [{"url": _ABSENT, "valueCode": "masked"}]}


class Cut:
    """Finds and removes the names of resources that are no more, and references by identifiers."""

    def __init__(
        self,
        names: Collection[Name],
        identifiers: Iterable[Identifier],
        core: Core,
        words: Iterable[str] = (),
    ) -> None:
        self._names = {f"{type}/{id}" for type, id in names}
        self._ids = {id for _, id in names}
        self._bytes = {name.encode() for name in self._names}
        self._identifiers = set(identifiers)
        self._values = tuple(encode(value)[1:-1] for _, value in self._identifiers)
        self._core = core
        said = {each.casefold().lstrip("+") for each in words}
        self._said = {each for each in said if _WORD.fullmatch(each)}
        self._phrases = {each for each in said - self._said if len(each) >= _TELLING}
        # A name below another server's address is somebody else's.
        ours = re.escape(core.base_url)
        pattern = rf"(?:(?<={ours}/)|(?<![\w/]))[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{{1,64}}"
        self._in_text = re.compile(pattern, re.ASCII)

    def touches(self, body: bytes) -> bool:
        """Whether a body names what is to go."""
        if self._named_in(body):
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

    def _named_in(self, body: bytes) -> set[bytes]:
        """A name may end a sentence."""
        ours, found = self._bytes, {b"%s/%s" % each for each in _NAMED.findall(body)}
        return (found & ours) | ({each.rstrip(b".") for each in found if each[-1] == 46} & ours)

    def without(self, resource: Resource) -> Resource | None:
        """A copy without what is to go, valid where the resource was; the same object when there is
        nothing, None when nothing is left that it could be about."""
        made = self._made(resource, mask=resource["resourceType"] in _NARROWING)
        if made is resource:
            return resource
        about = _ABOUT.get(resource["resourceType"])
        if about is not None and about in resource and about not in made:
            return None
        if not self._is_valid(made):
            made = self._made(resource, mask=True)
        return made

    def redacted(self, resource: Resource) -> Resource:
        """A copy of an old version without what is to go, labelled so."""
        made = self.without(resource)
        if made is None:
            made = self._made(resource, mask=True)
        meta = made.get("meta", {})
        labels = [*(each for each in meta.get("security", ()) if each != REDACTED), REDACTED]
        return {**made, "meta": {**meta, "security": labels}} if made is not resource else made

    def _is_valid(self, resource: Resource) -> bool:
        issues = self._core.validator.validate(resource)
        return not any(each.severity in ("error", "fatal") for each in issues)

    def _made(self, resource: Resource, mask: bool) -> Resource:
        made = self._object(resource, mask, item=False)
        return made if made is not _GONE else resource

    def _object(self, value: dict[str, Any], mask: bool, item: bool) -> Any:
        """A copy of an object; itself when nothing of it goes, _GONE when all of it does. `item`:
        it stands in a list."""
        if self._is_reference(value):
            return masked() if mask else _GONE
        made, hole = dict[str, Any](), False
        for key, child in value.items():
            new = self._value(key, child, mask)
            if new is not _GONE:
                made[key] = new
            elif type(child) is dict:
                hole = True
        if all(made.get(key) is child for key, child in value.items()):
            return value
        if "resourceType" in value:
            return {key: child for key, child in made.items() if key not in _SAID_OF_ALL}
        if hole and item and not mask:
            return _GONE
        return made or (masked() if mask else _GONE)

    def _value(self, key: str, child: Any, mask: bool) -> Any:
        if type(child) is dict:
            return self._object(child, mask, item=False)
        if type(child) is list:
            return self._list(key, child, mask)
        if type(child) is str and "/" in child:
            return self._text(child)
        return child

    def _list(self, key: str, value: list[Any], mask: bool) -> Any:
        made = []
        for each in value:
            if type(each) is dict:
                each = self._object(each, mask, item=True)
            elif type(each) is str:
                each = self._value(key, each, mask)
            if each is not _GONE:
                made.append(each)
        if len(made) == len(value) and all(a is b for a, b in zip(made, value, strict=True)):
            return value
        return made or _GONE

    def _text(self, text: str) -> Any:
        """A text without what it names; an address of just that goes."""
        if self._local(text) is not None:
            return _GONE
        made = self._in_text.sub(self._unsaid, text)
        return text if made == text else made

    def _unsaid(self, found: re.Match[str]) -> str:
        """What stands in a text in place of a name."""
        name = found[0]
        bare = name if name in self._names else name.rstrip(".")
        return f"erased{name[len(bare) :]}" if bare in self._names else name

    def _is_reference(self, value: dict[str, Any]) -> bool:
        if not value.keys() <= _REFERENCE:
            return False
        text, logical = value.get("reference"), value.get("identifier")
        if isinstance(text, str) and self._local(text) is not None:
            return True
        if not isinstance(logical, dict) or "value" not in logical:
            return False
        return (logical.get("system"), logical["value"]) in self._identifiers

    def _local(self, text: str) -> str | None:
        """The name that a reference is, relative or absolute, with a version or not."""
        base = f"{self._core.base_url}/"
        parts = text.removeprefix(base).partition("/_history/")[0].partition("#")[0]
        return parts if parts in self._names else None


def identifiers_of(resources: Iterable[Resource]) -> Collection[Identifier]:
    """The business identifiers of a patient, by which it may be referred to as well."""
    return {
        (each.get("system"), each["value"])
        for resource in resources
        if resource.get("resourceType") == "Patient"
        for each in resource.get("identifier", ())
        if isinstance(each.get("value"), str)
    }
