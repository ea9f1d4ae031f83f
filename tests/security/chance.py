"""Random hospitals, grants and requests for test_property.py.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from smart_auth.grant import Grant, Scope
from tests.security.people import (
    CATEGORY,
    LAB,
    LOINC,
    VITAL,
    binary,
    condition,
    observation,
    provenance,
    reference,
    resource,
    task,
)
from tests.security.plain import Name, Resource

PATIENTS = [f"Patient/p{n}" for n in range(3)]
DOCTORS = ["Practitioner/d0", "Practitioner/d1"]
FAMILIES = ["Ash", "Birch", "Cedar"]
TAG = {"system": "urn:tags", "code": "t"}
TYPES = [
    "Patient",
    "Observation",
    "Condition",
    "Encounter",
    "Provenance",
    "Task",
    "Binary",
    "List",
    "Device",
    "Appointment",
    "Group",
    "Practitioner",
    "Organization",
]


class Told(NamedTuple):
    """One version as it was written; a deletion has no resource."""

    name: Name
    number: int
    resource: Resource | None


@dataclass
class Hospital:
    """Every version in the order of writing, and what is there now."""

    told: list[Told] = field(default_factory=list)
    now: dict[Name, Resource] = field(default_factory=dict)

    def write(self, made: Resource) -> None:
        name = (made["resourceType"], made["id"])
        self.now[name] = made
        self.told.append(Told(name, self._next(name), made))

    def delete(self, name: Name) -> None:
        del self.now[name]
        self.told.append(Told(name, self._next(name), None))

    def _next(self, name: Name) -> int:
        return 1 + sum(each.name == name for each in self.told)

    def versions(self, name: Name) -> list[Told]:
        return [each for each in self.told if each.name == name]

    def batch(self) -> dict[str, Any]:
        """A Bundle that writes it all."""
        entries = []
        for (type, id), _, made in self.told:
            url = f"{type}/{id}"
            if made is None:
                entries.append({"request": {"method": "DELETE", "url": url}})
            else:
                entries.append({"request": {"method": "PUT", "url": url}, "resource": made})
        return {"resourceType": "Bundle", "type": "batch", "entry": entries}


# --- data ----------------------------------------------------------------------------------------


def hospital(random: Random) -> Hospital:
    """Resources of three patients, moved, deleted, shared and brought back."""
    made = Hospital()
    for each in ("Organization/g0", *DOCTORS, *PATIENTS):
        made.write(_person(random, each))
    names = [(maker, n) for maker, count in _MAKERS.items() for n in range(count)]
    for maker, n in names:
        made.write(maker(random, n))
    for _ in range(25):
        maker, n = random.choice(names)
        changed = maker(random, n)
        name = (changed["resourceType"], changed["id"])
        if random.random() < 0.35 and name in made.now:
            made.delete(name)
        else:
            made.write(changed)
    return made


def _person(random: Random, name: str) -> Resource:
    family = {"family": random.choice(FAMILIES)}
    if name.startswith("Organization"):
        return resource(name, name="General")
    if name.startswith("Practitioner"):
        return resource(name, name=[family])
    link = [{"other": reference(random.choice(PATIENTS)), "type": "seealso"}]
    return resource(
        name,
        name=[family],
        gender=random.choice(["female", "male"]),
        generalPractitioner=[reference(random.choice(DOCTORS))],
        managingOrganization=reference("Organization/g0"),
        **({"link": link} if random.random() < 0.3 else {}),
    )


def _tagged(random: Random, made: Resource) -> Resource:
    return {**made, "meta": {"tag": [TAG]}} if random.random() < 0.4 else made


def _observation(random: Random, n: int) -> Resource:
    categories = random.choice([LAB, VITAL, (LAB, VITAL)])
    performer = random.choice([*DOCTORS, *PATIENTS])
    focus = {"focus": [reference(random.choice(PATIENTS))]} if random.random() < 0.3 else {}
    made = observation(
        f"Observation/o{n}",
        random.choice(PATIENTS),
        categories,
        performer=[reference(performer)],
        encounter=reference(f"Encounter/e{random.randrange(3)}"),
        **focus,
    )
    return _tagged(random, made)


def _condition(random: Random, n: int) -> Resource:
    asserter = reference(random.choice([*DOCTORS, *PATIENTS]))
    return condition(f"Condition/c{n}", random.choice(PATIENTS), asserter=asserter)


def _encounter(random: Random, n: int) -> Resource:
    made = resource(
        f"Encounter/e{n}",
        status=random.choice(["planned", "finished"]),
        subject=reference(random.choice(PATIENTS)),
        **{"class": {"code": "AMB"}},
    )
    return _tagged(random, made)


def _target(random: Random) -> str:
    return random.choice(
        [
            f"Observation/o{random.randrange(8)}",
            f"Condition/c{random.randrange(4)}",
            f"Encounter/e{random.randrange(3)}",
            random.choice(PATIENTS),
            f"Binary/b{random.randrange(4)}",
            "Organization/g0",
        ]
    )


def _provenance(random: Random, n: int) -> Resource:
    targets = [_target(random) for _ in range(random.randrange(1, 4))]
    entity = {"role": "source", "what": reference(_target(random))}
    more = {"entity": [entity]} if random.random() < 0.5 else {}
    return provenance(f"Provenance/v{n}", *targets, **more) | {
        "agent": [{"who": reference(random.choice(DOCTORS))}]
    }


def _binary(random: Random, n: int) -> Resource:
    return binary(f"Binary/b{n}", random.choice([None, _target(random), random.choice(PATIENTS)]))


def _list(random: Random, n: int) -> Resource:
    return resource(
        f"List/l{n}",
        status="current",
        mode="working",
        subject=reference(random.choice(PATIENTS)),
        source=reference(random.choice([*DOCTORS, *PATIENTS])),
        entry=[{"item": reference(_target(random))}],
    )


def _appointment(random: Random, n: int) -> Resource:
    actors = random.sample([*PATIENTS, *DOCTORS], 2)
    who = [{"actor": reference(each), "status": "accepted"} for each in actors]
    return resource(f"Appointment/a{n}", status="proposed", participant=who)


def _group(random: Random, n: int) -> Resource:
    members = [{"entity": reference(each)} for each in random.sample(PATIENTS, 2)]
    return resource(f"Group/g{n}", type="person", actual=True, member=members)


def _device(random: Random, n: int) -> Resource:
    whose = {"patient": reference(random.choice(PATIENTS))} if random.random() < 0.7 else {}
    return resource(f"Device/x{n}", **whose)


_MAKERS: dict[Callable[[Random, int], Resource], int] = {
    _observation: 8,
    _condition: 4,
    _encounter: 3,
    _provenance: 5,
    _binary: 4,
    _list: 2,
    _appointment: 2,
    _group: 1,
    _device: 2,
    lambda random, n: task(f"Task/t{n}", random.choice(PATIENTS)): 2,
}


# --- grants --------------------------------------------------------------------------------------

_QUERIES = {
    "Observation": [
        (("category", f"{CATEGORY}|{LAB}"),),
        (("category", f"{CATEGORY}|{VITAL}"),),
        (("category", f"{CATEGORY}|{LAB}"), ("category", f"{CATEGORY}|{VITAL}")),
        (("category", f"{CATEGORY}|{LAB}"), ("_tag", "urn:tags|t")),
        (("code", f"{LOINC}|718-7"), ("_tag", "urn:tags|t")),
        (("status", "final,amended"),),
        (("subject", "Patient/p0"),),
    ],
    "Encounter": [(("status", "finished"),), (("_tag", "urn:tags|t"),)],
    "Condition": [(("_id", "c0,c1"),)],
    "Patient": [(("_id", "p0,p1"),)],
    "*": [(("_tag", "urn:tags|t"),), (("status", "final"),)],
}
_LETTERS = ["rs", "rs", "rs", "cruds", "r", "s", "cud"]
_CONTEXTS = ["patient", "patient", "patient", "user", "user", "system"]


def grant(random: Random) -> Grant:
    """Scopes of one context or, now and then, of several."""
    context = random.choice(_CONTEXTS)
    scopes = []
    if random.random() < 0.3:  # what is visible where something else is, and what may be probed
        scopes += [Scope(context, each, "rs") for each in ("Provenance", "Patient")]
    for _ in range(random.randrange(1, 8)):
        if random.random() < 0.08:
            context = random.choice(_CONTEXTS)
        scopes.append(_scope(random, context))
    patients = [each.partition("/")[2] for each in PATIENTS]
    reach = random.choice(
        [None, frozenset(), frozenset(random.sample(patients, 2)), frozenset("p0")]
    )
    return Grant(
        "an app",
        agent=random.choice([None, "Practitioner/d0", "Patient/p1"]),
        id=f"grant{random.random()}",
        scopes=tuple(scopes),
        patient=random.choice([*patients, *patients, None]),
        reach=frozenset({"p0"}) if reach == frozenset("p0") else reach,
        identity=(drawn := random.random()) < 0.2,
        confined=0.15 < drawn < 0.3,
    )


def _scope(random: Random, context: str) -> Scope:
    type = "*" if random.random() < 0.2 else random.choice([*TYPES, *TYPES[:5]])
    query: tuple[tuple[str, str], ...] = ()
    if type in _QUERIES and random.random() < 0.4:
        query = random.choice(_QUERIES[type])
    return Scope(context, type, random.choice(_LETTERS), query)  # type: ignore[arg-type]


# --- requests ------------------------------------------------------------------------------------


class Include(NamedTuple):
    """`param` may be `*`; `source` too."""

    source: str
    param: str
    reverse: bool = False
    iterate: bool = False


class Asked(NamedTuple):
    """A search. `types` are those that it names beside the one that it is on."""

    type: str
    query: str = ""
    types: tuple[str, ...] = ()
    includes: tuple[Include, ...] = ()
    compartment: str | None = None


def search(random: Random) -> Asked:
    """One search of every kind in turn."""
    patient, doctor, target = random.choice(PATIENTS), random.choice(DOCTORS), _target(random)
    family = random.choice(FAMILIES)
    plain = [Asked(type) for type in TYPES]
    filled = [Asked(*each) for each in _queries(patient, doctor, target, family)]
    inside = [
        Asked("Observation", compartment=patient),
        Asked("Condition", compartment=patient),
        Asked("Provenance", compartment=patient),
        Asked("List", compartment=patient),
        Asked("Observation", compartment=doctor),
        Asked("Observation", compartment=f"Encounter/e{random.randrange(3)}"),
    ]
    probing = [each for each in filled if each.type == "Provenance" or "Provenance" in each.types]
    kind = random.choice([plain, filled, probing, inside, _INCLUDING, _INCLUDING])
    return random.choice(kind)


def _queries(
    patient: str, doctor: str, target: str, family: str
) -> list[tuple[str, str, tuple[str, ...]]]:
    o, p, e, v, d = "Observation", "Patient", "Encounter", "Provenance", "Practitioner"
    return [
        (o, f"patient={patient}", ()),
        (o, f"subject={','.join(PATIENTS)}&category={LAB}", ()),
        (o, f"category:not={CATEGORY}|{LAB}", ()),
        (o, "encounter:missing=false&_tag=urn:tags|t", ()),
        (o, f"subject:Patient.family={family}", (p,)),
        (o, f"patient.family={family}", (p,)),
        (o, f"encounter.subject:Patient.family={family}", (e, p)),
        (o, f"encounter.subject:Patient.general-practitioner:Practitioner.family={family}", (e, p, d)),
        (o, f"performer:Practitioner.family={family}", (d,)),
        (e, f"subject:Patient.general-practitioner:Practitioner.family={family}", (p, d)),
        (p, "_has:Observation:patient:code=718-7", (o,)),
        (p, f"_has:Observation:subject:_has:Provenance:target:agent={doctor}", (o, v)),
        (p, "_has:Observation:patient:encounter.status=finished", (o, e)),
        (p, "_has:Condition:subject:_id=c0,c1", ("Condition",)),
        (d, f"_has:Observation:performer:category={LAB}", (o,)),
        (d, "_has:Provenance:agent:target:Observation.status=final", (v, o)),
        (v, f"target={target}", ()),
        (v, f"entity={target}", ()),
        (v, "entity:missing=false", ()),
        (v, "target=Patient/p0,Observation/o0,Observation/o1,Condition/c0", ()),
        (v, f"patient={patient}", ()),
        (v, f"target:Observation.subject:Patient.family={family}", (o, p)),
        (v, "entity:Observation.category=laboratory", (o,)),
        (o, f"_has:Provenance:target:target={target}", (v,)),
        ("List", f"item={target}", ()),
        ("List", "source:Patient.family=" + family, (p,)),
        ("Task", f"patient={patient}", ()),
        ("Appointment", f"actor={patient}", ()),
        ("Condition", f"asserter:Patient.family={family}", (p,)),
    ]  # fmt: skip


def _including(type: str, *includes: Include, query: str = "") -> Asked:
    """A search whose explicit includes name their source and, where it is one, their target."""
    types = tuple(each.source for each in includes if each.source != "*")
    return Asked(type, query, types, includes)


_INCLUDING = [
    _including("Observation", Include("Observation", "*")),
    _including("Observation", Include("Observation", "subject")),
    _including("Observation", Include("Observation", "performer")),
    _including("Observation", Include("Observation", "encounter"), Include("Encounter", "subject", iterate=True)),
    _including("Observation", Include("Provenance", "target", reverse=True)),
    _including("Observation", Include("*", "*", reverse=True)),
    _including("Patient", Include("*", "*", reverse=True)),
    _including("Patient", Include("Observation", "subject", reverse=True), Include("Provenance", "target", reverse=True, iterate=True)),
    _including("Patient", Include("Patient", "*"), Include("Condition", "subject", reverse=True)),
    _including("Provenance", Include("Provenance", "target")),
    _including("Provenance", Include("Provenance", "*")),
    _including("Encounter", Include("Observation", "encounter", reverse=True), Include("Observation", "performer", iterate=True)),
    _including("List", Include("List", "item")),
    _including("Practitioner", Include("*", "*", reverse=True)),
]  # fmt: skip
