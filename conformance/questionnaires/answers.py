"""What a question demands of one answer: a table of checks by the constraint.

https://hl7.org/fhir/R4/questionnaire.html
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from conformance.questionnaires.enabling import same
from conformance.questionnaires.form import Item

UCUM = "http://unitsofmeasure.org"

# The properties that an answer to a question of a type may have.
PROPERTIES: Mapping[str, tuple[str, ...]] = {
    "boolean": ("valueBoolean",),
    "decimal": ("valueDecimal",),
    "integer": ("valueInteger",),
    "date": ("valueDate",),
    "dateTime": ("valueDateTime",),
    "time": ("valueTime",),
    "string": ("valueString",),
    "text": ("valueString",),
    "url": ("valueUri",),
    "attachment": ("valueAttachment",),
    "reference": ("valueReference",),
    "quantity": ("valueQuantity",),
}
_CODED = ("valueCoding",)
# What the options of a choice can be.
_OFFERED = (*_CODED, "valueString", "valueInteger", "valueDate", "valueTime", "valueReference")


class Codes(Protocol):
    """What is asked of terminology and units; None says that it cannot be told."""

    def member(
        self, value_set: str, system: str | None, code: str, version: str | None = None
    ) -> bool | None:
        """Whether a code is in a value set."""
        ...


class Units(Protocol):
    """UCUM, as far as quantities are compared by it."""

    def canonical(self, value: Decimal, code: str, /) -> tuple[Decimal, str] | None:
        """The value in base units, and these; None for what is no unit."""
        ...


class Around(NamedTuple):
    """What the checks of answers are given: terminology, units, the resource types of R4."""

    codes: Codes
    units: Units | None
    types: frozenset[str]


class Wrong(NamedTuple):
    """What is wrong with an answer. `about` is the property, or None for the answer as such."""

    severity: str
    code: str
    text: str
    whole: bool = False


Check = Callable[[Item, Any, Around], Iterator[Wrong]]


def wrong(item: Item, name: str, value: Any, around: Around) -> Iterator[Wrong]:
    """All that is wrong with an answer's value, which is in the property of this name."""
    allowed = _properties(item)
    if name not in allowed:
        types = " or ".join(each.removeprefix("value") for each in allowed)
        text = f"An answer to {_of(item)} must be of the type {types}"
        yield Wrong("error", "invariant", text)
        return
    for check in _CHECKS:
        yield from check(item, value, around)
    if name != "valueString" or item.type != "open-choice":
        yield from _permitted(item, name, value, around)


def _of(item: Item) -> str:
    return f"item `{item.link}`"


def _properties(item: Item) -> tuple[str, ...]:
    """Those of the type. What options a choice offers says of which types they are; a choice that
    offers nothing may be answered by any of them."""
    if item.type not in ("choice", "open-choice"):
        return PROPERTIES.get(item.type, ())
    if item.options:
        offered = tuple(dict.fromkeys(name for name, _ in item.options))
    else:
        offered = _CODED if "answerValueSet" in item.raw else _OFFERED
    return (*offered, "valueString") if item.type == "open-choice" else offered


def _permitted(item: Item, name: str, value: Any, around: Around) -> Iterator[Wrong]:
    """Of the options, or of the value set that the question names."""
    options = item.options
    if options and not any(each == name and same(value, option) for each, option in options):
        text = f"The answer is none of the options that {_of(item)} offers"
        yield Wrong("error", "invariant", text, True)
    value_set = item.raw.get("answerValueSet")
    if isinstance(value_set, str) and name == "valueCoding" and isinstance(value, dict):
        found = around.codes.member(
            value_set, value.get("system"), str(value.get("code")), value.get("version")
        )
        if found is None:
            text = f"Whether the answer is in the value set of {_of(item)} cannot be told here"
            yield Wrong("warning", "code-invalid", text, True)
        elif not found:
            text = f"The answer is not in the value set of {_of(item)}"
            yield Wrong("error", "code-invalid", text, True)


# --- numbers and dates ---------------------------------------------------------------------------


def _bounds(item: Item, value: Any, around: Around) -> Iterator[Wrong]:
    for name, sign, word in (
        ("min_value", -1, "less than the minimum"),
        ("max_value", 1, "greater than the maximum"),
    ):
        bound = item.value(name)
        if bound is not None and _compared(value, bound) == sign:
            yield Wrong("error", "invariant", f"The answer is {word} that {_of(item)} allows")


def _compared(value: Any, bound: Any) -> int | None:
    """-1, 0 or 1; None for what cannot be compared. Dates compare as far as both are told, and one
    told more closely than its bound is beyond it."""
    numbers = isinstance(value, int | Decimal) and isinstance(bound, int | Decimal)
    texts = isinstance(value, str) and isinstance(bound, str)
    if isinstance(value, bool) or not (numbers or texts):
        return None
    return int(value > bound) - int(value < bound)


def _decimals(item: Item, value: Any, around: Around) -> Iterator[Wrong]:
    most = item.value("max_decimals")
    number = value.get("value") if isinstance(value, dict) else value
    if isinstance(most, int) and isinstance(number, Decimal):
        exponent = number.as_tuple().exponent
        if isinstance(exponent, int) and -exponent > most:
            text = f"{_of(item).capitalize()} allows {most} decimal places in its answer"
            yield Wrong("error", "invariant", text)


# --- text ----------------------------------------------------------------------------------------


def _length(item: Item, value: Any, around: Around) -> Iterator[Wrong]:
    if not isinstance(value, str):
        return
    least, most = item.value("min_length"), item.raw.get("maxLength")
    if isinstance(least, int) and len(value) < least:
        yield Wrong(
            "error", "invariant", f"An answer to {_of(item)} has {least} characters or more"
        )
    if isinstance(most, int) and len(value) > most:
        yield Wrong("error", "invariant", f"An answer to {_of(item)} has at most {most} characters")
    if item.type == "string" and ("\n" in value or "\r" in value):
        yield Wrong("warning", "invariant", f"An answer to {_of(item)} is one line of text")


# --- attachments, references, quantities ---------------------------------------------------------


def _attachment(item: Item, value: Any, around: Around) -> Iterator[Wrong]:
    most, kinds = item.value("max_size"), item.values("mime_type")
    if item.type != "attachment" or not isinstance(value, dict):
        return
    size = _size(value)
    if isinstance(most, int | Decimal) and size is not None and size > most:
        text = f"An attachment of {_of(item)} has at most {most} bytes, and this has {size}"
        yield Wrong("error", "required", text, True)
    if kinds and value.get("contentType") not in kinds:
        text = f"An attachment of {_of(item)} is one of: {', '.join(map(str, kinds))}"
        yield Wrong("error", "invariant", text)


def _size(attachment: Mapping[str, Any]) -> int | None:
    data, size = attachment.get("data"), attachment.get("size")
    if isinstance(data, str):
        try:
            return len(base64.b64decode("".join(data.split()), validate=True))
        except (binascii.Error, ValueError):
            return None  # told by the validation of its type
    return size if isinstance(size, int) else None


def _reference(item: Item, value: Any, around: Around) -> Iterator[Wrong]:
    if item.type != "reference" or not isinstance(value, dict):
        return
    type_, known = _referred(value, around.types)
    allowed = item.values("resource")
    if type_ is None:
        return
    if not known:
        yield Wrong("error", "invariant", "The reference names no resource type of FHIR R4")
    elif allowed and type_ not in allowed:
        text = f"An answer to {_of(item)} refers to one of: {', '.join(map(str, allowed))}"
        yield Wrong("error", "invariant", text)


def _referred(reference: Mapping[str, Any], types: frozenset[str]) -> tuple[str | None, bool]:
    """The type that a reference names, and whether there is such a type."""
    text = reference.get("reference")
    if not isinstance(text, str) or text.startswith(("#", "urn:")):
        type_ = reference.get("type")
        return (type_, type_ in types) if isinstance(type_, str) else (None, False)
    parts = text.partition("/_history/")[0].split("/")
    return (parts[-2], parts[-2] in types) if len(parts) > 1 else (None, False)


def _quantity(item: Item, value: Any, around: Around) -> Iterator[Wrong]:
    if item.type != "quantity" or not isinstance(value, dict):
        return
    yield from _units(item, value, around)
    for name, sign, word in (("min_quantity", -1, "minimum"), ("max_quantity", 1, "maximum")):
        bound = item.value(name)
        if not isinstance(bound, dict):
            continue
        found = _measured(value, bound, around)
        if found is None:
            text = f"The answer cannot be compared with the {word} of {_of(item)}: give both with"
            yield Wrong("error", "invariant", f"{text} a UCUM unit of one kind")
        elif found == sign:
            yield Wrong("error", "invariant", f"The answer is beyond the {word} of {_of(item)}")


def _units(item: Item, value: Mapping[str, Any], around: Around) -> Iterator[Wrong]:
    """The unit is one of those that the question offers."""
    offered = [each for each in item.values("unit") if isinstance(each, dict)]
    if offered and not any(same(value, each) for each in offered):
        text = f"The unit of the answer is none that {_of(item)} offers"
        yield Wrong("error", "invariant", text)
    value_set = item.value("unit_set")
    if isinstance(value_set, str):
        code = value.get("code")
        known = isinstance(code, str) and around.codes.member(value_set, value.get("system"), code)
        if known is False:
            text = f"The unit of the answer is not in the value set of units of {_of(item)}"
            yield Wrong("error", "invariant", text)


def _measured(value: Mapping[str, Any], bound: Mapping[str, Any], around: Around) -> int | None:
    """How two quantities compare by UCUM; None when they do not."""
    if around.units is None or not value.get("system") == bound.get("system") == UCUM:
        return None
    made = []
    for each in (value, bound):
        number, code = each.get("value"), each.get("code")
        if not isinstance(number, int | Decimal) or not isinstance(code, str):
            return None
        made.append(around.units.canonical(Decimal(number), code))
    one, other = made
    if one is None or other is None or one[1] != other[1]:
        return None
    return (one[0] > other[0]) - (one[0] < other[0])


_CHECKS: tuple[Check, ...] = (_bounds, _decimals, _length, _attachment, _reference, _quantity)
