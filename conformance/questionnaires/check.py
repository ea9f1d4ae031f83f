"""Walks the items of a QuestionnaireResponse beside those of its Questionnaire.

https://hl7.org/fhir/R4/questionnaireresponse.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from conformance.outcome import Issue
from conformance.questionnaires.answers import Around, stand_alone, wrong
from conformance.questionnaires.budget import Budget, TooMuch
from conformance.questionnaires.enabling import is_enabled
from conformance.questionnaires.form import Form, Item, form
from conformance.questionnaires.given import Given, Response
from conformance.questionnaires.sets import Codes, ValueSets
from conformance.questionnaires.values import Units, compared, objects, text, values

__all__ = ["check", "named"]

_ROOT = "QuestionnaireResponse"
_UNFINISHED = ("in-progress", "stopped", "entered-in-error")

Resource = Mapping[str, Any]


def named(response: Resource, find: Callable[[str], Resource | None]) -> Resource | Issue:
    """The Questionnaire that a response names: contained in it, or found by its canonical url. An
    Issue says why there is none."""
    canonical = response.get("questionnaire")
    if not isinstance(canonical, str) or not canonical:
        told = "The response names no questionnaire, so its answers were not checked"
        return Issue("information", "required", told, f"{_ROOT}.questionnaire")
    if canonical.startswith("#"):
        inside = objects(response.get("contained"))
        found = next((each for each in inside if each.get("id") == canonical[1:]), None)
    else:
        found = find(canonical)
    if found is None or found.get("resourceType") != "Questionnaire":
        told = "The questionnaire is not known here, so the answers were not checked against it"
        return Issue("warning", "not-found", told, f"{_ROOT}.questionnaire")
    return found


def check(
    response: Resource,
    questionnaire: Resource,
    codes: Codes,
    units: Units | None,
    types: frozenset[str],
    limit: int = 100,
    asked: Form | None = None,
    budget: Budget | None = None,
) -> list[Issue]:
    """What is wrong with the answers of a response, at most `limit` issues. `types`: the resource
    types of R4; `asked`: the form of the questionnaire, where it was made before; `budget`: where
    several responses share one. Answers that lack are told only of a response that is completed."""
    budget = budget or Budget()
    # What a contained questionnaire refers to is contained beside it.
    inside = objects(response.get("contained"))
    beside = any(each is questionnaire for each in inside)
    sets = ValueSets(codes, inside if beside else questionnaire.get("contained"), budget)
    checked = _Check(asked or form(questionnaire), response, Around(sets, units, types, budget))
    return list(islice(checked.issues(questionnaire), limit))


class _Check:
    def __init__(self, asked: Form, response: Resource, around: Around) -> None:
        self._form = asked
        self._raw = response
        self._response = Response(response)
        self._around = around
        self._budget = around.budget
        self._finished = response.get("status") not in _UNFINISHED

    def issues(self, questionnaire: Resource) -> Iterator[Issue]:
        yield from _in_use(questionnaire)
        yield from _in_time(self._raw, questionnaire)
        yield from self._subject(questionnaire)
        root = self._response.root
        try:
            yield from self._items(self._form.root, root, (root,))
        except TooMuch:
            told = "The response asks too much of its questionnaire to be checked to the end"
            yield Issue("warning", "too-costly", told, _ROOT)

    def _subject(self, questionnaire: Resource) -> Iterator[Issue]:
        """Of a type that the questionnaire is about."""
        allowed, subject = questionnaire.get("subjectType"), self._raw.get("subject")
        literal = subject.get("reference") if isinstance(subject, dict) else None
        if not isinstance(allowed, list) or not allowed or not isinstance(literal, str):
            return
        type_ = literal.partition("/_history/")[0].split("/")[-2:-1]
        if type_ and type_[0] in self._around.types and type_[0] not in allowed:
            told = "The questionnaire is not about subjects of this type"
            yield Issue("error", "business-rule", told, f"{_ROOT}.subject")

    # --- items -------------------------------------------------------------------------------

    def _items(self, asked: Item, holder: Given, within: tuple[Given, ...]) -> Iterator[Issue]:
        """The items of a response, a group or an answer, beside those that are asked there."""
        found: dict[int, list[Given]] = {each.place: [] for each in asked.needed}
        known_by = {each.place: each for each in asked.needed}
        self._budget.spend(1 + len(found))
        place = 0
        for item in holder.items:
            self._budget.spend()
            known = self._form.by_link.get(item.link) if item.link is not None else None
            if item.link is None:
                continue  # told by the validation of its type
            if known is None:
                told = "The questionnaire has no item of this linkId"
                yield Issue("error", "not-found", told, f"{item.at}.linkId")
            elif known.parent != asked.link:
                told = f"The item `{known.link}` belongs elsewhere, as the questionnaire has it"
                yield Issue("error", "structure", told, item.at)
            else:
                if known.place < place:
                    told = f"The item `{known.link}` stands behind one that follows it in the form"
                    yield Issue("error", "structure", told, item.at)
                place = known.place
                known_by[place] = known
                found.setdefault(place, []).append(item)
        before = holder.start
        for place in sorted(found):
            given = found[place]
            yield from self._asked(known_by[place], given, holder, before, within)
            before = max([before, *(each.end for each in given)])

    def _asked(
        self,
        known: Item,
        given: Sequence[Given],
        holder: Given,
        before: int,
        within: tuple[Given, ...],
    ) -> Iterator[Issue]:
        """One item of the form, and the items that answer it; without any, it would stand behind
        what is `before`."""
        if known.type == "display":
            yield from _spoken(known, given)
            return
        self._budget.spend(len(known.conditions))
        place = given[0].start if given else before + 1
        enabled = is_enabled(known, self._response, within, place, self._around.units)
        if enabled is False:
            for item in given:
                if item.is_answered:
                    told = f"The item `{known.link}` is not enabled by the other answers"
                    yield Issue("error", "invariant", told, item.at)
            return
        if not given:
            if known.required and self._finished and enabled:
                yield _unanswered(known, holder.at)
            return
        if known.type == "group":
            yield from self._counted(known, given[0].at, len(given), "times")
        elif len(given) > 1:
            told = f"The question `{known.link}` may be there once, with all of its answers"
            yield Issue("error", "invalid", told, given[1].at)
        one = self._group if known.type == "group" else self._question
        for item in given:
            yield from one(known, item, (*within, item))

    def _group(self, known: Item, item: Given, within: tuple[Given, ...]) -> Iterator[Issue]:
        if item.answers:
            told = f"The item `{known.link}` is a group, which has items and no answers"
            yield Issue("error", "structure", told, item.at)
        if known.required and self._finished and not item.items:
            told = f"The group `{known.link}` is required, and has no items here"
            yield Issue("error", "invariant", told, item.at)
            return
        yield from self._items(known, item, within)

    def _question(self, known: Item, item: Given, within: tuple[Given, ...]) -> Iterator[Issue]:
        if item.items:
            told = f"The items below the question `{known.link}` belong into its answer"
            yield Issue("error", "structure", told, item.at)
        if known.required and self._finished and not item.count:
            yield _unanswered(known, item.at)
        else:
            yield from self._counted(known, item.at, len(item.answers), "answers")
        if len(item.answers) > 1 and stand_alone(known, (each.raw for each in item.answers)):
            told = f"An answer to the item `{known.link}` excludes all others, and is not alone"
            yield Issue("error", "invariant", told, item.at)
        for answer in item.answers:
            for kind, value in values(answer.raw):
                for each in wrong(known, kind, value, self._around):
                    where = answer.at if each.whole else f"{answer.at}.value"
                    yield Issue(each.severity, each.code, each.text, where)
            if known.items or answer.items:
                yield from self._items(known, answer, (*within, answer))

    def _counted(self, known: Item, at: str, count: int, of: str) -> Iterator[Issue]:
        """The repetitions of a group, or the answers to a question."""
        least, most = known.whole("min_occurs"), known.whole("max_occurs")
        if least is not None and count < least and self._finished:
            told = f"The item `{known.link}` demands {least} {of} or more"
            yield Issue("error", "invalid", told, at)
        if not known.repeats and count > 1:
            told = f"The item `{known.link}` does not repeat, and is given more than once"
            yield Issue("error", "invalid", told, at)
        elif most is not None and count > most:
            told = f"The item `{known.link}` allows {most} {of} at most"
            yield Issue("error", "invalid", told, at)


def _in_use(questionnaire: Resource) -> Iterator[Issue]:
    """A draft is not yet to be answered, what is retired no more; both happens."""
    status = text(questionnaire.get("status"))
    if status in ("draft", "retired"):
        told = f"The questionnaire has the status {status}: it is not meant for actual use"
        yield Issue("information", "business-rule", told, f"{_ROOT}.questionnaire")


def _in_time(response: Resource, questionnaire: Resource) -> Iterator[Issue]:
    """Authored while the questionnaire was to be used."""
    authored, period = response.get("authored"), questionnaire.get("effectivePeriod")
    if not isinstance(authored, str) or not isinstance(period, dict):
        return
    if _apart(authored, period.get("start")) == -1 or _apart(authored, period.get("end")) == 1:
        told = "The response was authored outside the period in which the form is effective"
        yield Issue("warning", "business-rule", told, f"{_ROOT}.authored")


def _apart(moment: str, bound: Any) -> int | None:
    """Whether a time is before or after another; 0 where one is within the other."""
    if not isinstance(bound, str):
        return None
    if moment[: len(bound)] == bound or bound[: len(moment)] == moment:
        return 0
    return compared(moment, bound, None)


def _unanswered(known: Item, at: str) -> Issue:
    told = f"The item `{known.link}` is required, and is not answered"
    return Issue("error", "required", told, at)


def _spoken(known: Item, given: Sequence[Given]) -> Iterator[Issue]:
    """An item that only tells something."""
    for item in given:
        if item.answers or item.items:
            told = f"The item `{known.link}` only displays text: it has no answer and no items"
            yield Issue("error", "structure", told, item.at)
