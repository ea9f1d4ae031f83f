"""Walks the items of a QuestionnaireResponse beside those of its Questionnaire.

https://hl7.org/fhir/R4/questionnaireresponse.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from conformance.outcome import Issue
from conformance.questionnaires.answers import Around, Codes, Units, wrong
from conformance.questionnaires.enabling import Answers, is_enabled
from conformance.questionnaires.form import DEPTH, Form, Item, form

__all__ = ["Codes", "check", "named"]

_ROOT = "QuestionnaireResponse"
_UNFINISHED = frozenset({"in-progress", "stopped", "entered-in-error"})

Resource = Mapping[str, Any]


def named(response: Resource, find: Callable[[str], Resource | None]) -> Resource | Issue:
    """The Questionnaire that a response names: contained in it, or found by its canonical url. An
    Issue says why there is none."""
    canonical = response.get("questionnaire")
    if not isinstance(canonical, str) or not canonical:
        text = "The response names no questionnaire, so its answers were not checked"
        return Issue("information", "required", text, f"{_ROOT}.questionnaire")
    if canonical.startswith("#"):
        inside = (each for each in response.get("contained", ()) if isinstance(each, dict))
        found = next((each for each in inside if each.get("id") == canonical[1:]), None)
    else:
        found = find(canonical)  # type: ignore[assignment]
    if found is None or found.get("resourceType") != "Questionnaire":
        text = "The questionnaire is not known here, so the answers were not checked against it"
        return Issue("warning", "not-found", text, f"{_ROOT}.questionnaire")
    return found


def check(
    response: Resource,
    questionnaire: Resource,
    codes: Codes,
    units: Units | None,
    types: frozenset[str],
    limit: int = 100,
) -> list[Issue]:
    """What is wrong with the answers of a response, at most `limit` issues. `types`: the resource
    types of R4. Answers that lack are told only of a response that is completed."""
    checked = _Check(form(questionnaire), response, Around(codes, units, types))
    return list(islice(checked.issues(questionnaire), limit))


class _Check:
    def __init__(self, asked: Form, response: Resource, around: Around) -> None:
        self._form = asked
        self._response = response
        self._around = around
        self._finished = response.get("status") not in _UNFINISHED
        self._answers: Answers = _collected(response)

    def issues(self, questionnaire: Resource) -> Iterator[Issue]:
        yield from self._in_time(questionnaire)
        yield from self._items(self._response, self._form.items, None, _ROOT, 0)

    def _in_time(self, questionnaire: Resource) -> Iterator[Issue]:
        """Authored while the questionnaire was to be used."""
        authored, period = self._response.get("authored"), questionnaire.get("effectivePeriod")
        if not isinstance(authored, str) or not isinstance(period, dict):
            return
        start, end = period.get("start"), period.get("end")
        early = isinstance(start, str) and authored[: len(start)] < start
        late = isinstance(end, str) and authored[: len(end)] > end
        if early or late:
            text = "The response was authored outside the period in which the form is effective"
            yield Issue("warning", "business-rule", text, f"{_ROOT}.authored")

    # --- items -------------------------------------------------------------------------------

    def _items(
        self, holder: Resource, asked: Sequence[Item], parent: str | None, path: str, depth: int
    ) -> Iterator[Issue]:
        """The items of a response, a group or an answer, beside those that are asked there."""
        found: dict[str, list[tuple[str, Resource]]] = {}
        place = 0
        for at, item in _numbered(holder.get("item"), f"{path}.item"):
            link = item.get("linkId")
            known = self._form.by_link.get(link) if isinstance(link, str) else None
            if known is None:
                text = "The questionnaire has no item of this linkId"
                yield Issue("error", "not-found", text, f"{at}.linkId")
            elif known.parent != parent:
                text = f"The item `{known.link}` belongs elsewhere, as the questionnaire has it"
                yield Issue("error", "structure", text, at)
            else:
                if known.place < place:
                    text = f"The item `{known.link}` stands behind one that follows it in the form"
                    yield Issue("error", "structure", text, at)
                place = known.place
                found.setdefault(known.link, []).append((at, item))
        for known in asked:
            yield from self._asked(known, found.get(known.link, []), path, depth)

    def _asked(
        self, known: Item, given: list[tuple[str, Resource]], path: str, depth: int
    ) -> Iterator[Issue]:
        """One item of the form, and the items that answer it."""
        if known.type == "display":
            yield from _spoken(known, given)
            return
        if not is_enabled(known, self._answers):
            for at, _ in given:
                text = f"The item `{known.link}` is not enabled by the other answers"
                yield Issue("error", "invariant", text, at)
            return
        if not given:
            if known.required and self._finished:
                yield _unanswered(known, path)
            return
        if len(given) > 1 and (known.type != "group" or not known.repeats):
            text = f"The item `{known.link}` may be there once"
            yield Issue("error", "invalid", text, given[1][0])
        for at, item in given:
            one = self._group if known.type == "group" else self._question
            yield from one(known, at, item, depth)

    def _group(self, known: Item, at: str, item: Resource, depth: int) -> Iterator[Issue]:
        if item.get("answer"):
            text = f"The item `{known.link}` is a group, which has items and no answers"
            yield Issue("error", "structure", text, at)
        if known.required and self._finished and not item.get("item"):
            text = f"The group `{known.link}` is required, and has no items here"
            yield Issue("error", "invariant", text, at)
            return
        if depth < DEPTH:
            yield from self._items(item, known.items, known.link, at, depth + 1)

    def _question(self, known: Item, at: str, item: Resource, depth: int) -> Iterator[Issue]:
        if item.get("item"):
            text = f"The items below the question `{known.link}` belong into its answer"
            yield Issue("error", "structure", text, at)
        answers = list(_numbered(item.get("answer"), f"{at}.answer"))
        yield from self._counted(known, at, len(answers))
        for place, answer in answers:
            for name, value in answer.items():
                if name.startswith("value"):
                    for each in wrong(known, name, value, self._around):
                        where = place if each.whole else f"{place}.value"
                        yield Issue(each.severity, each.code, each.text, where)
            if depth < DEPTH:
                yield from self._items(answer, known.items, known.link, place, depth + 1)

    def _counted(self, known: Item, at: str, count: int) -> Iterator[Issue]:
        least, most = known.value("min_occurs"), known.value("max_occurs")
        if count == 0 and known.required and self._finished:
            yield _unanswered(known, at)
        if isinstance(least, int) and count < least and self._finished:
            text = f"The item `{known.link}` has {least} answers or more"
            yield Issue("error", "invalid", text, at)
        if not known.repeats and count > 1:
            text = f"The item `{known.link}` has one answer, since it does not repeat"
            yield Issue("error", "invalid", text, at)
        elif isinstance(most, int) and count > most:
            text = f"The item `{known.link}` has at most {most} answers"
            yield Issue("error", "invalid", text, at)


def _unanswered(known: Item, path: str) -> Issue:
    text = f"The item `{known.link}` is required, and is not answered"
    return Issue("error", "required", text, path)


def _spoken(known: Item, given: list[tuple[str, Resource]]) -> Iterator[Issue]:
    """An item that only tells something."""
    for at, item in given:
        if item.get("answer") or item.get("item"):
            text = f"The item `{known.link}` only displays text: it has no answer and no items"
            yield Issue("error", "structure", text, at)


def _numbered(found: Any, path: str) -> Iterator[tuple[str, Resource]]:
    if isinstance(found, list):
        for index, each in enumerate(found):
            if isinstance(each, dict):
                yield f"{path}[{index}]", each


def _collected(response: Resource) -> Answers:
    """All answers by linkId, for the conditions that look at them."""
    found: dict[str, list[tuple[str, Any]]] = {}
    waiting: list[Any] = [response]
    while waiting:
        holder = waiting.pop()
        for item in holder.get("item") or ():
            if not isinstance(item, dict):
                continue
            waiting.append(item)
            for answer in item.get("answer") or ():
                if isinstance(answer, dict):
                    waiting.append(answer)
                    values = [(n, v) for n, v in answer.items() if n.startswith("value")]
                    found.setdefault(str(item.get("linkId")), []).extend(values)
    return found
