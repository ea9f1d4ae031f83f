"""The right answers, in plain Python over the loaded data: it shares no code with the server.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from salus.bench.shapes import Draw
from salus.bench.world import Resource, World

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
HEIGHT = "8302-2"
_DISTANT = datetime.max
_DAY = timedelta(days=1)
_TICK = timedelta(microseconds=1)

Holds = Callable[[Resource], bool]


def fold(text: str) -> str:
    """A string without case and accents."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(each for each in plain if not unicodedata.combining(each)).casefold()


def truth(shape: str, world: World, draw: Draw) -> set[str] | None:
    """The ids that a shape must find for a draw of values; None where it is not known here."""
    rule = RULES.get(shape)
    if rule is None:
        return None
    type, holds = rule(world, draw)
    return {id for id, resource in world.types[type].items() if holds({"id": id, **resource})}


def arguable(shape: str, world: World, draw: Draw) -> set[str]:
    """Further ids that a server may find: with ge and le the standard's words leave open whether a
    period that only reaches into the day is equal to it."""
    if shape != "d3" or draw["pfx"] not in ("ge", "le"):
        return set()
    low, high = day(draw["encdate"])
    return {
        id
        for id, encounter in world.types["Encounter"].items()
        if (span := met(encounter)) and span[0] <= high and span[1] >= low
    }


# --- what is compared ----------------------------------------------------------------------------


def coded(resource: Resource, element: str) -> Iterator[tuple[str | None, str | None]]:
    """System and code of each coding of an element, whether it repeats or not."""
    found: Any = resource.get(element, ())
    for concept in found if isinstance(found, list) else (found,):
        for coding in concept.get("coding", ()) if concept else ():
            yield coding.get("system"), coding.get("code")


def points(resource: Resource, element: str, type: str, id: str) -> bool:
    return bool(resource.get(element, {}).get("reference") == f"{type}/{id}")


def name_parts(patient: Resource) -> Iterator[str]:
    for name in patient.get("name", ()):
        yield from (name[each] for each in ("family", "text") if each in name)
        for each in ("given", "prefix", "suffix"):
            yield from name.get(each, ())


def families(patient: Resource) -> list[str]:
    return [name["family"] for name in patient.get("name", ()) if "family" in name]


def address_parts(patient: Resource) -> Iterator[str]:
    for address in patient.get("address", ()):
        yield from address.get("line", ())
        for each in ("city", "district", "state", "postalCode", "country", "text"):
            if each in address:
                yield address[each]


def starts(values: Iterable[str], asked: str) -> bool:
    return any(fold(value).startswith(fold(asked)) for value in values)


Span = tuple[datetime, datetime]  # first and last moment, both within


def day(text: str) -> Span:
    start = datetime.combine(date.fromisoformat(text), datetime.min.time())
    return start, start + _DAY - _TICK


def moment(text: str) -> Span:
    """An instant with seconds, in UTC."""
    start = datetime.fromisoformat(text)
    start = (start - (start.utcoffset() or timedelta())).replace(tzinfo=None)
    return start, start + timedelta(seconds=1) - _TICK


# The prefixes for a searched span (low, high) and a value's span (first, last).
PREFIXES: dict[str, Callable[[Any, Any, Any, Any], bool]] = {
    "eq": lambda low, high, first, last: low <= first and last <= high,
    "none": lambda low, high, first, last: low <= first and last <= high,
    "gt": lambda low, high, first, last: last > high,
    "lt": lambda low, high, first, last: first < low,
    "ge": lambda low, high, first, last: last > high or (low <= first and last <= high),
    "le": lambda low, high, first, last: first < low or (low <= first and last <= high),
    "sa": lambda low, high, first, last: first > high,
    "eb": lambda low, high, first, last: last < low,
}


def dated(prefix: str, asked: str, span: Span | None) -> bool:
    return span is not None and PREFIXES[prefix](*day(asked), *span)


def born(patient: Resource) -> Span | None:
    return day(patient["birthDate"]) if "birthDate" in patient else None


def observed(observation: Resource) -> Span | None:
    when = observation.get("effectiveDateTime")
    return moment(when) if when else None


def met(encounter: Resource) -> Span | None:
    period = encounter.get("period")
    if not period:
        return None
    first = moment(period["start"])[0] if "start" in period else datetime.min
    return first, moment(period["end"])[1] if "end" in period else _DISTANT


def amounts(prefix: str, asked: str, observation: Resource) -> bool:
    """A number is compared as it is, but for eq, which means the range of its digits."""
    value = observation.get("valueQuantity", {}).get("value")
    if value is None:
        return False
    number, low = Decimal(asked), Decimal(asked)
    if prefix in ("eq", "none"):
        half = Decimal("0.5")
        return bool(number - half <= value < number + half)
    return PREFIXES[prefix](low, number, value, value)


# --- the rules -----------------------------------------------------------------------------------

Rule = Callable[[World, Draw], tuple[str, Holds]]


def _of_patient(type: str, element: str = "subject") -> Rule:
    return lambda world, draw: (
        type,
        lambda r: points(r, element, "Patient", draw["patient"]),
    )


def _plain(type: str, holds: Callable[[Resource, Draw], bool]) -> Rule:
    return lambda world, draw: (type, lambda resource: holds(resource, draw))


def _height_by_family(world: World, draw: Draw) -> tuple[str, Holds]:
    ids = {
        f"Patient/{id}"
        for id, patient in world.types["Patient"].items()
        if starts(families(patient), draw["family"])
    }
    return (
        "Observation",
        lambda r: (
            r.get("subject", {}).get("reference") in ids and (LOINC, HEIGHT) in coded(r, "code")
        ),
    )


def _with_condition(world: World, draw: Draw) -> tuple[str, Holds]:
    ids = {
        condition.get("subject", {}).get("reference")
        for condition in world.types["Condition"].values()
        if (SNOMED, draw["snomed"]) in coded(condition, "code")
    }
    return "Patient", lambda patient: f"Patient/{patient['id']}" in ids


def _category(asked: str) -> Holds:
    return lambda r: any(code == asked for _, code in coded(r, "category"))


def _participant(encounter: Resource, id: str) -> bool:
    return any(
        points(part, "individual", "Practitioner", id) for part in encounter.get("participant", ())
    )


RULES: dict[str, Rule] = {
    "r1": _plain("Patient", lambda r, d: r["id"] == d["patient"]),
    "r2": _plain("Observation", lambda r, d: r["id"] == d["observation"]),
    "s1": _plain("Patient", lambda r, d: starts(families(r), d["family"])),
    "s2": _plain("Patient", lambda r, d: starts(name_parts(r), d["given"])),
    "s3": _plain("Patient", lambda r, d: any(fold(d["mid3"]) in fold(p) for p in name_parts(r))),
    "s4": _plain("Patient", lambda r, d: starts(address_parts(r), d["city"])),
    "d1": _plain("Patient", lambda r, d: dated(d["pfx"], d["birthdate"], born(r))),
    "d2": _plain("Observation", lambda r, d: dated(d["pfx"], d["obsdate"], observed(r))),
    "d3": _plain("Encounter", lambda r, d: dated(d["pfx"], d["encdate"], met(r))),
    "t1": _plain(
        "Patient", lambda r, d: any(i.get("value") == d["mrn"] for i in r.get("identifier", ()))
    ),
    "t3": _plain("Observation", lambda r, d: (LOINC, d["loinc"]) in coded(r, "code")),
    "t4": _plain("Observation", lambda r, d: d["loinc"] in (c for _, c in coded(r, "code"))),
    "t6": _plain("Observation", lambda r, d: _category("laboratory")(r)),
    "t8": _plain("Encounter", lambda r, d: r.get("class", {}).get("code") == "AMB"),
    "t9": _plain("Condition", lambda r, d: (SNOMED, d["snomed"]) in coded(r, "code")),
    "n1": _plain("Observation", lambda r, d: amounts(d["cmp"], d["qty"], r)),
    "f1": _of_patient("Observation"),
    "f2": _of_patient("Condition"),
    "f3": _of_patient("Encounter"),
    "f4": _of_patient("MedicationRequest"),
    "f5": _plain("Observation", lambda r, d: points(r, "encounter", "Encounter", d["encounter"])),
    "f6": _plain("Encounter", lambda r, d: _participant(r, d["practitioner"])),
    "f7": _of_patient("ExplanationOfBenefit", "patient"),
    "j1": _plain(
        "Observation",
        lambda r, d: points(r, "subject", "Patient", d["patient"]) and _category("laboratory")(r),
    ),
    "j2": _plain(
        "Observation",
        lambda r, d: (
            points(r, "subject", "Patient", d["patient"])
            and (LOINC, d["loinc"]) in coded(r, "code")
            and dated("ge", "2015-01-01", observed(r))
        ),
    ),
    "j3": _of_patient("Encounter"),
    "j4": _plain("Patient", lambda r, d: r["id"] == d["patient"]),
    "j5": _height_by_family,
    "j6": _with_condition,
    "p1": _plain("Observation", lambda r, d: True),
    "p2": _plain("Observation", lambda r, d: True),
    "p3": _plain("Patient", lambda r, d: True),
}

# What a page must include beside its matches: for the ids of the matches, the ids of the others.
INCLUDED: dict[str, Callable[[World, Iterable[str]], set[str]]] = {
    "j3": lambda world, ids: {
        part["individual"]["reference"].rpartition("/")[2]
        for id in ids
        for part in world.types["Encounter"][id].get("participant", ())
        if "individual" in part
    },
    "j4": lambda world, ids: {
        id
        for id, condition in world.types["Condition"].items()
        if condition.get("subject", {}).get("reference", "").rpartition("/")[2] in set(ids)
    },
}

# What a sorted page must be in order of: earliest first, or latest first.
SORTED: dict[str, tuple[Callable[[Resource], Any], bool]] = {
    "j1": (lambda r: r["effectiveDateTime"], True),
    "p3": (lambda r: r["birthDate"], False),
}
