"""A Questionnaire as a response is held against it: its items by linkId, with their constraints.

https://hl7.org/fhir/R4/questionnaire.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from conformance.questionnaires.values import Key, coded, key, objects, text, values

_HL7 = "http://hl7.org/fhir/StructureDefinition/"
_SDC = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-"
_EXCLUSIVE = f"{_HL7}questionnaire-optionExclusive"

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
    f"{_SDC}enableWhenExpression": "enabled_by",
}
DEPTH = 40  # levels of items and answers


class Condition(NamedTuple):
    """One enableWhen: the question by its linkId, the operator, the answer with its type."""

    question: str
    operator: str
    kind: str
    answer: Any


class Offered(NamedTuple):
    """The answers that a question offers: of which types, which, and those that stand alone."""

    kinds: tuple[str, ...]
    keys: frozenset[tuple[str, Key]]
    alone: frozenset[tuple[str, Key]]


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a Questionnaire, or the Questionnaire itself, whose linkId is empty. `parent` is
    the linkId of the item around it, `place` its place among its siblings; `required` and `repeats`
    as it says; `needed`: the items within that must be there."""

    link: str
    type: str
    parent: str
    place: int
    items: tuple[Item, ...]
    needed: tuple[Item, ...]
    required: bool
    repeats: bool
    max_length: int | None
    value_set: str | None
    offered: Offered | None
    units: frozenset[Key]
    conditions: tuple[Condition, ...]
    behavior: str | None
    said: Mapping[str, tuple[Any, ...]]

    def texts(self, name: str) -> tuple[str, ...]:
        """What the extensions of a name say, once each."""
        return tuple(dict.fromkeys(v for v in self.said.get(name, ()) if isinstance(v, str)))

    def value(self, name: str) -> Any:
        """What the extension of a name says; None where there is none."""
        return next(iter(self.said.get(name, ())), None)

    def whole(self, name: str) -> int | None:
        """The same of a number that is whole."""
        found = self.value(name)
        return found if type(found) is int else None


class Form(NamedTuple):
    """A Questionnaire: its items as a tree, and all of them by linkId."""

    root: Item
    by_link: Mapping[str, Item]


def form(questionnaire: Mapping[str, Any]) -> Form:
    """The form of a Questionnaire. What is malformed in it is passed over: the Questionnaire itself
    is validated elsewhere."""
    by_link: dict[str, Item] = {}
    items = tuple(_items(questionnaire.get("item"), "", by_link, 0))
    return Form(_item({"type": "group"}, "", "", 0, items), by_link)


def _items(found: Any, parent: str, by_link: dict[str, Item], depth: int) -> Iterator[Item]:
    if depth >= DEPTH:
        return
    for place, raw in enumerate(objects(found)):
        link = raw.get("linkId")
        if not isinstance(link, str) or not link:
            continue
        inner = tuple(_items(raw.get("item"), link, by_link, depth + 1))
        item = _item(raw, link, parent, place, inner)
        if by_link.setdefault(link, item) is item:
            yield item


def _item(
    raw: Mapping[str, Any], link: str, parent: str, place: int, items: tuple[Item, ...]
) -> Item:
    said = _said(raw)
    most = raw.get("maxLength")
    return Item(
        link,
        str(raw.get("type")),
        parent,
        place,
        items,
        tuple(each for each in items if each.required and each.type != "display"),
        raw.get("required") is True,
        raw.get("repeats") is True,
        most if type(most) is int else None,
        text(raw.get("answerValueSet")),
        _offered(raw),
        frozenset(coded(each) for each in said.get("unit", ()) if isinstance(each, dict)),
        tuple(_conditions(raw)),
        text(raw.get("enableBehavior")),
        said,
    )


def _offered(raw: Mapping[str, Any]) -> Offered | None:
    """None for a question without options."""
    kinds: dict[str, None] = {}
    keys, alone = set(), set()
    for option in objects(raw.get("answerOption")):
        for kind, value in values(option):
            kinds[kind] = None
            keys.add((kind, key(kind, value)))
            extensions = objects(option.get("extension"))
            if any(
                e.get("url") == _EXCLUSIVE and e.get("valueBoolean") is True for e in extensions
            ):
                alone.add((kind, key(kind, value)))
    return Offered(tuple(kinds), frozenset(keys), frozenset(alone)) if keys else None


def _conditions(raw: Mapping[str, Any]) -> Iterator[Condition]:
    for each in objects(raw.get("enableWhen")):
        question, operator = each.get("question"), each.get("operator")
        kind, answer = next(iter(values(each, "answer")), ("", None))
        yield Condition(str(question), str(operator), kind, answer)


def _said(raw: Mapping[str, Any]) -> Mapping[str, tuple[Any, ...]]:
    said: dict[str, list[Any]] = {}
    for extension in objects(raw.get("extension")):
        name = _EXTENSIONS.get(str(extension.get("url")))
        found = [value for _, value in values(extension)]
        if name is not None and found:
            said.setdefault(name, []).extend(found)
    return {name: tuple(found) for name, found in said.items()}
