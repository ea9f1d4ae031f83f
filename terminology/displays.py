"""The displays and designations of a concept, of its code system and of a value set together.

https://hl7.org/fhir/R4/codesystem.html#designations, https://hl7.org/fhir/R4/languages.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from terminology.concepts import STANDARDS_STATUS, designations
from terminology.languages import Languages, answers, best
from terminology.provider import Concept, Designation, Provider

_PREFERRED = (
    "http://terminology.hl7.org/CodeSystem/hl7TermMaintInfra",
    "preferredForLanguage",
    "Preferred For Language",
)
LANGUAGE = "urn:ietf:bcp:47"


class Said(NamedTuple):
    """How a concept is said: the display of its own language, and every designation."""

    display: str | None
    language: str | None
    designations: tuple[Designation, ...]


def said(concept: Concept, provider: Provider | None, reference: Mapping[str, Any] | None) -> Said:
    """What the code system says, and what a value set says instead or besides."""
    language = provider.language if provider is not None else None
    if reference is None:
        return Said(concept.display, language, concept.designations)
    display = reference.get("display") or concept.display
    more = designations(reference)
    if provider is None:
        return Said(display, language, more)
    return Said(display, language, concept.designations + more)


def shown(of: Said, wanted: Languages | None) -> tuple[str | None, tuple[Designation, ...]]:
    """The display in the wanted language, and the designations that remain beside it."""
    if wanted is None:
        return of.display, of.designations
    named = [each for each in of.designations if each.language is not None]
    tags = [of.language if of.display is not None else "und", *(each.language for each in named)]
    at = best(wanted, tags)
    if at == 0 or (at is None and not wanted.hard):
        return of.display, of.designations
    rest = of.designations
    if at is not None:
        chosen = named[at - 1]
        rest = tuple(each for each in rest if each is not chosen)
    if of.display is not None:
        rest = (Designation(of.language, of.display, _PREFERRED), *rest)
    return (named[at - 1].value if at is not None else None), rest


def valid(of: Said, wanted: Languages | None) -> list[tuple[str, str | None]]:
    """The texts that are right as a display in the wanted languages, each with its language."""
    every = [(of.display, of.language)] if of.display is not None else []
    every += [(each.value, each.language) for each in of.designations if not _withdrawn(each)]
    found = [
        (text, language)
        for text, language in every
        if text is not None and (wanted is None or answers(wanted, language))
    ]
    return list(dict.fromkeys(found))


def right(of: Said, wanted: Languages | None) -> str | None:
    """The display that an answer gives: in the wanted language, else the system's own."""
    return shown(of, wanted)[0] or of.display


def kept(each: Designation, tokens: Sequence[str]) -> bool:
    """Whether a designation is one of those asked for by language or use; all, if none are."""
    if not tokens:
        return True
    for token in tokens:
        system, _, code = token.rpartition("|")
        of_language = system in (LANGUAGE, "")
        if of_language and (each.language or "").lower() == code.lower():
            return True
        if each.use is not None and each.use[1] == code and each.use[0] == (system or None):
            return True
    return False


def _withdrawn(each: Designation) -> bool:
    return any(
        one.get("url") == STANDARDS_STATUS and one.get("valueCode") == "withdrawn"
        for one in each.extension
    )
