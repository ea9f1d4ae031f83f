"""Whether a definition of a package has the shape that R4 gives it: objects, lists and values where
they belong, so that whoever reads it later finds what it looks for, or nothing.

https://hl7.org/fhir/R4/json.html

Elements that R4 does not have are left alone, and rules and codes are not looked at: guides are
published with what a validator would complain of, and serve all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from conformance.definitions import load
from conformance.fhirpath.types import Step, Types, types_of

_NAMING = ("NamingSystem",)  # a definition without a url of its own
_TEXT = (str,)
_NUMBER = (int, Decimal)
_VALUES: Mapping[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "decimal": _NUMBER,
    "integer": (int,),
    "positiveInt": (int,),
    "unsignedInt": (int,),
}


def misshapen(resource: Mapping[str, Any]) -> str | None:
    """The place in a definition where its JSON has another shape than R4 gives it; None for one
    that is well, for examples, and for a type that R4 does not have."""
    types = types_of(load())
    type = resource["resourceType"]
    if types.own(resource) != type or not (type in _NAMING or "url" in types.members(type)):
        return None
    found = _wrong(types, type, resource)
    return None if found is None else f"{type}{found}"


# Each gives where it is wrong, from the value itself on ("" for itself), and None where it is not.


def _wrong(types: Types, type: str, value: Any) -> str | None:
    if not isinstance(value, dict):
        return ""
    members = types.members(type)
    for key, each in value.items():
        step = members.get(key)
        if step is not None:
            found = _member(types, step, each)
        elif key[:1] == "_" and key[1:] in members:
            found = _side(types, members[key[1:]], each)
        else:
            continue
        if found is not None:
            return f".{key}{found}"
    return None


def _member(types: Types, step: Step, value: Any) -> str | None:
    if not step.many:
        return _single(types, step, value)
    if not isinstance(value, list):
        return ""
    for position, each in enumerate(value):
        if each is None and step.primitive:  # its extensions alone are there
            continue
        found = _single(types, step, each)
        if found is not None:
            return f"[{position}]{found}"
    return None


def _single(types: Types, step: Step, value: Any) -> str | None:
    if step.primitive:
        allowed = _VALUES.get(step.type, _TEXT)
        fits = type(value) in allowed  # exactly: a boolean is no number
        return None if fits else ""
    if not types.resource(step.type):
        return _wrong(types, step.type, value)
    named = isinstance(value, dict) and isinstance(value.get("resourceType"), str)
    return _wrong(types, types.own(value), value) if named else ""


def _side(types: Types, step: Step, value: Any) -> str | None:
    """What lies beside a primitive: its id and extensions."""
    if not step.many:
        return _wrong(types, "Element", value)
    if not isinstance(value, list):
        return ""
    found = (_wrong(types, "Element", each) for each in value if each is not None)
    return next((each for each in found if each is not None), None)
