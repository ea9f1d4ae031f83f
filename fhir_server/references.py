"""References inside a transaction: which must be resolved, and the resources with them resolved.

https://hl7.org/fhir/R4/http.html#trules, https://hl7.org/fhir/R4/bundle.html#references
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from conformance.definitions import Definitions
from conformance.json import encode
from conformance.outcome import FhirError
from fhir_server.interaction import Resource

_CONDITIONAL = re.compile(r"([A-Z][A-Za-z]+)\?(.+)", re.ASCII | re.DOTALL)
_RESTFUL = re.compile(r"(https?://.+)/([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})", re.ASCII)
_LOCAL_NAMES = ("urn:uuid:", "urn:oid:")
# Where else than in Reference.reference a name given in the Bundle is to be replaced.
_LINKING_TYPES = frozenset({"uri", "url", "oid", "uuid", "canonical"})


class Targets(NamedTuple):
    """What names mean in one Bundle: `names`, fullUrl -> Type/id; `found`, conditional reference
    -> Type/id."""

    names: Mapping[str, str]
    found: Mapping[str, str]


def conditional(reference: str) -> tuple[str, str] | None:
    """Type and query of a conditional reference."""
    match = _CONDITIONAL.fullmatch(reference)
    return (match[1], match[2]) if match else None


def conditional_references(resource: Resource | None) -> list[str]:
    """Every conditional reference in a resource."""
    if resource is None or b"?" not in encode(resource):  # half the time of a walk
        return []
    found: list[str] = []
    _collect(resource, found)
    return [text for text in found if conditional(text)]


def _collect(value: dict[str, Any], found: list[str]) -> None:
    for key, child in value.items():
        kind = type(child)
        if kind is str:
            if key == "reference" and "?" in child:
                found.append(child)
        elif kind is dict:
            _collect(child, found)
        elif kind is list:
            for each in child:
                if type(each) is dict:
                    _collect(each, found)


def base_of(full_url: str) -> str | None:
    """The base against which an entry's relative references resolve."""
    match = _RESTFUL.fullmatch(full_url)
    return match[1] if match else None


def resolved(
    resource: Resource, targets: Targets, base: str | None, definitions: Definitions
) -> Resource:
    """A copy whose references name resources of this server. FhirError 422 for a urn that no entry
    of the Bundle has."""
    walk = _Walk(targets, base, definitions)
    made: Resource = walk.object(resource, (None, ""))
    return made


# The way to an element, from its resource's type: (the way before it, a property), innermost first.
_Way: TypeAlias = tuple["_Way | None", str]


class _Walk:
    def __init__(self, targets: Targets, base: str | None, definitions: Definitions) -> None:
        self.targets, self.base, self.definitions = targets, base, definitions

    def object(self, value: dict[str, Any], way: _Way) -> dict[str, Any]:
        """A copy of an object; only what changes is made anew."""
        if "resourceType" in value and isinstance(value["resourceType"], str):
            way = (None, value["resourceType"])
        made, names = value, self.targets.names
        for key, child in value.items():
            kind = type(child)
            new: Any
            if kind is str:
                if key == "reference":
                    new = self.reference(child, way)
                elif ":" in child and (child in names or "#" in child or key == "div"):
                    new = self.text(key, child, way)
                else:  # without a colon it names nothing
                    continue
            elif kind is dict:
                new = self.object(child, (way, key))
            elif kind is list:
                new = self.array(key, child, way)
            else:
                continue
            if new is not child:
                made = dict(value) if made is value else made
                made[key] = new
        return made

    def array(self, key: str, value: list[Any], way: _Way) -> list[Any]:
        inner = (way, key)
        made = value
        for number, each in enumerate(value):
            new = each
            if type(each) is dict:
                new = self.object(each, inner)
            elif type(each) is str and ":" in each:  # such as a canonical
                new = self.text(key, each, way)
            if new is not each:
                made = list(value) if made is value else made
                made[number] = new
        return made

    def text(self, key: str, text: str, way: _Way) -> str:
        """What a text becomes that is no reference."""
        if key == "div":
            return self._narrative(text)
        name, mark, fragment = text.partition("#") if "#" in text else (text, "", "")
        if name in self.targets.names and self._links(way, key):
            return self.targets.names[name] + mark + fragment
        return text

    def reference(self, text: str, way: _Way) -> str:
        names = self.targets.names
        if text in names:
            return names[text]
        name, mark, fragment = text.partition("#")
        if name in names:
            return names[name] + mark + fragment
        if self.base and f"{self.base}/{name}" in names:
            return names[f"{self.base}/{name}"] + mark + fragment
        if text in self.targets.found:
            return self.targets.found[text]
        if text.startswith(_LOCAL_NAMES):
            raise FhirError(
                "not-found",
                "This reference names no entry of the Bundle; give the entry this fullUrl",
                ".".join([*_steps(way), "reference"]),
                status=422,
            )
        return text

    def _links(self, way: _Way, key: str) -> bool:
        """Whether an element holds a link: typed uri, url, oid, uuid or canonical."""
        at, *steps = _steps(way)
        for step in (*steps, key):
            children = self.definitions.children(at)
            element = children.get(step) or _choice(children, step)
            if element is None:
                return False
            code = _type_of(element, step)
            at = code if code not in ("BackboneElement", "Element", "") else element.path
            if element.content_reference:
                at = element.content_reference.removeprefix("#")
        return at in _LINKING_TYPES and key != "system"

    def _narrative(self, text: str) -> str:
        """Links and images of a narrative."""
        if "href" not in text and "src" not in text:
            return text
        return re.sub(
            r"""((?:href|src)\s*=\s*)(["'])(.*?)\2""",
            lambda found: (
                found[1] + found[2] + self.targets.names.get(found[3], found[3]) + found[2]
            ),
            text,
        )


def _steps(way: _Way | None) -> list[str]:
    """A way from its beginning."""
    steps: list[str] = []
    while way is not None:
        way, step = way
        steps.append(step)
    return steps[::-1]


def _choice(children: Mapping[str, Any], key: str) -> Any:
    for name, element in children.items():
        if name.endswith("[x]") and key.startswith(name[:-3]):
            return element
    return None


def _type_of(element: Any, key: str) -> str:
    """The type that a JSON key gives to an element."""
    if len(element.types) == 1:
        return str(element.types[0].code)
    suffix = key[len(element.path.rpartition(".")[2]) - 3 :]
    return next((t.code for t in element.types if t.code[:1].upper() + t.code[1:] == suffix), "")
