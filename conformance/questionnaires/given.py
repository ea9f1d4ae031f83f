"""A QuestionnaireResponse as a tree of what was given, in the order of the document.

https://hl7.org/fhir/R4/questionnaireresponse.html
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from conformance.questionnaires.form import DEPTH
from conformance.questionnaires.values import text, values


@dataclass(frozen=True, slots=True)
class Given:
    """An item, an answer, or the response itself. `start` and `end` are places in the document:
    what is within lies between them. `link` is the linkId of an item."""

    at: str
    link: str | None
    raw: Mapping[str, Any]
    start: int
    end: int
    items: tuple[Given, ...]
    answers: tuple[Given, ...]

    @property
    def values(self) -> list[tuple[str, Any]]:
        """The values of the answers to an item, with their types."""
        return [value for each in self.answers for value in values(each.raw)]

    @property
    def is_answered(self) -> bool:
        """Whether anything is answered here or within."""
        return any(True for each in self.answers if _has_value(each.raw) or each.is_answered) or (
            any(each.is_answered for each in self.items)
        )

    @property
    def count(self) -> int:
        """The answers of an item that have a value, or tell by an extension why they have none."""
        return sum(1 for each in self.answers if _has_value(each.raw))


class Response:
    """All that was given, and each item by its linkId."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        places = count()
        self._by_link: dict[str, list[Given]] = {}
        self._starts: dict[str, list[int]] = {}
        self.root = self._given(raw, "QuestionnaireResponse", places, 0, False)
        for link, found in self._by_link.items():
            found.sort(key=lambda each: each.start)
            self._starts[link] = [each.start for each in found]

    def nearest(self, link: str, within: Sequence[Given], place: int) -> Given | None:
        """The item of a linkId that is nearest to a place: in the smallest part around that has
        any, the last one before it, or else the first behind it."""
        starts = self._starts.get(link)
        if starts is None:
            return None
        for part in reversed(within):
            low, high = bisect_left(starts, part.start), bisect_left(starts, part.end)
            if low < high:
                next_ = bisect_left(starts, place, low, high)
                return self._by_link[link][max(next_ - 1, low)]
        return None

    def _given(
        self, raw: Mapping[str, Any], at: str, places: Iterator[int], depth: int, is_item: bool
    ) -> Given:
        start = next(places)
        answers: tuple[Given, ...] = ()
        items: tuple[Given, ...] = ()
        if depth < DEPTH:
            if is_item:
                answers = self._inner(raw, "answer", at, places, depth)
            items = self._inner(raw, "item", at, places, depth)
        link = text(raw.get("linkId")) if is_item else None
        made = Given(at, link, raw, start, next(places), items, answers)
        if link is not None:
            self._by_link.setdefault(link, []).append(made)
        return made

    def _inner(
        self, raw: Mapping[str, Any], name: str, at: str, places: Iterator[int], depth: int
    ) -> tuple[Given, ...]:
        found = raw.get(name)
        return tuple(
            self._given(each, f"{at}.{name}[{index}]", places, depth + 1, name == "item")
            for index, each in enumerate(found if isinstance(found, list) else ())
            if isinstance(each, dict)
        )


def _has_value(answer: Mapping[str, Any]) -> bool:
    return any(name.lstrip("_").startswith("value") for name in answer)
