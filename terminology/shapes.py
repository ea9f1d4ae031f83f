"""The shapes of what is read of code systems, value sets and concept maps, where nobody has held
them to their definitions: of what is sent along with a request, and of what packages bring.

https://hl7.org/fhir/R4/json.html

Elements that are not read may be anything, those of later releases of FHIR among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from conformance.outcome import FhirError
from terminology.canonical import Canonical

Shape: TypeAlias = Any  # a type of JSON, [the shape of each], or {the name of each: its shape}
Node: TypeAlias = tuple[Any, Shape, str]

_VALUE = "value"
_NAMES: Mapping[object, str] = {str: "a text", bool: "true or false", float: "a number"}
_CODING: Shape = {"system": str, "version": str, "code": str, "display": str}
_TEXTS = (
    "Base64Binary Canonical Code Date DateTime Id Instant Markdown Oid String Time Uri Url Uuid"
).split()
_CHOICES: Mapping[str, Shape] = {
    **{f"value{each}": str for each in _TEXTS},
    **{f"value{each}": float for each in ("Integer", "Decimal", "PositiveInt", "UnsignedInt")},
    "valueBoolean": bool,
    "valueCoding": _CODING,
}
_EXTENSION: dict[str, Shape] = {"url": str, _VALUE: _CODING}
_EXTENSION["extension"] = [_EXTENSION]
_ELEMENT: Shape = {"extension": [_EXTENSION]}
_DESIGNATION: Shape = {**_ELEMENT, "language": str, "use": _CODING, "value": str}
_PROPERTY: Shape = {"code": str, _VALUE: _CODING}
_CONCEPT: dict[str, Shape] = {
    **_ELEMENT,
    "code": str,
    "display": str,
    "definition": str,
    "designation": [_DESIGNATION],
    "property": [_PROPERTY],
}
_CONCEPT["concept"] = [_CONCEPT]
_HEAD: Mapping[str, Shape] = {
    **_ELEMENT,
    "id": str,
    "url": str,
    "version": str,
    "name": str,
    "title": str,
    "status": str,
    "language": str,
}
_SYSTEM: Shape = {
    **_HEAD,
    "content": str,
    "caseSensitive": bool,
    "supplements": str,
    "property": [{"code": str, "uri": str, "type": str}],
    "concept": [_CONCEPT],
}
_REFERENCE: Shape = {**_ELEMENT, "code": str, "display": str, "designation": [_DESIGNATION]}
_FILTER: Shape = {"property": str, "op": str, "value": str, "_op": _ELEMENT}
_INCLUDE: Shape = {
    "system": str,
    "version": str,
    "concept": [_REFERENCE],
    "filter": [_FILTER],
    "valueSet": [str],
}
_CONTAINS: dict[str, Shape] = {**_REFERENCE, "system": str, "version": str}
_CONTAINS["contains"] = [_CONTAINS]
_SET: dict[str, Shape] = {
    **_HEAD,
    "compose": {**_ELEMENT, "inactive": bool, "include": [_INCLUDE], "exclude": [_INCLUDE]},
    "expansion": {"contains": [_CONTAINS]},
}
_FURTHER: Shape = {"property": str, "system": str, "value": str, "display": str}
_TARGET: Shape = {
    "code": str,
    "display": str,
    "equivalence": str,
    "dependsOn": [_FURTHER],
    "product": [_FURTHER],
}
_GROUP: Shape = {
    "source": str,
    "sourceVersion": str,
    "target": str,
    "targetVersion": str,
    "element": [{"code": str, "display": str, "target": [_TARGET]}],
    "unmapped": {"mode": str, "code": str, "display": str, "url": str},
}
_MAP: Shape = {
    **_HEAD,
    "sourceUri": str,
    "sourceCanonical": str,
    "targetUri": str,
    "targetCanonical": str,
    "group": [_GROUP],
}
RESOURCES: Mapping[str, Shape] = {
    "CodeSystem": _SYSTEM,
    "ValueSet": _SET,
    "ConceptMap": _MAP,
    "NamingSystem": _HEAD,
}
CODED: Shape = {**_CODING, "coding": [_CODING], "text": str}  # a Coding or CodeableConcept


def require(resource: Mapping[str, Any]) -> None:
    """FhirError for a resource whose elements have other shapes than their definitions give."""
    type = resource.get("resourceType")
    shape = RESOURCES.get(type) if isinstance(type, str) else None
    if shape is None:
        return
    try:
        require_shape(resource, shape, str(type))
        contained = resource.get("contained", [])
        if not isinstance(contained, list) or not all(isinstance(each, dict) for each in contained):
            raise _other(f"{type}.contained", "a list of resources")
    except FhirError as error:
        url, version = resource.get("url"), resource.get("version")
        named = isinstance(url, str) and (version is None or isinstance(version, str))
        of = f" of {Canonical(str(url), version)}" if named else ""
        text = f"{error}{of}"
        raise FhirError("structure", text, error.issues[0].expression) from error
    for each in contained:
        require(each)


def require_shape(value: Any, shape: Shape, path: str) -> None:
    """FhirError for a value, or something in it, that has another shape."""
    waiting: list[Node] = [(value, shape, path)]
    while waiting:
        value, shape, path = waiting.pop()
        if isinstance(shape, list):
            if not isinstance(value, list):
                raise _other(path, "a list")
            waiting.extend((each, shape[0], path) for each in value)
        elif isinstance(shape, dict):
            if not isinstance(value, dict):
                raise _other(path, "an object")
            waiting.extend(_members(value, shape, path))
        elif not _is(value, shape):
            raise _other(path, _NAMES[shape])


def _members(value: Mapping[str, Any], shape: Mapping[str, Shape], path: str) -> Iterator[Node]:
    """What an object has of its shape. One with a value[x] has it under the name of its type."""
    chosen = shape.get(_VALUE) is _CODING
    for name, each in value.items():
        if chosen and name.startswith(_VALUE):
            if len(name) == len(_VALUE):
                raise _other(f"{path}.value[x]", "named by its type")
            yield each, _CHOICES.get(name, object), f"{path}.value[x]"
        elif name in shape:
            yield each, shape[name], f"{path}.{name}"


def _is(value: Any, type: type) -> bool:
    if type is float:
        return not isinstance(value, bool | str | list | dict) and value is not None
    return isinstance(value, type)


def _other(path: str, what: str) -> FhirError:
    return FhirError("structure", f"{path} is {what}", path)
