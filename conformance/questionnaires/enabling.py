"""Whether an item of a Questionnaire is enabled by the answers of a response.

https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.enableWhen
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from conformance.questionnaires.form import Condition, Item
from conformance.questionnaires.given import Given, Response
from conformance.questionnaires.values import Units, compared, key

_ORDERED: Mapping[str, Callable[[int, int], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


def is_enabled(
    item: Item, response: Response, within: Sequence[Given], place: int, units: Units | None
) -> bool | None:
    """Whether the conditions of an item hold, which is or would be at a place within these parts
    of the response. None where that cannot be told, or is read in two ways."""
    if item.value("enabled_by") is not None:
        return None  # by an expression, which may ask for more than is at hand here
    if not item.conditions:
        return True
    held = []
    for condition in item.conditions:
        found = response.nearest(condition.question, within, place)
        held.append(_holds(condition, found.values if found is not None else [], units))
    every = False if False in held else None if None in held else True
    some = True if True in held else None if None in held else False
    if item.behavior in ("all", "any"):
        return every if item.behavior == "all" else some
    return every if every is some else None


def _holds(
    condition: Condition, given: Sequence[tuple[str, Any]], units: Units | None
) -> bool | None:
    asked, wanted = condition.operator, condition.answer
    if asked == "exists":
        return bool(given) is wanted if isinstance(wanted, bool) else None
    if asked in ("=", "!="):
        key_ = key(condition.kind, wanted)
        is_one = any(key(kind, value) == key_ for kind, value in given)
        # Whether what is not answered differs from an answer is read in both ways.
        return is_one if asked == "=" else not is_one if given else None
    compare = _ORDERED.get(asked)
    if compare is None:
        return None
    signs = [compared(value, wanted, units) for _, value in given]
    if any(sign is not None and compare(sign, 0) for sign in signs):
        return True
    return None if None in signs else False
