"""Checks that need more than the definition of a type, by the type of the resource.

https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from conformance import bundles, definitions, measures, questionnaires, structures
from conformance.outcome import Issue
from conformance.profiles.run import Resource, Session

# The expressions of the issues begin at the resource.
Check: TypeAlias = Callable[[Resource, Session], Iterable[Issue]]


def _answers(response: Resource, session: Session) -> Iterable[Issue]:
    def find(canonical: str) -> Resource | None:
        if canonical not in session.asked:
            found = session.shelf.find("Questionnaire", canonical)
            session.asked[canonical] = found, questionnaires.form(found or {})
        return session.asked[canonical][0]

    asked = questionnaires.named(response, find)
    if isinstance(asked, Issue):
        return [asked]
    types = definitions.load().types
    _, form = session.asked.get(str(response.get("questionnaire")), (None, None))
    return questionnaires.check(
        response,
        asked,
        session.codes,
        session.units,
        types,
        asked=form,
        budget=session.budget,
    )


def _conditions(questionnaire: Resource, session: Session) -> Iterable[Issue]:
    return questionnaires.conditions(questionnaire)


def _entries(bundle: Resource, session: Session) -> Iterable[Issue]:
    return bundles.check(bundle)


def _measured(report: Resource, session: Session) -> Iterable[Issue]:
    canonical = report.get("measure")
    found = session.shelf.find("Measure", canonical) if isinstance(canonical, str) else None
    if found is None:
        text = "The measure is not known here, so the report was not checked against it"
        return [Issue("warning", "not-found", text, "MeasureReport.measure")]
    return measures.check(report, found)


def _profiled(structure: Resource, session: Session) -> Iterable[Issue]:
    def find(canonical: str) -> Resource | None:
        return session.shelf.find("StructureDefinition", canonical)

    return structures.check(structure, find, definitions.load())


CHECKS: Mapping[str, Check] = {
    "Bundle": _entries,
    "MeasureReport": _measured,
    "Questionnaire": _conditions,
    "QuestionnaireResponse": _answers,
    "StructureDefinition": _profiled,
}
