"""String parameters: text compared from its start, without case and accents.

https://hl7.org/fhir/R4/search.html#string
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from fhir_server.search.context import Modifiers, SearchContext, malformed
from fhir_server.search.limit import bounded
from fhir_server.search.literals import TEXT, fold, unescape
from fhir_server.search.parameters import Parameter
from fhir_server.search.place import Add, Factory, Place, Writer
from fhir_server.search.ranges import any_of
from fhir_server.storage.store import Condition, Entry, Match, Operator, Query


def text_entry(param: str, text: str) -> Entry | None:
    """An entry of one piece of text; none for what is blank when folded."""
    folded = fold(text)
    return Entry("text", param, None, text[:TEXT], folded) if folded else None


@lru_cache(maxsize=16_384)
def said(param: str, text: str) -> Entry | None:
    """An entry of what a code is called: these recur in resource after resource. No search asks
    for their original spelling."""
    folded = fold(text)
    return Entry("text", param, None, None, folded) if folded else None


def add_text(param: str, text: object, add: Add) -> None:
    """An entry of one piece of text, where there is some."""
    if isinstance(text, str) and (entry := text_entry(param, text)):
        add(entry)


def _text(param: str, _: Place) -> Writer:
    return lambda value, add: add_text(param, value, add)


def _several(parts: Callable[[dict[str, Any]], Sequence[object]]) -> Factory:
    def factory(param: str, _: Place) -> Writer:
        def write(value: Any, add: Add) -> None:
            for each in bounded(parts(value), param):
                add_text(param, each, add)

        return write

    return factory


def _name_parts(name: dict[str, Any]) -> list[object]:
    """Each part of a HumanName, and the whole: its text, or given names and family."""
    given = name.get("given") or []
    family = name.get("family")
    parts = [family, *given, *(name.get("prefix") or []), *(name.get("suffix") or [])]
    whole = name.get("text")
    return [*parts, whole if whole else _joined([*given, family])]


def _address_parts(address: dict[str, Any]) -> list[object]:
    """Each part of an Address, and the whole: its text, or the parts in one line."""
    lines = address.get("line") or []
    named = [address.get(each) for each in ("city", "district", "state", "postalCode", "country")]
    whole = address.get("text")
    return [*lines, *named, whole if whole else _joined([*lines, *named])]


def _joined(parts: Sequence[object]) -> str | None:
    words = [each for each in parts if isinstance(each, str)]
    return " ".join(words) if len(words) > 1 else None


WRITERS: Mapping[str, Factory] = {
    "string": _text,
    "markdown": _text,
    "code": _text,
    "id": _text,
    "uri": _text,
    "HumanName": _several(_name_parts),
    "Address": _several(_address_parts),
}


def text_query(operator: Operator) -> Callable[[Parameter, Sequence[str], SearchContext], Query]:
    """Folded text that begins with (prefix) or holds (contains) some value."""

    def query(parameter: Parameter, values: Sequence[str], _: SearchContext) -> Query:
        folded = [fold(unescape(each)) for each in values]
        if not all(folded):
            raise malformed(f"`{parameter.code}` of {parameter.type} needs some text")
        return any_of(
            [
                Match(key, "text", (Condition("text", operator, each),))
                for key in parameter.keys
                for each in dict.fromkeys(folded)
            ]
        )

    return query


def _exactly(parameter: Parameter, values: Sequence[str], _: SearchContext) -> Query:
    asked = {unescape(each)[:TEXT] for each in values}
    test = (
        Condition("code", "in", frozenset(asked))
        if len(asked) > 1
        else Condition("code", "eq", asked.pop())
    )
    return any_of([Match(key, "text", (test,)) for key in parameter.keys])


MODIFIERS: Modifiers = {
    None: text_query("prefix"),
    "contains": text_query("contains"),
    "exact": _exactly,
}
