"""What a question demands of one answer: a table of checks by the constraint.

https://hl7.org/fhir/R4/questionnaire.html
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from conformance.fhirpath import FhirPathError
from conformance.fhirpath.regex import pattern
from conformance.questionnaires.budget import Budget
from conformance.questionnaires.form import Item
from conformance.questionnaires.sets import ValueSets
from conformance.questionnaires.values import Units, coded, compared, key, values

# The type of the answers to a question of a type.
TYPES: Mapping[str, str] = {
    "boolean": "Boolean",
    "decimal": "Decimal",
    "integer": "Integer",
    "date": "Date",
    "dateTime": "DateTime",
    "time": "Time",
    "string": "String",
    "text": "String",
    "url": "Uri",
    "attachment": "Attachment",
    "reference": "Reference",
    "quantity": "Quantity",
}
# What the options of a choice can be.
_OFFERED = ("Coding", "String", "Integer", "Date", "Time", "Reference")
_TEXTS = frozenset({"String", "Uri"})
_SHOWN = 5  # of what is allowed, in a text
_REFERENCE = re.compile(
    r"(?:.*/)?(?P<type>[A-Z][A-Za-z]+)/[A-Za-z0-9.-]{1,64}(?:/_history/[A-Za-z0-9.-]{1,64})?",
    re.ASCII,
)


class Around(NamedTuple):
    """What the checks of answers are given: value sets, units, the resource types of R4, and the
    budget of it all."""

    sets: ValueSets
    units: Units | None
    types: frozenset[str]
    budget: Budget


class Wrong(NamedTuple):
    """What is wrong with an answer: with its value, or with the answer as such (`whole`)."""

    severity: str
    code: str
    text: str
    whole: bool = False


Check = Callable[[Item, str, Any, Around], Iterator[Wrong]]


def wrong(item: Item, kind: str, value: Any, around: Around) -> Iterator[Wrong]:
    """All that is wrong with an answer's value, which is of this type."""
    around.budget.spend()
    allowed = _kinds(item)
    if allowed and kind not in allowed:
        text = f"An answer to {_of(item)} must be of the type {' or '.join(allowed)}"
        yield Wrong("error", "invariant", text)
        return
    for check in _CHECKS:
        yield from check(item, kind, value, around)


def _of(item: Item) -> str:
    return f"item `{item.link}`"


def _kinds(item: Item) -> tuple[str, ...]:
    """The types that an answer can be of; none where R4 has no such type of question. What options
    a choice offers says of which types they are; a choice that offers nothing may be answered by
    any of them."""
    if item.type not in ("choice", "open-choice"):
        return (TYPES[item.type],) if item.type in TYPES else ()
    if item.offered is not None:
        kinds = item.offered.kinds
    else:
        kinds = ("Coding",) if item.value_set is not None else _OFFERED
    return tuple(dict.fromkeys((*kinds, "String"))) if item.type == "open-choice" else kinds


def _named(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")


# --- what is offered -----------------------------------------------------------------------------


def _permitted(item: Item, kind: str, value: Any, around: Around) -> Iterator[Wrong]:
    """Of the options, or of the value set that the question names. The answer to an open choice
    may be a text of one's own."""
    if kind == "String" and item.type == "open-choice":
        return
    if item.offered is not None and (kind, key(kind, value)) not in item.offered.keys:
        text = f"The answer is none of the options that {_of(item)} offers"
        yield Wrong("error", "invariant", text, True)
    if item.value_set is None or kind != "Coding" or not isinstance(value, dict):
        return
    found = around.sets.member(item.value_set, value)
    if found is None:
        text = f"Whether the answer is in the value set of {_of(item)} cannot be told here"
        yield Wrong("warning", "code-invalid", text, True)
    elif not found:
        text = f"The answer is not in the value set of {_of(item)}"
        yield Wrong("error", "code-invalid", text, True)


# --- numbers and dates ---------------------------------------------------------------------------


def _bounds(item: Item, kind: str, value: Any, around: Around) -> Iterator[Wrong]:
    if isinstance(value, dict):
        return
    for name, sign, word in (
        ("min_value", -1, "less than the minimum"),
        ("max_value", 1, "greater than the maximum"),
    ):
        bound = item.value(name)
        if bound is not None and compared(value, bound, None) == sign:
            yield Wrong("error", "invariant", f"The answer is {word} that {_of(item)} allows")


def _decimals(item: Item, kind: str, value: Any, around: Around) -> Iterator[Wrong]:
    most = item.whole("max_decimals")
    number = value.get("value") if isinstance(value, dict) else value
    if most is not None and isinstance(number, Decimal):
        exponent = number.as_tuple().exponent
        if isinstance(exponent, int) and -exponent > most:
            text = f"An answer to {_of(item)} has at most {most} decimal places"
            yield Wrong("error", "invariant", text)


# --- text ----------------------------------------------------------------------------------------


def _length(item: Item, kind: str, value: Any, around: Around) -> Iterator[Wrong]:
    if kind not in _TEXTS or not isinstance(value, str):
        return
    least, most = item.whole("min_length"), item.max_length
    if least is not None and len(value) < least:
        text = f"An answer to {_of(item)} has {least} characters or more"
        yield Wrong("error", "invariant", text)
    if most is not None and len(value) > most:
        yield Wrong("error", "invariant", f"An answer to {_of(item)} has at most {most} characters")
    if item.type == "string" and ("\n" in value or "\r" in value):
        yield Wrong("warning", "invariant", f"An answer to {_of(item)} is one line of text")


def _form(item: Item, kind: str, value: Any, around: Around) -> Iterator[Wrong]:
    """The regular expression of the question, which is of the whole text."""
    expression = item.value("regex")
    if not isinstance(expression, str) or not isinstance(value, str):
        return
    # A short text may take time by its square, a long one is searched in linear time.
    around.budget.spend(len(value) * min(len(value), 1_000) // 64)
    try:
        fits = pattern(expression).fullmatch(value)
    except FhirPathError:
        text = f"The regular expression of {_of(item)} cannot be used, so it was not checked"
        yield Wrong("warning", "not-supported", text)
        return
    if not fits:
        text = f"The answer has not the form that {_of(item)} demands by a regular expression"
        yield Wrong("error", "invariant", text)


# --- attachments, references, quantities ---------------------------------------------------------


def _attachment(item: Item, kind: str, value: Any, around: Around) -> Iterator[Wrong]:
    if kind != "Attachment" or not isinstance(value, dict):
        return
    most, kinds = item.value("max_size"), item.texts("mime_type")
    size = _size(value)
    if size is not None and compared(size, most, None) == 1:
        text = f"An attachment of {_of(item)} has at most {most} bytes, and this has {size}"
        yield Wrong("error", "required", text, True)
    around.budget.spend(len(kinds))
    if kinds and value.get("contentType") not in kinds:
        text = f"An attachment of {_of(item)} is one of: {_named(kinds)}"
        yield Wrong("error", "invariant", text)


def _size(attachment: Mapping[str, Any]) -> int | None:
    data, size = attachment.get("data"), attachment.get("size")
    if isinstance(data, str):
        try:
            return len(base64.b64decode("".join(data.split()), validate=True))
        except (binascii.Error, ValueError):
            return None  # told by the validation of its type
    return size if type(size) is int else None


def _reference(item: Item, kind: str, value: Any, around: Around) -> Iterator[Wrong]:
    type_ = _referred(value) if kind == "Reference" and isinstance(value, dict) else None
    if type_ is None:
        return
    allowed = item.texts("resource")
    around.budget.spend(len(allowed))
    if type_ not in around.types:
        yield Wrong("error", "invariant", "The reference names no resource type of FHIR R4")
    elif allowed and type_ not in allowed:
        text = f"An answer to {_of(item)} refers to one of: {_named(allowed)}"
        yield Wrong("error", "invariant", text)


def _referred(reference: Mapping[str, Any]) -> str | None:
    """The type that a reference names, as far as it does."""
    literal, type_ = reference.get("reference"), reference.get("type")
    if isinstance(literal, str) and not literal.startswith("urn:"):
        found = _REFERENCE.fullmatch(literal)
        if found is not None:
            return found["type"]
    # A type may be the url of a logical model.
    return type_ if isinstance(type_, str) and ":" not in type_ else None


def _quantity(item: Item, kind: str, value: Any, around: Around) -> Iterator[Wrong]:
    if kind != "Quantity" or not isinstance(value, dict):
        return
    yield from _units(item, value, around)
    if "value" not in value or "comparator" in value:
        return  # what is not told exactly is beyond no bound for certain
    for name, sign, word in (("min_quantity", -1, "minimum"), ("max_quantity", 1, "maximum")):
        bound = item.value(name)
        if not isinstance(bound, dict):
            continue
        found = compared(value, bound, around.units)
        if found is None:
            text = f"The answer cannot be compared with the {word} of {_of(item)}: give both with"
            yield Wrong("error", "invariant", f"{text} a UCUM unit of one kind")
        elif found == sign:
            yield Wrong("error", "invariant", f"The answer is beyond the {word} of {_of(item)}")


def _units(item: Item, value: Mapping[str, Any], around: Around) -> Iterator[Wrong]:
    """The unit is one of those that the question offers."""
    if item.units and coded(value) not in item.units:
        text = f"The unit of the answer is none that {_of(item)} offers"
        yield Wrong("error", "invariant", text)
    value_set = item.value("unit_set")
    if not isinstance(value_set, str):
        return
    known = around.sets.member(value_set, value)
    if known is None:
        text = f"Whether the unit is in the value set of units of {_of(item)} cannot be told here"
        yield Wrong("warning", "code-invalid", text)
    elif not known:
        text = f"The unit of the answer is not in the value set of units of {_of(item)}"
        yield Wrong("error", "invariant", text)


def stand_alone(item: Item, answers: Iterable[Mapping[str, Any]]) -> bool:
    """Whether one of several answers is an option that excludes all others."""
    alone = item.offered.alone if item.offered is not None else frozenset()
    return bool(alone) and any(
        (kind, key(kind, value)) in alone for each in answers for kind, value in values(each)
    )


_CHECKS: tuple[Check, ...] = (
    _bounds,
    _decimals,
    _length,
    _form,
    _attachment,
    _reference,
    _quantity,
    _permitted,
)
