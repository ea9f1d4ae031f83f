"""$closure: how the codes that a client has met subsume each other, told as they come.

https://hl7.org/fhir/R4/conceptmap-operation-closure.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from conformance.outcome import FhirError
from terminology.asked import Asked
from terminology.codesystem import CodeSystem
from terminology.compose import Budget
from terminology.issues import refusal
from terminology.lookup import concept_of, provider_of
from terminology.rules import Context

MOST = 1_000  # concepts of one table


class Entry(NamedTuple):
    """A concept of a closure table, and the version of the table in which it came."""

    system: str
    code: str
    version: int


class Table(NamedTuple):
    """What a server keeps of one client's table."""

    version: int = 0
    entries: tuple[Entry, ...] = ()


def closed(asked: Asked, context: Context, table: Table | None) -> tuple[dict[str, Any], Table]:
    """The ConceptMap with what is new, or with all since a version, and the table as it is then.
    `table` None: there is none yet. FhirError 400, 404, 413."""
    name, since = asked.required("name"), asked.text("version")
    concepts = asked.structures("concept")
    if since is not None:
        return _replayed(name, since, concepts, context, table)
    if not concepts:
        return _map(name, 0, ()), Table()
    if table is None:
        text = "There is no such closure table; begin it by a call with its name alone"
        raise FhirError("not-found", text)
    version = table.version + 1
    known = {(each.system, each.code) for each in table.entries}
    fresh = []
    for each in concepts:
        system, code = _coding(each)
        found = concept_of(provider_of(context, system, None), code).code
        if (system, found) not in known:
            known.add((system, found))
            fresh.append(Entry(system, found, version))
    entries = (*table.entries, *fresh)
    if len(entries) > MOST:
        raise refusal("too-costly", text=f"A closure table has at most {MOST} concepts")
    made = _map(name, version, _related(entries, version, context))
    return made, Table(version, entries)


def _replayed(
    name: str, since: str, concepts: Sequence[Any], context: Context, table: Table | None
) -> tuple[dict[str, Any], Table]:
    if concepts:
        text = "$closure takes either concepts or a version to begin again from"
        raise FhirError("invalid", text, "Parameters.parameter")
    if not since.isascii() or not since.isdecimal() or len(since) > 9:
        raise FhirError("value", "version is the version of an earlier answer")
    if table is None:
        raise FhirError("not-found", "There is no such closure table")
    related = _related(table.entries, int(since) + 1, context)
    return _map(name, table.version, related), table


def _coding(raw: Any) -> tuple[str, str]:
    system, code = raw.get("system"), raw.get("code")
    if not isinstance(system, str) or not isinstance(code, str):
        raise FhirError("required", "A concept has a system and a code", status=400)
    return system, code


def _related(
    entries: Sequence[Entry], since: int, context: Context
) -> Iterator[tuple[str, str, str]]:
    """System, code and what it is a kind of, where either came in that version or later."""
    budget = Budget(context.catalog.limits.compared)
    systems: dict[str, list[Entry]] = {}
    for each in entries:
        systems.setdefault(each.system, []).append(each)
    for system, listed in systems.items():
        provider = provider_of(context, system, None)
        if isinstance(provider, CodeSystem):
            for code, above in _walked(provider, listed, since, budget):
                yield system, code, above
            continue
        for one in listed:
            budget.spend(len(listed))
            for other in listed:
                if max(one.version, other.version) >= since and provider.subsumes(
                    other.code, one.code
                ):
                    yield system, one.code, other.code


def _walked(
    provider: CodeSystem, listed: Sequence[Entry], since: int, budget: Budget
) -> Iterator[tuple[str, str]]:
    """Each code and what it is a kind of, in a code system whose hierarchy is at hand: up from
    each code, once."""
    place = {each.code: at for at, each in enumerate(listed)}
    for one in listed:
        found = []
        for code in provider.ancestors(one.code):
            budget.spend(1)
            if code in place and code != one.code:
                found.append(place[code])
        for at in sorted(found):
            if max(one.version, listed[at].version) >= since:
                yield one.code, listed[at].code


def _map(name: str, version: int, related: Any) -> dict[str, Any]:
    groups: dict[str, dict[str, list[str]]] = {}
    for system, code, above in related:
        groups.setdefault(system, {}).setdefault(code, []).append(above)
    made: dict[str, Any] = {
        "resourceType": "ConceptMap",
        "version": str(version),
        "name": name,
        "status": "active",
    }
    if groups:
        made["group"] = [
            {
                "source": system,
                "target": system,
                "element": [
                    {
                        "code": code,
                        "target": [{"code": each, "equivalence": "subsumes"} for each in above],
                    }
                    for code, above in elements.items()
                ],
            }
            for system, elements in groups.items()
        ]
    return made
