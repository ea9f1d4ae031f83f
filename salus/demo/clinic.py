"""An invented clinic as transaction Bundles: who works there, then one Bundle a patient.

The same seed, size and day give the same Bundles. https://hl7.org/fhir/R4/bundle.html
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from salus.demo import codes
from salus.demo.parts import (
    Resource,
    concept,
    identifier,
    narrative,
    quantity,
    reference,
    status,
    transaction,
    vital_code,
)

SEED = 20_26
CLINIC = "Juniper Street Clinic"
PRACTITIONERS = 4
MONTHS_AT_HOME = 12  # in which a patient measures at home
STAFF_SPACE, PATIENT_SPACE, CLINIC_SPACE = 1, 2, 3  # identifiers' systems


def clinic(patients: int, today: date, seed: int = SEED) -> Iterator[Resource]:
    """The clinic's Bundles: first the organization and its practitioners, then a patient each.
    A patient's Bundle finds the practitioners by their identifiers, with conditional references."""
    chance = Random(seed)
    staff = [_practitioner(chance, number) for number in range(PRACTITIONERS)]
    yield transaction(_staff(chance, staff))
    for number in range(patients):
        yield transaction(_Patient(chance, number, today, staff).resources())


def _staff(chance: Random, staff: list[Resource]) -> dict[str, Resource]:
    organization, location = _url(chance), _url(chance)
    made: dict[str, Resource] = {
        organization: {
            "resourceType": "Organization",
            "identifier": identifier(CLINIC_SPACE, "juniper"),
            "active": True,
            "name": CLINIC,
            "telecom": [{"system": "phone", "value": "555-0100"}],
        },
        location: {
            "resourceType": "Location",
            "status": "active",
            "name": f"{CLINIC}, room 1",
            "managingOrganization": reference(organization, CLINIC),
        },
    }
    for person in staff:
        url = _url(chance)
        made[url] = person
        made[_url(chance)] = {
            "resourceType": "PractitionerRole",
            "active": True,
            "practitioner": reference(url, _name(person)),
            "organization": reference(organization, CLINIC),
            "location": [reference(location)],
            "code": [concept(codes.SNOMED, *codes.PHYSICIAN)],
        }
    return made


def _practitioner(chance: Random, number: int) -> Resource:
    gender = chance.choice(("female", "male"))
    return {
        "resourceType": "Practitioner",
        "identifier": identifier(STAFF_SPACE, f"JSC-{number + 1}"),
        "active": True,
        "name": [_human_name(chance, gender, 40 + number) | {"prefix": ["Dr."]}],
        "gender": gender,
    }


class _Patient:
    """One patient and everything about them, made in the order in which it happened."""

    def __init__(self, chance: Random, number: int, today: date, staff: list[Resource]) -> None:
        self.chance = chance
        self.number = number
        self.today = today
        doctor = chance.choice(staff)
        wanted = doctor["identifier"][0]
        self.doctor = reference(
            f"Practitioner?identifier={wanted['system']}|{wanted['value']}", _name(doctor)
        )
        self.made: dict[str, Resource] = {}
        self.usual: dict[str, float] = {}  # of this patient, by the code of what is measured
        self.patient = self.add(self.demographics())
        self.height = self.measured(codes.HEIGHT)

    def resources(self) -> dict[str, Resource]:
        problems = [each for each in codes.PROBLEMS if self.chance.random() < each.share]
        self.allergy()
        began = {problem.code: self.condition(problem) for problem in problems}
        days = sorted((self.chance.randrange(20, 900) for _ in range(3)), reverse=True)
        for days_ago in days:
            self.visit(days_ago, problems, began)
        self.at_home()
        return self.made

    def add(self, resource: Resource) -> Resource:
        """Keep a resource; a reference to it."""
        url = _url(self.chance)
        self.made[url] = resource
        return reference(url)

    def demographics(self) -> Resource:
        chance = self.chance
        gender = chance.choice(("female", "male"))
        name = _human_name(chance, gender, self.number)
        city, state, code = chance.choice(codes.CITIES)
        made: Resource = {
            "resourceType": "Patient",
            "identifier": [
                {"type": status("v2-0203", "MR"), **identifier(PATIENT_SPACE, self.record)[0]}
            ],
            "active": True,
            "name": [name],
            "telecom": [
                {"system": "phone", "value": f"555-{chance.randrange(101, 200):04}", "use": "home"}
            ],
            "gender": gender,
            "birthDate": str(self.today - timedelta(days=chance.randrange(18 * 365, 90 * 365))),
            "address": [
                {
                    "use": "home",
                    "line": [f"{chance.randrange(1, 200)} {chance.choice(codes.STREETS)} Street"],
                    "city": city,
                    "state": state,
                    "postalCode": code,
                    "country": "US",
                }
            ],
            "generalPractitioner": [self.doctor],
        }
        return narrative(made, f"{name['given'][0]} {name['family']}, {gender}")

    @property
    def record(self) -> str:
        return f"MRN-{self.number + 1001}"

    def allergy(self) -> None:
        if self.chance.random() < 0.35:
            code, display, category = self.chance.choice(codes.ALLERGIES)
            self.add(
                {
                    "resourceType": "AllergyIntolerance",
                    "clinicalStatus": status("allergyintolerance-clinical", "active"),
                    "verificationStatus": status("allergyintolerance-verification", "confirmed"),
                    "category": [category],
                    "code": concept(codes.SNOMED, code, display),
                    "patient": self.patient,
                }
            )

    def condition(self, problem: codes.Problem) -> Resource:
        onset = self.today - timedelta(days=self.chance.randrange(950, 4000))
        return self.add(
            {
                "resourceType": "Condition",
                "clinicalStatus": status("condition-clinical", "active"),
                "verificationStatus": status("condition-ver-status", "confirmed"),
                "category": [status("condition-category", "problem-list-item")],
                "code": concept(codes.SNOMED, problem.code, problem.display),
                "subject": self.patient,
                "onsetDateTime": str(onset),
                "recordedDate": str(onset),
            }
        )

    def visit(
        self, days_ago: int, problems: list[codes.Problem], began: dict[str, Resource]
    ) -> None:
        start = datetime.combine(
            self.today - timedelta(days=days_ago), time(8 + self.chance.randrange(9)), UTC
        )
        code, display = codes.VISITS[self.chance.random() < 0.25]
        encounter = self.add(
            {
                "resourceType": "Encounter",
                "status": "finished",
                "class": {
                    "system": f"{codes.TERMINOLOGY}/v3-ActCode",
                    "code": code,
                    "display": display,
                },
                "type": [concept(codes.SNOMED, *codes.VISIT_TYPE)],
                "subject": self.patient,
                "participant": [{"individual": self.doctor}],
                "period": {"start": _instant(start), "end": _instant(start, minutes=30)},
                "reasonReference": list(began.values()),
            }
        )
        if not began:
            del self.made[encounter["reference"]]["reasonReference"]
        if code == "AMB":
            self.vitals(encounter, start)
        for problem in problems:
            self.treat(problem, began[problem.code], encounter, start)

    def vitals(self, encounter: Resource, start: datetime) -> None:
        for vital in (*codes.VITALS, codes.WEIGHT):
            self.observe("vital-signs", vital, self.measured(vital), encounter, start)
        self.observe("vital-signs", codes.HEIGHT, self.height, encounter, start)
        self.pressure(self.observation("vital-signs", encounter, start))
        if start.month in (10, 11, 12):
            self.vaccinate(encounter, start)

    def pressure(self, taken: Resource) -> None:
        high, low = codes.SYSTOLIC, codes.DIASTOLIC
        self.measured(high)
        above = self.usual[high.code] - high.mean  # who has one of them high has both
        self.usual.setdefault(low.code, low.mean + above / 2)
        parts = [
            {"code": vital_code(each), "valueQuantity": quantity(each, self.measured(each))}
            for each in (high, low)
        ]
        self.add(taken | {"code": concept(codes.LOINC, *codes.PRESSURE), "component": parts})

    def at_home(self) -> None:
        """What the patient measured and wrote down about once a month, so that there is a course
        to look at."""
        for month in range(MONTHS_AT_HOME, 0, -1):
            days_ago = 30 * month - self.chance.randrange(9)
            morning = time(7, self.chance.randrange(60))
            when = datetime.combine(self.today - timedelta(days=days_ago), morning, UTC)
            taken = self.observation("vital-signs", None, when)
            self.pressure(taken)
            for vital in (codes.HEART_RATE, codes.WEIGHT):
                value = quantity(vital, self.measured(vital))
                self.add(taken | {"code": vital_code(vital), "valueQuantity": value})

    def treat(
        self, problem: codes.Problem, condition: Resource, encounter: Resource, start: datetime
    ) -> None:
        if problem.laboratory:
            test = codes.LABORATORY[problem.laboratory]
            self.observe("laboratory", test, self.measured(test), encounter, start)
        drug = problem.drug
        self.add(
            {
                "resourceType": "MedicationRequest",
                "status": "active",
                "intent": "order",
                "medicationCodeableConcept": concept(codes.RXNORM, drug.code, drug.display),
                "subject": self.patient,
                "encounter": encounter,
                "authoredOn": _instant(start, minutes=25),
                "requester": self.doctor,
                "reasonReference": [condition],
                "dosageInstruction": [
                    {
                        "text": drug.text,
                        "timing": {
                            "repeat": {
                                "frequency": drug.per_day,
                                "period": 1,
                                "periodUnit": "d",
                            }
                        },
                    }
                ],
            }
        )

    def vaccinate(self, encounter: Resource, start: datetime) -> None:
        self.add(
            {
                "resourceType": "Immunization",
                "status": "completed",
                "vaccineCode": concept(codes.CVX, *codes.VACCINE),
                "patient": self.patient,
                "encounter": encounter,
                "occurrenceDateTime": _instant(start, minutes=20),
                "primarySource": True,
            }
        )

    def observe(
        self,
        category: str,
        vital: codes.Vital,
        value: Decimal,
        encounter: Resource,
        start: datetime,
    ) -> None:
        made = self.observation(category, encounter, start)
        made |= {"code": vital_code(vital), "valueQuantity": quantity(vital, value)}
        self.add(made)

    def observation(
        self, category: str, encounter: Resource | None, start: datetime
    ) -> dict[str, Any]:
        """One at a visit; without an encounter the patient's own, at home."""
        when = _instant(start, minutes=10)
        made: dict[str, Any] = {
            "resourceType": "Observation",
            "status": "final",
            "category": [status("observation-category", category)],
            "subject": self.patient,
            "effectiveDateTime": when,
            "issued": when,
            "performer": [self.doctor if encounter else self.patient],
        }
        return made | {"encounter": encounter} if encounter else made

    def measured(self, vital: codes.Vital) -> Decimal:
        """People differ more from each other than one from day to day."""
        usual = self.usual.setdefault(vital.code, self.chance.gauss(vital.mean, vital.spread))
        value = self.chance.gauss(usual, vital.spread * vital.within)
        if vital.unit == "%":
            value = min(value, 100)
        return round(Decimal(value), vital.digits) if vital.digits else Decimal(round(value))


def _human_name(chance: Random, gender: str, number: int) -> Resource:
    family = codes.FAMILIES[(number * 7) % len(codes.FAMILIES)]
    return {"use": "official", "family": family, "given": [chance.choice(codes.GIVEN[gender])]}


def _name(person: Resource) -> str:
    name = person["name"][0]
    return " ".join((*name.get("prefix", ()), name["given"][0], name["family"]))


def _url(chance: Random) -> str:
    return UUID(int=chance.getrandbits(128), version=4).urn


def _instant(start: datetime, minutes: int = 0) -> str:
    return (start + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")
