"""Whether an item of a Questionnaire is enabled by the answers of a response.

https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.enableWhen
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from conformance.questionnaires.form import Item

# All answers of a response, by linkId: the property's name and the value of each.
Answers = Mapping[str, Sequence[tuple[str, Any]]]

_ORDERED: Mapping[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


def is_enabled(item: Item, answers: Answers) -> bool:
    """Whether the conditions of an item hold, all or any of them as it says."""
    conditions = item.raw.get("enableWhen")
    if not isinstance(conditions, list) or not conditions:
        return True
    held = [_holds(each, answers) for each in conditions if isinstance(each, dict)]
    return any(held) if item.raw.get("enableBehavior") == "any" else all(held)


def _holds(condition: Mapping[str, Any], answers: Answers) -> bool:
    given = answers.get(str(condition.get("question")), ())
    wanted = next((v for name, v in condition.items() if name.startswith("answer")), None)
    asked = condition.get("operator")
    if asked == "exists":
        return bool(given) is (wanted is True)
    if asked == "!=":
        return bool(given) and all(not same(value, wanted) for _, value in given)
    if asked == "=":
        return any(same(value, wanted) for _, value in given)
    compare = _ORDERED.get(str(asked))
    return compare is not None and any(_ordered(compare, value, wanted) for _, value in given)


def _ordered(compare: Callable[[Any, Any], bool], value: Any, wanted: Any) -> bool:
    if isinstance(value, dict) and isinstance(wanted, dict):
        if value.get("code") != wanted.get("code") or value.get("system") != wanted.get("system"):
            return False  # of another unit
        value, wanted = value.get("value"), wanted.get("value")
    numbers = isinstance(value, int | Decimal) and isinstance(wanted, int | Decimal)
    texts = isinstance(value, str) and isinstance(wanted, str)
    return (numbers or texts) and compare(value, wanted)


def same(value: Any, wanted: Any) -> bool:
    """Whether two answers are one: codings by system and code, references by what they name."""
    if isinstance(value, dict) and isinstance(wanted, dict):
        for keys in (("system", "code"), ("reference",)):
            if keys[-1] in wanted:
                return all(value.get(key) == wanted.get(key) for key in keys)
    return type(value) is type(wanted) and bool(value == wanted)
