"""$translate: the codes that a concept map gives for a code.

https://hl7.org/fhir/R4/conceptmap-operation-translate.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from conformance.outcome import FhirError
from terminology.asked import Asked
from terminology.canonical import Canonical, canonical
from terminology.catalog import Catalog, Resource
from terminology.compose import Budget
from terminology.issues import refusal

_DEPTH = 8  # maps that hand on to another
_MOST = 1_000  # matches of one answer
_NO_MATCH = frozenset({"unmatched", "disjoint"})
_REVERSED: Mapping[str, str] = {
    "wider": "narrower",
    "narrower": "wider",
    "subsumes": "specializes",
    "specializes": "subsumes",
}


class Match(NamedTuple):
    """One translation. `products` are the further codes that it needs, as the map has them."""

    equivalence: str
    system: str | None
    version: str | None
    code: str
    display: str | None
    products: Sequence[Mapping[str, Any]]
    source: str | None


class _Sought(NamedTuple):
    """What is to be translated, and into what."""

    codings: Sequence[tuple[str | None, str]]
    target_system: str | None
    dependencies: Mapping[str, frozenset[str]]
    reverse: bool
    budget: Budget


def translate(asked: Asked, catalog: Catalog, given: Resource | None = None) -> dict[str, Any]:
    """Parameters: result, message, matches. `given` is the map of an instance. FhirError
    400, 404."""
    sought = _Sought(
        _codings(asked),
        asked.text("targetsystem"),
        _dependencies(asked),
        asked.flag("reverse") is True,
        Budget(catalog.limits.mapped),
    )
    if len(sought.codings) > catalog.limits.codings:
        text = f"A CodeableConcept has at most {catalog.limits.codings} codings here"
        raise refusal("too-costly", text=text)
    found: list[Match] = []
    for map in _maps(asked, catalog, given):
        for each in _translated(map, sought, catalog, 0):
            found.append(each)
            if len(found) > _MOST:
                text = f"There are more than {_MOST} matches; name one map"
                raise refusal("too-costly", text=text)
    found = list({_key(each): each for each in found}.values())
    result = any(each.equivalence not in _NO_MATCH for each in found)
    made: list[dict[str, Any]] = [{"name": "result", "valueBoolean": result}]
    if not result:
        text = "No translation was found for what was asked"
        made.append({"name": "message", "valueString": text})
    made += [_match(each) for each in found]
    return {"resourceType": "Parameters", "parameter": made}


def _codings(asked: Asked) -> list[tuple[str | None, str]]:
    concept, coding, code = (
        asked.structure("codeableConcept"),
        asked.structure("coding"),
        asked.text("code"),
    )
    if sum(each is not None for each in (concept, coding, code)) != 1:
        text = "$translate needs one of code, coding and codeableConcept"
        raise FhirError("required", text, status=400)
    if code is not None:
        return [(canonical(asked.required("system")).url, code)]
    listed = concept.get("coding", ()) if concept is not None else [coding or {}]
    return [(each.get("system"), each["code"]) for each in listed if "code" in each]


def _dependencies(asked: Asked) -> dict[str, frozenset[str]]:
    """The codes that are given for each property that a map may depend on."""
    found = {}
    for each in asked.parts("dependency"):
        concept = each.structure("concept") or {}
        codes = (one.get("code") for one in concept.get("coding", ()))
        texts = (concept.get("text"),)
        values = (str(one) for one in (*codes, *texts) if one is not None)
        found[each.required("element")] = frozenset(values)
    return found


def _maps(asked: Asked, catalog: Catalog, given: Resource | None) -> Iterator[Resource]:
    sent = asked.resource("conceptMap", "ConceptMap") or given
    url = asked.text("url")
    if sent is not None:
        yield sent
        return
    if url is not None:
        at = canonical(url, asked.text("conceptMapVersion"))
        found = catalog.resource("ConceptMap", at)
        if found is None:
            raise refusal("unknown-map", map=at, status=404)
        yield found
        return
    source, target = asked.text("source"), asked.text("target")
    for each in catalog.maps():
        if _concerns(each, "source", source) and _concerns(each, "target", target):
            yield each


def _concerns(map: Resource, end: str, set: str | None) -> bool:
    """Whether a map is from, or to, a value set."""
    named = map.get(f"{end}Uri") or map.get(f"{end}Canonical")
    return set is None or (named is not None and canonical(named).url == canonical(set).url)


def _translated(map: Resource, sought: _Sought, catalog: Catalog, depth: int) -> Iterator[Match]:
    source = map.get("url")
    for group in map.get("group", ()):
        ends = (group.get("source"), group.get("target"))
        of, to = ends[::-1] if sought.reverse else ends
        if sought.target_system is not None and to != sought.target_system:
            continue
        sought.budget.spend(1 + len(sought.codings))
        for system, code in sought.codings:
            if system is None or of != canonical(system).url:
                continue
            if sought.reverse:
                yield from _backward(group, code, sought.budget, source)
                continue
            found = list(_forward(group, code, sought, source))
            yield from found or _unmapped(group, (system, code), sought, catalog, depth, source)


def _forward(
    group: Mapping[str, Any],
    code: str,
    sought: _Sought,
    source: str | None,
) -> Iterator[Match]:
    given = sought.dependencies
    for element in group.get("element", ()):
        sought.budget.spend(1)
        if element.get("code") != code:
            continue
        for target in element.get("target", ()):
            needs = target.get("dependsOn", ())
            sought.budget.spend(1 + len(needs))
            if all(one.get("value") in given.get(str(one.get("property")), ()) for one in needs):
                yield Match(
                    target.get("equivalence", "relatedto"),
                    group.get("target"),
                    group.get("targetVersion"),
                    str(target.get("code", "")),
                    target.get("display"),
                    target.get("product", ()),
                    source,
                )


def _backward(
    group: Mapping[str, Any], code: str, budget: Budget, source: str | None
) -> Iterator[Match]:
    for element in group.get("element", ()):
        budget.spend(1 + len(element.get("target", ())))
        for target in element.get("target", ()):
            if target.get("code") == code:
                equivalence = target.get("equivalence", "relatedto")
                yield Match(
                    _REVERSED.get(equivalence, equivalence),
                    group.get("source"),
                    group.get("sourceVersion"),
                    str(element.get("code", "")),
                    element.get("display"),
                    (),
                    source,
                )


def _unmapped(
    group: Mapping[str, Any],
    coding: tuple[str, str],
    sought: _Sought,
    catalog: Catalog,
    depth: int,
    source: str | None,
) -> Iterator[Match]:
    """What a map says of the codes that it has not."""
    rule = group.get("unmapped", {})
    mode, to = rule.get("mode"), group.get("target")
    if mode == "provided":
        yield Match("equal", to, group.get("targetVersion"), coding[1], None, (), source)
    elif mode == "fixed" and "code" in rule:
        display = rule.get("display")
        yield Match("inexact", to, group.get("targetVersion"), rule["code"], display, (), source)
    elif mode == "other-map" and depth < _DEPTH:
        other = catalog.resource("ConceptMap", canonical(str(rule.get("url", ""))))
        if other is not None:
            one = sought._replace(codings=(coding,))
            yield from _translated(other, one, catalog, depth + 1)


def _key(each: Match) -> tuple[object, ...]:
    return each.equivalence, each.system, each.code, each.source, repr(each.products)


def _match(each: Match) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"name": "equivalence", "valueCode": each.equivalence}]
    if each.code:
        coding = {
            "system": each.system,
            "version": each.version,
            "code": each.code,
            "display": each.display,
        }
        told = {key: value for key, value in coding.items() if value is not None}
        parts.append({"name": "concept", "valueCoding": told})
    for product in each.products:
        of = Canonical(str(product.get("system", "")))
        value = {"system": of.url, "code": product.get("value"), "display": product.get("display")}
        shown = {key: one for key, one in value.items() if one}
        parts.append(
            {
                "name": "product",
                "part": [
                    {"name": "element", "valueUri": product.get("property")},
                    {"name": "concept", "valueCoding": shown},
                ],
            }
        )
    if each.source is not None:
        parts.append({"name": "source", "valueUri": each.source})
    return {"name": "match", "part": parts}
