"""What leaves: JSON, pretty or not, whole or as _summary and _elements ask.

https://hl7.org/fhir/R4/search.html#summary, https://hl7.org/fhir/R4/http.html#mime-type
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from conformance.definitions import Definitions
from conformance.outcome import FhirError
from fhir_server.interaction import Parameters

FHIR_JSON = "application/fhir+json"
JSON_TYPES = frozenset({FHIR_JSON, "application/json", "text/json", "json"})
_SUMMARIES = ("true", "false", "text", "data", "count")
_ALWAYS = frozenset({"resourceType", "id", "meta"})
_SUBSETTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
}


class Shape(NamedTuple):
    """What of a resource is shown. `elements` are names at its root."""

    summary: str | None = None
    elements: frozenset[str] = frozenset()

    @classmethod
    def of(cls, parameters: Parameters, code: str) -> Shape:
        """The shape that the parameters of a read ask for. FhirError for any other parameter."""
        summary, elements = None, frozenset[str]()
        for name, value in parameters:
            if name == "_summary" and value in _SUMMARIES and value != "count":
                summary = None if value == "false" else value
            elif name == "_elements":
                elements = frozenset(each.strip() for each in value.split(","))
            else:
                raise FhirError(
                    "invalid",
                    f"{name} with this value is not a parameter of {code};"
                    " it takes _summary, _elements, _format and _pretty",
                )
        return cls(summary, elements)

    @property
    def changes(self) -> bool:
        """Whether anything is left out."""
        return self.summary is not None or bool(self.elements)


def shaped(resource: dict[str, Any], shape: Shape, definitions: Definitions) -> dict[str, Any]:
    """A copy with what the shape leaves out left out, tagged SUBSETTED."""
    type = resource["resourceType"]
    keep = _kept(definitions, type, shape.summary) if shape.summary else None
    if shape.elements:
        keep = _ALWAYS | shape.elements | _mandatory(definitions, type)
    if keep is None:
        return resource
    shown = {n: v for n, v in resource.items() if _name(definitions, type, n) in keep}
    if shape.summary == "true":
        shown = _summarised(shown, type, definitions)
    return subsetted(shown)


def subsetted(resource: dict[str, Any]) -> dict[str, Any]:
    """A copy with the tag that says that something is left out."""
    meta = resource.get("meta", {})
    return {**resource, "meta": {**meta, "tag": [*meta.get("tag", ()), _SUBSETTED]}}


def is_subsetted(resource: dict[str, Any]) -> bool:
    """Whether a resource says that something is left out."""
    tags = resource.get("meta", {}).get("tag", ())
    return any(each.get("code") == _SUBSETTED["code"] for each in tags)


def _kept(definitions: Definitions, type: str, summary: str | None) -> frozenset[str]:
    names = _roots(definitions, type)
    if summary == "text":
        return _ALWAYS | {"text"} | _mandatory(definitions, type)
    if summary == "data":
        return frozenset(names) - {"text"} | _ALWAYS
    return _ALWAYS | {name for name, (in_summary, _) in names.items() if in_summary}


@lru_cache(512)
def _roots(definitions: Definitions, type: str) -> dict[str, tuple[bool, bool]]:
    """Root element -> whether it is in the summary, whether it is mandatory."""
    return {
        name.removesuffix("[x]"): (element.is_summary, element.min > 0)
        for name, element in definitions.children(type).items()
    }


def _mandatory(definitions: Definitions, type: str) -> frozenset[str]:
    return frozenset(n for n, (_, mandatory) in _roots(definitions, type).items() if mandatory)


@lru_cache(8192)
def _name(definitions: Definitions, type: str, key: str) -> str:
    """The root element that a JSON key belongs to: _birthDate, valueQuantity."""
    key = key.removeprefix("_")
    names = _roots(definitions, type)
    if key in names or key == "resourceType":
        return key
    choices = (n for n in names if key.startswith(n) and key[len(n) :][:1].isupper())
    return max(choices, key=len, default=key)


def _summarised(value: dict[str, Any], path: str, definitions: Definitions) -> dict[str, Any]:
    """What _summary=true keeps inside backbone elements: the elements marked for it."""
    made: dict[str, Any] = {}
    children = definitions.children(path)
    for key, child in value.items():
        element = children.get(key.removeprefix("_"))
        inner = f"{path}.{key}"
        if element is None or not _is_backbone(element.types):
            made[key] = child
        elif isinstance(child, list):
            made[key] = [_inner(each, inner, definitions) for each in child]
        else:
            made[key] = _inner(child, inner, definitions)
    return made


def _inner(value: dict[str, Any], path: str, definitions: Definitions) -> dict[str, Any]:
    children = definitions.children(path)
    marked = {n.removesuffix("[x]") for n, e in children.items() if e.is_summary}
    shown = {k: v for k, v in value.items() if k in marked or k.removeprefix("_") in marked}
    return _summarised(shown or value, path, definitions)


def _is_backbone(types: Iterable[Any]) -> bool:
    return any(each.code == "BackboneElement" for each in types)
