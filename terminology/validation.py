"""$validate-code: whether a code is in a value set or a code system, and every reason why not.

https://hl7.org/fhir/R4/valueset-operation-validate-code.html,
https://hl7.org/fhir/R4/codesystem-operation-validate-code.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

from conformance.outcome import FhirError, Issue, outcome
from conformance.patience import look
from terminology.asked import Asked
from terminology.canonical import canonical, fits
from terminology.compose import PARTIAL, Plan
from terminology.displays import Said, right, said, valid
from terminology.issues import issue, message, refusal
from terminology.languages import Languages
from terminology.provider import Concept, Provider
from terminology.rules import Context

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.+", re.ASCII)
_CHOICES = 100  # displays that one issue names
_SEVERAL = 5  # systems that one issue names


class Place(NamedTuple):
    """Where in the input a coding is: what issues point to."""

    whole: str
    code: str
    system: str
    version: str
    display: str


def within(path: str) -> Place:
    return Place(path, *(f"{path}.{each}" for each in ("code", "system", "version", "display")))


CODE = Place("code", "code", "system", "version", "display")
CODING = within("Coding")


class Coding(NamedTuple):
    """A code as it was asked for."""

    system: str | None
    code: str
    version: str | None
    display: str | None

    @property
    def name(self) -> str:
        """How issues call it."""
        shown = f" ('{self.display}')" if self.display else ""
        version = f"|{self.version}" if self.version else ""
        return f"{self.system or ''}{version}#{self.code}{shown}"


class Options(NamedTuple):
    """How strictly it is judged."""

    languages: Languages | None
    infer: bool = False
    abstract: bool | None = None
    active: bool = False
    lenient: bool = False
    membership: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one coding. `member`: in the set; `concept` as the system has it."""

    coding: Coding
    member: bool = False
    issues: tuple[Issue, ...] = ()
    provider: Provider | None = None
    concept: Concept | None = None
    display: str | None = None
    unknown: str | None = None  # a system that is not here
    cause: str | None = None  # the same, where the value set draws on it

    def also(self, *issues: Issue, **changed: Any) -> Verdict:
        return replace(self, issues=(*self.issues, *issues), **changed)


class Judge(NamedTuple):
    """Judges codings against a value set, or, without one, against their code systems."""

    context: Context
    plan: Plan | None
    options: Options

    def judge(self, coding: Coding, place: Place, alone: bool = True) -> Verdict:
        """Everything about one coding. `alone`: it is all that was asked, so that not being in
        the set is an error of its own."""
        if coding.system is None and self.options.infer and self.plan is not None:
            return self._inferred(coding, place, alone)
        if coding.system is None:
            found = Verdict(coding, issues=(issue("no-system", place.whole),))
            return self._outside(found, place, alone)
        return self._judged(coding, place, alone)

    def _judged(self, coding: Coding, place: Place, alone: bool) -> Verdict:
        system = str(coding.system)
        parts = list(self.plan.parts(system)) if self.plan is not None else []
        named = next((part.version for part in parts if part.version), None)
        listed = any(part.references is not None for part in parts)
        provider = self.context.system(system, coding.version or named)
        if provider is None and not listed:
            return self._unknown(coding, place, alone, bool(parts))
        found = Verdict(coding, provider=provider)
        if provider is not None and not self.options.membership:
            found = self._located(found, provider, place)
        elif provider is not None:
            found = replace(found, concept=provider.locate(coding.code))
        other = next((part for part in parts if self._differs(part.provider, coding)), None)
        if other is not None and other.provider is not None:
            of = other.provider
            told = {"system": system, "version": of.version, "asked": coding.version}
            return self._outside(
                found.also(issue("other-version", place.version, **told)), place, alone
            )
        if self.plan is None:
            found = replace(found, member=found.concept is not None)
        else:
            found = self._membership(found, system, place, alone)
        return self._described(found, place)

    def _differs(self, provider: Provider | None, coding: Coding) -> bool:
        asked = coding.version
        return provider is not None and asked is not None and not fits(provider.version, asked)

    def _located(self, found: Verdict, provider: Provider, place: Place) -> Verdict:
        """Whether the code system has the code."""
        coding = found.coding
        concept = provider.locate(coding.code)
        if concept is None:
            kind = "unknown-code" if provider.content == "complete" else "not-in-fragment"
            told = {"code": coding.code, "system": provider.url, "version": provider.version}
            return found.also(issue(kind, place.code, **{**told, "version": told["version"] or ""}))
        if concept.code != coding.code:
            told = {"code": coding.code, "right": concept.code, "system": provider.url}
            found = found.also(issue("other-case", place.code, **told))
        return replace(found, concept=concept)

    def _membership(self, found: Verdict, system: str, place: Place, alone: bool) -> Verdict:
        """Whether the value set has the code, and whether it may be used here."""
        assert self.plan is not None
        code = found.concept.code if found.concept is not None else found.coding.code
        if not self.plan.holds(system, code, strict=False):
            undecided = found.concept is None and _partial(found.provider)
            if undecided and any(each.references is None for each in self.plan.parts(system)):
                return found
            return self._outside(found, place, alone)
        concept = found.concept
        if concept is None:
            return replace(found, member=True)
        told = {"system": system, "code": code}
        if self.options.abstract is False and concept.abstract:
            name = Coding(found.coding.system, found.coding.code, None, None).name
            found = found.also(issue("abstract", place.code, code=name))
            return self._outside(found, place, alone)
        if concept.inactive and not self._active_too(**told):
            found = found.also(issue("not-active", place.code, code=code))
            return self._outside(found, place, alone)
        return replace(found, member=True)

    def _active_too(self, system: str, code: str) -> bool:
        """Whether a code that is not active may be used."""
        assert self.plan is not None
        return not self.options.active and self.plan.holds(system, code)

    def _described(self, found: Verdict, place: Place) -> Verdict:
        """What is to be said of the concept: its status, and whether its display is right."""
        concept, provider = found.concept, found.provider
        if provider is None and found.member:
            told = self._reference(str(found.coding.system), found.coding.code) or {}
            return replace(found, display=told.get("display"))
        if concept is None or provider is None or self.options.membership:
            return found
        if concept.inactive:
            status = concept.status
            shown = f"{status} and inactive" if status not in (None, "inactive") else "inactive"
            found = found.also(issue("inactive", place.whole, code=concept.code, status=shown))
        elif concept.status == "deprecated":
            found = found.also(issue("deprecated", place.whole, code=concept.code))
        of = said(concept, provider, self._reference(provider.url, concept.code))
        found = replace(found, display=right(of, self.options.languages))
        if found.coding.display is not None:
            wrong = list(_displayed(found.coding, of, self.options, place))
            found = found.also(*wrong)
        return found

    def _reference(self, system: str, code: str) -> Mapping[str, Any] | None:
        """What the value set itself says of the code."""
        if self.plan is None:
            return None
        parts = (each.references for each in self.plan.parts(system) if each.references)
        return next((each[code] for each in parts if code in each), None)

    def _unknown(self, coding: Coding, place: Place, alone: bool, drawn: bool) -> Verdict:
        """A coding whose code system is not here; `drawn`: the value set draws on it."""
        system = str(coding.system)
        known = self.context.catalog.known_versions(system)
        wanted = coding.version if coding.version and known else None
        if wanted is not None:
            told = {"system": system, "version": wanted, "known": ", ".join(known)}
            about = issue("unknown-system-version", place.system, **told)
            found = Verdict(coding, issues=(about,), unknown=f"{system}|{wanted}")
            return self._outside(found, place, alone) if self.plan is not None else found
        about = issue("unknown-system", place.system, system=system)
        if drawn:
            return Verdict(coding, issues=(about,), cause=system)
        if self.context.catalog.resource("ValueSet", canonical(system)) is not None:
            about = issue("system-is-set", place.system, system=system)
            return self._outside(Verdict(coding, issues=(about,)), place, alone)
        held = self.context.catalog.resource("CodeSystem", canonical(system))
        if held is not None and held.get("content") == "supplement":
            about = issue("system-is-supplement", place.system, system=system)
            return self._outside(Verdict(coding, issues=(about,)), place, alone)
        issues = [about]
        if not _ABSOLUTE.fullmatch(system):
            issues.insert(0, issue("relative-system", place.system))
        found = Verdict(coding, issues=tuple(issues), unknown=system)
        return self._outside(found, place, alone)

    def _outside(self, found: Verdict, place: Place, alone: bool) -> Verdict:
        """The verdict that a coding is not in the value set."""
        if self.plan is None:
            return found
        kind = "not-in-set" if alone else "this-not-in-set"
        told = {"code": found.coding.name, "set": self.plan.name}
        return found.also(issue(kind, place.code, **told), member=False)

    def _inferred(self, coding: Coding, place: Place, alone: bool) -> Verdict:
        """A code without a system, in whichever one system of the value set has it."""
        assert self.plan is not None
        found = list(islice(_holding(self.plan, coding.code), _SEVERAL))
        if len(found) == 1:
            return self._judged(coding._replace(system=found[0]), place, alone)
        told = {"code": coding.code, "set": self.plan.name, "systems": ", ".join(found)}
        kind = "several-systems" if found else "cannot-infer"
        verdict = Verdict(coding, issues=(issue(kind, place.code, **told),))
        return self._outside(verdict, place, alone)


def _holding(plan: Plan, code: str) -> Iterator[str]:
    """The systems in which the value set has a code."""
    for part in {each.system: each for each in plan.systems()}.values():
        system = str(part.system)
        concept = part.provider.locate(code) if part.provider is not None else None
        if plan.holds(system, concept.code if concept is not None else code):
            yield system


def _displayed(coding: Coding, of: Said, options: Options, place: Place) -> Iterator[Issue]:
    """What is wrong with the display."""
    display, wanted = str(coding.display), options.languages
    named = wanted if wanted is not None and wanted.tags else None
    texts = valid(of, named)
    if any(_same(display, text) for text, _ in texts) or not (texts or valid(of, None)):
        return
    lenient = "warning" if options.lenient else None
    name = f"{coding.system}#{coding.code}"
    told: dict[str, object] = {"display": display, "code": name}
    told["languages"] = named.written if named is not None else "--"
    if not texts:
        told["default"] = of.display
        known = any(_same(display, text) for text, _ in valid(of, None))
        kind = "display-other-language" if known else "display-no-language"
        yield issue(kind, place.display, None if known else lenient, **told)
        return
    spaced = any(_same(" ".join(display.split()), text) for text, _ in texts)
    told["valid"] = _choices(texts)
    yield issue("display-space" if spaced else "display", place.display, lenient, **told)


def same_display(display: str, text: str) -> bool:
    """Whether two displays are the same but for case and white space."""
    return " ".join(display.split()).casefold() == " ".join(text.split()).casefold()


def _same(display: str, text: str) -> bool:
    return display.strip().casefold() == text.strip().casefold()


def _choices(texts: Sequence[tuple[str, str | None]]) -> str:
    named = [f"'{text}' ({language or '--'})" for text, language in texts]
    if len(named) == 1:
        return named[0]
    if len(named) > _CHOICES:
        return f"one of {len(named)} choices: {', '.join(named[:_CHOICES])} and others"
    return f"one of {len(named)} choices: {', '.join(named[:-1])} or {named[-1]}"


# --- what is asked and answered ------------------------------------------------------------------


def codings(asked: Asked, version: str) -> list[tuple[Coding, Place]]:
    """What is to be judged; `version` is the name of the parameter for that of the system.
    FhirError unless there is exactly one of code, coding and codeableConcept."""
    concept, coding = asked.structure("codeableConcept"), asked.structure("coding")
    given = [each for each in ("code", "coding", "codeableConcept") if asked.given.get(each)]
    if len(given) != 1:
        text = "This operation needs one of code, coding and codeableConcept"
        raise FhirError("required", text, status=400)
    if concept is not None:
        listed = concept.get("coding", ())
        if not isinstance(listed, list) or not all(isinstance(each, Mapping) for each in listed):
            raise FhirError("structure", "CodeableConcept.coding is a list of Codings")
        return [
            (_coding(each), within(f"CodeableConcept.coding[{at}]"))
            for at, each in enumerate(listed)
        ]
    if coding is not None:
        return [(_coding(coding), CODING)]
    system, display = asked.text("system"), asked.text("display")
    at = canonical(system) if system else None
    named = at.version if at and at.version else asked.text(version)
    of = Coding(at.url if at else None, asked.required("code"), named, display)
    return [(of, CODE)]


def _coding(raw: Mapping[str, Any]) -> Coding:
    parts = [raw.get(name) for name in ("system", "code", "version", "display")]
    if not all(each is None or isinstance(each, str) for each in parts):
        raise FhirError("structure", "A Coding has texts only")
    system, code, version, display = parts
    at = canonical(str(system)) if system else None
    named = at.version if at and at.version else version
    return Coding(at.url if at else None, str(code or ""), named, display)


def answer(judge: Judge, asked: Asked, version: str) -> dict[str, Any]:
    """The Parameters of the answer. FhirError for more codings than are judged at once."""
    concept = asked.structure("codeableConcept")
    alone, given = concept is None, codings(asked, version)
    most = judge.context.catalog.limits.codings
    if len(given) > most:
        raise refusal("too-costly", text=f"A CodeableConcept has at most {most} codings here")
    found = []
    for each, place in given:
        look()
        found.append(judge.judge(each, place, alone))
    issues = [each for verdict in found for each in verdict.issues]
    best = next((each for each in found if each.member), None)
    if concept is not None and best is None:
        caused = any(each.cause for each in found)
        if judge.plan is not None and not caused:
            issues.insert(0, issue("none-in-set", set=judge.plan.name))
        elif judge.plan is None:
            best = next((each for each in found if each.concept is not None), None)
    shown = best if concept is not None else found[0]
    return parameters(issues, shown, concept, found)


def parameters(
    issues: Sequence[Issue],
    shown: Verdict | None,
    concept: Mapping[str, Any] | None,
    found: Sequence[Verdict],
) -> dict[str, Any]:
    """Parameters: result, what was found of one coding, and the issues."""
    wrong = any(each.severity == "error" for each in issues)
    missed = not any(each.member for each in found)
    result = not wrong and (not missed or _undecided(found))
    made: list[tuple[str, str, Any]] = [("result", "Boolean", result)]
    if concept is not None:
        made.append(("codeableConcept", "CodeableConcept", concept))
    if shown is not None:
        made += _told(shown)
    made += [("x-unknown-system", "Canonical", each.unknown) for each in found if each.unknown]
    made += [
        ("x-caused-by-unknown-system", "Canonical", each.cause) for each in found if each.cause
    ]
    made.append(("message", "String", message(issues)))
    told: list[dict[str, Any]] = [
        {"name": name, f"value{type}": value} for name, type, value in made if value is not None
    ]
    if issues:
        told.append({"name": "issues", "resource": outcome(issues)})
    return {"resourceType": "Parameters", "parameter": told}


def _undecided(found: Sequence[Verdict]) -> bool:
    """Whether all that speaks against it is that this server has only a part of the system."""
    return bool(found) and all(each.concept is None and _partial(each.provider) for each in found)


def _partial(provider: Provider | None) -> bool:
    return provider is not None and provider.content in PARTIAL


def _told(of: Verdict) -> Iterator[tuple[str, str, Any]]:
    coding, concept, provider = of.coding, of.concept, of.provider
    yield "code", "Code", coding.code
    yield "system", "Uri", coding.system
    yield "version", "String", provider.version if provider is not None else None
    yield "display", "String", of.display
    if concept is None:
        return
    if concept.code != coding.code:
        yield "normalized-code", "Code", concept.code
    if concept.inactive:
        yield "inactive", "Boolean", True
        yield "status", "Code", concept.status
