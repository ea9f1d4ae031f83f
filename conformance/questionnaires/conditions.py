"""The conditions of a Questionnaire: each asks for a question that there is, with an answer that
this can have.

https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.enableWhen
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from conformance.outcome import Issue
from conformance.questionnaires.form import DEPTH
from conformance.questionnaires.values import values

_SDC = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-"
# A Questionnaire that is a part of another, or has parts elsewhere: what it asks for may be there.
_PARTS = frozenset({f"{_SDC}assemble-expectation", f"{_SDC}subQuestionnaire"})
_NUMBER = frozenset({"Integer", "Decimal"})
_MOMENT = frozenset({"Date", "DateTime"})
_TEXT = frozenset({"String"})
_OPTION = frozenset({"Integer", "Date", "Time", "String", "Coding", "Reference"})
# The types of answer[x] that the answer to a question can equal, by the type of the question.
_ANSWERED: Mapping[str, frozenset[str]] = {
    "group": frozenset(),
    "display": frozenset(),
    "attachment": frozenset(),
    "boolean": frozenset({"Boolean"}),
    "decimal": _NUMBER,
    "integer": _NUMBER,
    "date": _MOMENT,
    "dateTime": _MOMENT,
    "time": frozenset({"Time"}),
    "string": _TEXT,
    "text": _TEXT,
    "url": _TEXT,
    "choice": _OPTION,
    "open-choice": _OPTION,
    "reference": frozenset({"Reference"}),
    "quantity": frozenset({"Quantity"}),
}


def conditions(questionnaire: Mapping[str, Any]) -> Iterator[Issue]:
    """What is wrong with the conditions under which the items are enabled. What is malformed is
    passed over: that is told by the validation of its type."""
    items = list(_items(questionnaire.get("item"), "Questionnaire", 0))
    types: dict[str, Any] = {}
    for _, item in items:
        if isinstance(link := item.get("linkId"), str):
            types.setdefault(link, item.get("type"))
    whole = not any(_is_part(each) for each in (questionnaire, *(item for _, item in items)))
    for at, item in items:
        for place, condition in _numbered(item.get("enableWhen")):
            question = condition.get("question")
            if not isinstance(question, str):
                continue
            here = f"{at}.enableWhen[{place}]"
            if question == item.get("linkId"):
                text = "An item cannot be enabled by its own answer: name another question"
                yield Issue("error", "invalid", text, f"{here}.question")
            elif question in types:
                yield from _comparable(condition, types[question], here)
            elif whole:
                text = "No item has the linkId that the condition asks for"
                yield Issue("error", "not-found", text, f"{here}.question")


def _comparable(condition: Mapping[str, Any], type_: Any, at: str) -> Iterator[Issue]:
    """An answer of another type never equals that of the question."""
    allowed = _ANSWERED.get(type_) if isinstance(type_, str) else None
    if allowed is None or condition.get("operator") == "exists":
        return
    for kind, _ in values(condition, "answer"):
        if kind[:1].upper() + kind[1:] not in allowed:
            text = f"A question of type {type_} has no answer of this type"
            yield Issue("warning", "value", text, f"{at}.answer")


def _items(found: Any, at: str, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All items with their places, those within others too."""
    if depth >= DEPTH:
        return
    for place, item in _numbered(found):
        here = f"{at}.item[{place}]"
        yield here, item
        yield from _items(item.get("item"), here, depth + 1)


def _numbered(found: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for place, each in enumerate(found if isinstance(found, list) else ()):
        if isinstance(each, dict):
            yield place, each


def _is_part(value: Mapping[str, Any]) -> bool:
    return any(each.get("url") in _PARTS for _, each in _numbered(value.get("extension")))
