"""$lookup, $subsumes and $find-matches: what a code system says of its codes.

https://hl7.org/fhir/R4/codesystem-operations.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from conformance.outcome import FhirError
from terminology.asked import Asked
from terminology.canonical import Canonical, canonical
from terminology.compose import unknown
from terminology.concepts import written
from terminology.contents import use, value_of
from terminology.displays import right, said
from terminology.issues import refusal
from terminology.languages import Languages
from terminology.provider import Concept, Designation, Provider
from terminology.rules import Context

_MATCHES = 100  # that $find-matches tells
_PREFERRED = {
    "system": "http://terminology.hl7.org/CodeSystem/hl7TermMaintInfra",
    "code": "preferredForLanguage",
    "display": "Preferred For Language",
}
# What everybody asks about and whose licences leave it to others to bring it.
_ELSEWHERE = {
    "http://loinc.org": "LOINC",
    "http://snomed.info/sct": "SNOMED CT",
    "http://www.nlm.nih.gov/research/umls/rxnorm": "RxNorm",
    "http://hl7.org/fhir/sid/icd-10-cm": "ICD-10-CM",
    "http://www.ama-assn.org/go/cpt": "CPT",
}
_ALWAYS = frozenset({"system", "name", "version", "display"})


def provider_of(context: Context, system: str, version: str | None) -> Provider:
    """FhirError 404 when the code system is not here."""
    found = context.system(system, version)
    if found is None:
        known = context.catalog.known_versions(system) if version else ()
        if known:
            raise unknown(system, version, known)
        named = _ELSEWHERE.get(system)
        shipped = f" ({named} is not shipped with Salus)" if named else ""
        raise refusal("absent-system", system=system, shipped=shipped)
    return found


def concept_of(provider: Provider, code: str) -> Concept:
    """FhirError 404 when the code system does not have it."""
    found = provider.locate(code)
    if found is None:
        told = {"code": code, "system": provider.url, "version": provider.version or ""}
        raise refusal("unknown-code", status=404, **told)
    return found


def lookup(asked: Asked, context: Context, languages: Languages | None) -> dict[str, Any]:
    """Parameters about one code. FhirError 400, 404."""
    system, code, version = coded(asked, "code", "system", "coding")
    provider = provider_of(context, system, version)
    concept = concept_of(provider, code)
    of = said(concept, provider, None)
    wanted = frozenset(asked.texts("property"))
    made: list[dict[str, Any]] = [
        {"name": "name", "valueString": provider.name},
        {"name": "code", "valueCode": concept.code},
        {"name": "system", "valueUri": provider.url},
        {"name": "abstract", "valueBoolean": concept.abstract},
    ]
    if provider.version is not None:
        made.append({"name": "version", "valueString": provider.version})
    display = right(of, languages) or concept.code
    made.append({"name": "display", "valueString": display})
    if concept.definition is not None and _asks(wanted, "definition"):
        made.append({"name": "definition", "valueString": concept.definition})
    if _asks(wanted, "designation"):
        made += _designations(concept, of.language)
    made += _properties(concept, provider, wanted)
    for each in context.supplements:
        if canonical(str(each.get("supplements", ""))).url == provider.url:
            named = str(Canonical(str(each["url"]), each.get("version")))
            made.append({"name": "used-supplement", "valueCanonical": named})
    return {"resourceType": "Parameters", "parameter": made}


def subsumes(asked: Asked, context: Context) -> dict[str, Any]:
    """Parameters: equivalent, subsumes, subsumed-by or not-subsumed. FhirError 400, 404."""
    system, one, version = coded(asked, "codeA", "system", "codingA")
    other_system, other, _ = coded(asked, "codeB", "system", "codingB")
    if other_system != system:
        text = "$subsumes compares two codes of one code system"
        raise FhirError("invalid", text, "Parameters.parameter")
    provider = provider_of(context, system, version)
    first, second = concept_of(provider, one).code, concept_of(provider, other).code
    if first == second:
        outcome = "equivalent"
    elif provider.subsumes(first, second):
        outcome = "subsumes"
    else:
        outcome = "subsumed-by" if provider.subsumes(second, first) else "not-subsumed"
    found = {"name": "outcome", "valueCode": outcome}
    return {"resourceType": "Parameters", "parameter": [found]}


def find_matches(asked: Asked, context: Context) -> dict[str, Any]:
    """Parameters: the codes that have every property that is given. FhirError 400, 404, and 422
    for what a code system that is no list can not be asked."""
    provider = provider_of(context, asked.required("system"), asked.text("version"))
    most = context.catalog.limits.properties
    if len(asked.given.get("property", ())) > most:
        text = f"$find-matches is given at most {most} properties"
        raise refusal("too-costly", text=text)
    wanted = [
        (each.required("code"), written(each.given["value"][0].value)) for each in _given(asked)
    ]
    if asked.flag("compositional"):
        text = "This server makes no compositions of codes; leave compositional out"
        raise FhirError("not-supported", text)
    selections = [provider.filter(code, "=", value) for code, value in wanted]
    listed = provider.expand()
    if listed is None:
        raise refusal("too-costly", text=f"The codes of {provider.url} cannot be listed")
    found = (one for one in listed if all(each.holds(one.code) for each in selections))
    return {
        "resourceType": "Parameters",
        "parameter": [_match(provider, each) for each in islice(found, _MATCHES)],
    }


def coded(asked: Asked, code: str, system: str, coding: str) -> tuple[str, str, str | None]:
    """System, code and version, given apart or as a Coding. FhirError 400 for neither or both."""
    whole = asked.structure(coding)
    if (whole is None) == (not asked.given.get(code)):
        text = f"This operation needs either `{code}` with `{system}` or `{coding}`"
        raise FhirError("required", text, status=400)
    if whole is None:
        at = canonical(asked.required(system), asked.text("version"))
        return at.url, asked.required(code), at.version
    if not isinstance(whole.get("system"), str) or not isinstance(whole.get("code"), str):
        raise FhirError("required", f"`{coding}` needs a system and a code", status=400)
    at = canonical(whole["system"], whole.get("version") or asked.text("version"))
    return at.url, whole["code"], at.version


def _asks(wanted: frozenset[str], name: str) -> bool:
    return not wanted or "*" in wanted or name in wanted


def _designations(concept: Concept, language: str | None) -> Iterator[dict[str, Any]]:
    if language is not None and concept.display is not None:
        parts = [
            {"name": "language", "valueCode": language},
            {"name": "use", "valueCoding": _PREFERRED},
            {"name": "value", "valueString": concept.display},
        ]
        yield {"name": "designation", "part": parts}
    for each in concept.designations:
        yield {"name": "designation", "part": list(_designation(each))}


def _designation(each: Designation) -> Iterator[dict[str, Any]]:
    if each.language is not None:
        yield {"name": "language", "valueCode": each.language}
    if each.use is not None:
        yield {"name": "use", "valueCoding": use(each)}
    if each.source is not None:
        yield {"name": "source", "valueCanonical": each.source}
    yield {"name": "value", "valueString": each.value}


def _properties(
    concept: Concept, provider: Provider, wanted: frozenset[str]
) -> Iterator[dict[str, Any]]:
    languages = {each.split(".", 1)[1] for each in wanted if each.startswith("lang.")}
    for each in concept.designations:
        if each.language in languages:
            yield _named(f"lang.{each.language}", {"valueString": each.value})
    told = {"inactive"}
    if _asks(wanted, "inactive"):
        yield _named("inactive", {"valueBoolean": concept.inactive})
    for name, near in (("parent", provider.parents), ("child", provider.children)):
        if _asks(wanted, name):
            told.add(name)
            for code in near(concept.code):
                other = provider.locate(code)
                display = other.display if other is not None else None
                yield _named(name, {"valueCode": code}, display)
    for one in concept.properties:
        if _asks(wanted, one.code) and one.code not in told and one.code not in _ALWAYS:
            yield _named(one.code, value_of(one))


def _named(code: str, value: Mapping[str, Any], description: str | None = None) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"name": "code", "valueCode": code}, {"name": "value", **value}]
    if description is not None:
        parts.append({"name": "description", "valueString": description})
    return {"name": "property", "part": parts}


def _given(asked: Asked) -> list[Asked]:
    found = list(asked.parts("property"))
    if not found or not all(each.given.get("value") for each in found):
        text = "$find-matches needs `property`, each with `code` and `value`"
        raise FhirError("required", text, status=400)
    return found


def _match(provider: Provider, concept: Concept) -> dict[str, Any]:
    coding = {
        "system": provider.url,
        "version": provider.version,
        "code": concept.code,
        "display": concept.display,
    }
    told = {key: value for key, value in coding.items() if value is not None}
    return {"name": "match", "part": [{"name": "code", "valueCoding": told}]}
