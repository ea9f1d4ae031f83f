"""XML of resources, to and from their JSON: for servers and fixtures that speak XML.

https://hl7.org/fhir/R4/xml.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from conformance.definitions import load
from conformance.fhirpath.types import Step, Types
from conformance.narrative import XHTML
from conformance.outcome import FhirError

FHIR = "http://hl7.org/fhir"
DEPTH = 64  # levels of elements

_INTEGERS = frozenset({"integer", "unsignedInt", "positiveInt"})
_ATTRIBUTES = {"id": "id", "url": "url"}  # members of datatypes that XML has as attributes


def from_xml(data: bytes) -> dict[str, Any]:
    """The resource that `data` holds. FhirError (structure, 400) for what is no XML of R4; its text
    says where and never what."""
    return _resource(_parsed(data))


def to_xml(resource: Mapping[str, Any]) -> bytes:
    """The XML of a resource, members in the order of the definitions; what these do not know is
    left out."""
    name = str(resource.get("resourceType"))
    if name not in load().types:
        raise _refusal("`resourceType` must name a type of FHIR R4")
    inner = "".join(_members(resource, name))
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{name} xmlns="{FHIR}">{inner}</{name}>'.encode()
    )


@cache
def _types() -> Types:
    return Types(load())


def _refusal(text: str) -> FhirError:
    return FhirError("structure", text, status=400)


# --- from XML ------------------------------------------------------------------------------------


class _Element:
    """An element while it is read. `text` is the XHTML of a narrative."""

    __slots__ = ("attributes", "children", "name", "text")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.attributes = attributes
        self.children: list[_Element] = []
        self.text = ""


class _Reader:
    """What expat tells, as a tree; a narrative is kept as it is written."""

    def __init__(self) -> None:
        self.root: _Element | None = None
        self._open: list[_Element] = []
        self._markup: list[str] = []
        self._inside = 0  # levels of XHTML

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) + self._inside >= DEPTH:
            raise _refusal(f"The XML is nested deeper than {DEPTH} levels")
        space, _, local = name.rpartition(" ")
        if self._inside or space == XHTML:
            self._inside += 1
            first = f' xmlns="{XHTML}"' if self._inside == 1 else ""
            written = "".join(f" {_local(n)}={quoteattr(v)}" for n, v in attributes.items())
            self._markup.append(f"<{local}{first}{written}>")
            return
        if space != FHIR:
            raise _refusal(f"The elements of a resource are in the namespace {FHIR}")
        made = _Element(local, attributes)
        if self._open:
            self._open[-1].children.append(made)
        self.root = self.root or made
        self._open.append(made)

    def text(self, data: str) -> None:
        if self._inside:
            self._markup.append(escape(data))
        elif data.strip():
            raise _refusal("A resource has text only in its narrative")

    def end(self, name: str) -> None:
        if not self._inside:
            self._open.pop()
            return
        local = name.rpartition(" ")[2]
        if (opened := self._markup[-1]).startswith(f"<{local}") and not opened.endswith("/>"):
            self._markup[-1] = f"{opened[:-1]}/>"
        else:
            self._markup.append(f"</{local}>")
        self._inside -= 1
        if not self._inside and self._open:
            made = _Element(local, {})
            made.text = "".join(self._markup)
            self._open[-1].children.append(made)
            self._markup = []


def _local(name: str) -> str:
    space, _, local = name.rpartition(" ")
    return f"xml:{local}" if space else local


def _parsed(data: bytes) -> _Element:
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")

    def no_dtd(*_: Any) -> None:
        raise _refusal("The XML may have no document type: entities are not read")

    parser.StartDoctypeDeclHandler = no_dtd
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise _refusal(
            f"This is not XML: the fault is at line {error.lineno}, column {error.offset + 1}"
        ) from None
    if reader.root is None:
        raise _refusal("A resource is an element of its type's name")
    return reader.root


def _resource(element: _Element) -> dict[str, Any]:
    if element.name not in load().types:
        raise _refusal("The root element must name a type of FHIR R4")
    return {"resourceType": element.name, **_object(element, element.name)}


def _object(element: _Element, type: str) -> dict[str, Any]:
    known = _types().members(type)
    made: dict[str, Any] = {n: v for n, v in element.attributes.items() if n in _ATTRIBUTES}
    for child in element.children:
        step = known.get(child.name)
        if step is None:
            raise _refusal(f"An element of {type.partition('.')[0]} is not known to FHIR R4")
        _add(made, child, step)
    for key in [each for each in made if f"_{each}" in made and isinstance(made[each], list)]:
        _in_step(made, key)
    return made


def _in_step(made: dict[str, Any], key: str) -> None:
    """Values and what is beside them, lists of one length; of nothing but nulls there is none."""
    values, sides = made[key], made[f"_{key}"]
    sides.extend([None] * (len(values) - len(sides)))
    if not any(each is not None for each in values):
        del made[key]


def _add(made: dict[str, Any], child: _Element, step: Step) -> None:
    if not step.primitive:
        value = _resource(_only(child)) if _types().resource(step.type) else None
        value = _object(child, step.type) if value is None else value
        _put(made, step.key, value, step.many)
        return
    value, beside = _primitive(child, step.type)
    if step.many:
        _put_beside(made, step.key, value, beside)
        return
    if value is not None:
        made[step.key] = value
    if beside:
        made[f"_{step.key}"] = beside


def _put(made: dict[str, Any], key: str, value: Any, many: bool) -> None:
    if many:
        made.setdefault(key, []).append(value)
    else:
        made[key] = value


def _put_beside(made: dict[str, Any], key: str, value: Any, beside: Any) -> None:
    """One of several primitives: the values and what is beside them stay in step."""
    values = made.setdefault(key, [])
    values.append(value)
    if beside or f"_{key}" in made:
        sides = made.setdefault(f"_{key}", [])
        sides.extend([None] * (len(values) - 1 - len(sides)))
        sides.append(beside or None)


def _only(element: _Element) -> _Element:
    if len(element.children) != 1:
        raise _refusal("Where a resource stands, exactly one does")
    return element.children[0]


def _primitive(element: _Element, type: str) -> tuple[Any, dict[str, Any]]:
    if element.text:
        return element.text, {}
    beside = _object(element, "Element")
    written = element.attributes.get("value")
    return (None if written is None else _value(written, type)), beside


def _value(written: str, type: str) -> Any:
    try:
        if type in _INTEGERS:
            return int(written)
        if type == "decimal":
            return Decimal(written)
    except (ValueError, InvalidOperation):
        return written  # the validator says what is wrong with it
    if type == "boolean" and written in ("true", "false"):
        return written == "true"
    return written


# --- to XML --------------------------------------------------------------------------------------


def _members(node: Mapping[str, Any], type: str) -> Iterator[str]:
    is_resource = "resourceType" in node
    for key, step in _types().members(type).items():
        if key in _ATTRIBUTES and _is_attribute(key, type, is_resource):
            continue
        value, side = node.get(key), node.get(f"_{key}")
        if value is None and side is None:
            continue
        if not step.primitive:
            for each in (value or ()) if step.many else (value or {},):
                yield _complex(key, each, step.type)
            continue
        values = value if step.many else [value]
        sides = side if step.many else [side]
        for position in range(max(len(values or ()), len(sides or ()))):
            yield _written(key, _at(values, position), _at(sides, position))


def _is_attribute(key: str, type: str, is_resource: bool) -> bool:
    return type == "Extension" if key == "url" else not is_resource


def _at(values: Any, position: int) -> Any:
    return values[position] if values and position < len(values) else None


def _complex(key: str, value: Mapping[str, Any], type: str) -> str:
    if _types().resource(type):
        name = str(value.get("resourceType"))
        return f"<{key}><{name}>{''.join(_members(value, name))}</{name}></{key}>"
    return f"<{key}{_attributes(value, type)}>{''.join(_members(value, type))}</{key}>"


def _attributes(value: Mapping[str, Any], type: str) -> str:
    return "".join(
        f" {name}={quoteattr(str(value[name]))}"
        for name in _ATTRIBUTES
        if name in value and _is_attribute(name, type, "resourceType" in value)
    )


def _written(key: str, value: Any, beside: Mapping[str, Any] | None) -> str:
    if key == "div" and isinstance(value, str):
        return value
    shown = ""
    if value is not None:
        plain = str(value).lower() if isinstance(value, bool) else str(value)
        shown = f" value={quoteattr(plain)}"  # line ends as references, so that they stay
    beside = beside or {}
    inner = "".join(_members(beside, "Element"))
    return f"<{key}{_attributes(beside, 'Element')}{shown}>{inner}</{key}>"
