"""Checks that need more than the definition of a type, by the type of the resource.

https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from conformance import bundles, definitions, questionnaires
from conformance.outcome import Issue
from conformance.profiles.run import Resource, Session

# The expressions of the issues begin at the resource.
Check: TypeAlias = Callable[[Resource, Session], Iterable[Issue]]


def _answers(response: Resource, session: Session) -> Iterable[Issue]:
    def find(canonical: str) -> Resource | None:
        return session.shelf.find("Questionnaire", canonical)

    asked = questionnaires.named(response, find)
    if isinstance(asked, Issue):
        return [asked]
    types = definitions.load().types
    return questionnaires.check(response, asked, session.codes, session.units, types)


def _entries(bundle: Resource, session: Session) -> Iterable[Issue]:
    return bundles.check(bundle)


CHECKS: Mapping[str, Check] = {"Bundle": _entries, "QuestionnaireResponse": _answers}
