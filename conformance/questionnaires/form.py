"""A Questionnaire as a response is held against it: its items by linkId, with their constraints.

https://hl7.org/fhir/R4/questionnaire.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_HL7 = "http://hl7.org/fhir/StructureDefinition/"
_SDC = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-"

# What extensions say of an item, by the name that the checks know it by.
_EXTENSIONS: Mapping[str, str] = {
    f"{_HL7}questionnaire-minOccurs": "min_occurs",
    f"{_HL7}questionnaire-maxOccurs": "max_occurs",
    f"{_HL7}minValue": "min_value",
    f"{_HL7}maxValue": "max_value",
    f"{_HL7}minLength": "min_length",
    f"{_HL7}maxDecimalPlaces": "max_decimals",
    f"{_HL7}maxSize": "max_size",
    f"{_HL7}mimeType": "mime_type",
    f"{_HL7}regex": "regex",
    f"{_HL7}questionnaire-referenceResource": "resource",
    f"{_HL7}questionnaire-unitOption": "unit",
    f"{_HL7}questionnaire-unitValueSet": "unit_set",
    f"{_SDC}minQuantity": "min_quantity",
    f"{_SDC}maxQuantity": "max_quantity",
}
_NO_VALUES: tuple[Any, ...] = ()
DEPTH = 100  # levels of items


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a Questionnaire. `parent` is the linkId of the item around it, `place` its place
    among its siblings."""

    link: str
    type: str
    parent: str | None
    place: int
    raw: Mapping[str, Any]
    items: tuple[Item, ...]
    said: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def required(self) -> bool:
        return self.raw.get("required") is True

    @property
    def repeats(self) -> bool:
        return self.raw.get("repeats") is True

    @property
    def options(self) -> tuple[tuple[str, Any], ...]:
        """The permitted answers, each with the name of its property."""
        return tuple(
            (name, value)
            for option in _objects(self.raw.get("answerOption"))
            for name, value in option.items()
            if name.startswith("value")
        )

    def values(self, name: str) -> tuple[Any, ...]:
        """What the extensions of a name say."""
        return self.said.get(name, _NO_VALUES)

    def value(self, name: str) -> Any:
        """What the extension of a name says; None where there is none."""
        return next(iter(self.values(name)), None)


@dataclass(frozen=True, slots=True)
class Form:
    """A Questionnaire: its items at the top, and all of them by linkId."""

    items: tuple[Item, ...]
    by_link: Mapping[str, Item]


def form(questionnaire: Mapping[str, Any]) -> Form:
    """The form of a Questionnaire. What is malformed in it is passed over: the Questionnaire itself
    is validated elsewhere."""
    by_link: dict[str, Item] = {}
    items = tuple(_items(questionnaire.get("item"), None, by_link, 0))
    return Form(items, by_link)


def _items(found: Any, parent: str | None, by_link: dict[str, Item], depth: int) -> Iterator[Item]:
    if depth >= DEPTH:
        return
    for place, raw in enumerate(_objects(found)):
        link = raw.get("linkId")
        if not isinstance(link, str):
            continue
        inner = tuple(_items(raw.get("item"), link, by_link, depth + 1))
        item = Item(link, str(raw.get("type")), parent, place, raw, inner, _said(raw))
        by_link.setdefault(link, item)
        yield item


def _said(raw: Mapping[str, Any]) -> Mapping[str, tuple[Any, ...]]:
    said: dict[str, list[Any]] = {}
    for extension in _objects(raw.get("extension")):
        name = _EXTENSIONS.get(str(extension.get("url")))
        values = [value for key, value in extension.items() if key.startswith("value")]
        if name is not None and values:
            said.setdefault(name, []).extend(values)
    return {name: tuple(values) for name, values in said.items()}


def _objects(found: Any) -> Sequence[Mapping[str, Any]]:
    """The objects of an array that should hold nothing else."""
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
