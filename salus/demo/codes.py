"""What the clinic's records are coded with: names we invented, and codes of the public systems.

https://hl7.org/fhir/R4/terminologies-systems.html
"""

from __future__ import annotations

from typing import NamedTuple

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
CVX = "http://hl7.org/fhir/sid/cvx"
UCUM = "http://unitsofmeasure.org"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
IDENTIFIERS = "urn:oid:2.16.840.1.113883.19.5"  # HL7's root for examples

FAMILIES = (
    "Almquist Baranov Castellanos Dvorak Eldridge Faraday Grünwald Haverkamp Iturbe Jankowski "
    "Kobayashi Lindqvist Marchetti Nakamura Okonjo Petrovic Quintana Rosenthal Søndergaard "
    "Tamura Underhill Vasquez Winterbourne Ximénez Yilmaz Zeller"
).split()
GIVEN = {
    "female": (
        "Amara Beatriz Celeste Daphne Elif Freya Giulia Hana Ingrid Jocelyn Keiko Leonie "
        "Mirabel Noor Odette Priya Rosalind Sunniva Tomiko Yara"
    ).split(),
    "male": (
        "Anselm Bruno Caspian Dario Emeka Florian Gideon Hiroshi Ivo Jasper Kenji Lorenzo "
        "Magnus Nikolai Osman Pascal Rafael Stellan Tobias Wendell"
    ).split(),
}
STREETS = "Alder Bramble Cedar Dogwood Elm Foxglove Hawthorn Juniper Linden Willow".split()
CITIES = (
    ("Fairhollow", "MA", "01001"),
    ("Kestrel Bay", "MA", "01002"),
    ("Millbrook Ferry", "NY", "12345"),
)


class Vital(NamedTuple):
    """A measurement: its code, the usual value, its spread among patients, its digits, and how much
    of that spread one patient's values have."""

    code: str
    display: str
    mean: float
    spread: float
    digits: int
    unit: str
    ucum: str
    within: float = 0.3


HEART_RATE = Vital("8867-4", "Heart rate", 74, 9, 0, "beats/minute", "/min")
VITALS = (
    HEART_RATE,
    Vital("9279-1", "Respiratory rate", 16, 2, 0, "breaths/minute", "/min"),
    Vital("8310-5", "Body temperature", 36.7, 0.3, 1, "°C", "Cel"),
    Vital("2708-6", "Oxygen saturation in Arterial blood", 97, 1, 0, "%", "%"),
)
HEIGHT = Vital("8302-2", "Body height", 169, 9, 0, "cm", "cm")
WEIGHT = Vital("29463-7", "Body weight", 74, 11, 1, "kg", "kg", within=0.1)
SYSTOLIC = Vital("8480-6", "Systolic blood pressure", 124, 12, 0, "mmHg", "mm[Hg]")
DIASTOLIC = Vital("8462-4", "Diastolic blood pressure", 79, 7, 0, "mmHg", "mm[Hg]")
PRESSURE = ("85354-9", "Blood pressure panel with all children optional")
LABORATORY = {
    "4548-4": Vital("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", 7.1, 0.7, 1, "%", "%"),
    "18262-6": Vital(
        "18262-6",
        "Cholesterol in LDL [Mass/volume] in Serum or Plasma by Direct assay",
        124,
        22,
        0,
        "mg/dL",
        "mg/dL",
    ),
    "38483-4": Vital(
        "38483-4", "Creatinine [Mass/volume] in Blood", 0.95, 0.15, 2, "mg/dL", "mg/dL"
    ),
}


class Drug(NamedTuple):
    code: str
    display: str
    text: str
    per_day: int


class Problem(NamedTuple):
    """A chronic condition: what is prescribed and measured for it, and how common it is here."""

    code: str
    display: str
    drug: Drug
    laboratory: str | None
    share: float


PROBLEMS = (
    Problem(
        "38341003",
        "Hypertensive disorder, systemic arterial (disorder)",
        Drug("197361", "amlodipine 5 MG Oral Tablet", "One tablet in the morning", 1),
        "38483-4",
        0.4,
    ),
    Problem(
        "44054006",
        "Diabetes mellitus type 2 (disorder)",
        Drug("861007", "metformin hydrochloride 500 MG Oral Tablet", "One tablet with meals", 2),
        "4548-4",
        0.3,
    ),
    Problem(
        "55822004",
        "Hyperlipidemia (disorder)",
        Drug("312961", "simvastatin 20 MG Oral Tablet", "One tablet in the evening", 1),
        "18262-6",
        0.35,
    ),
    Problem(
        "195967001",
        "Asthma (disorder)",
        Drug(
            "745679",
            "200 ACTUAT albuterol 0.09 MG/ACTUAT Metered Dose Inhaler",
            "Two puffs when short of breath",
            4,
        ),
        None,
        0.2,
    ),
    Problem(
        "239873007",
        "Osteoarthritis of knee (disorder)",
        Drug("310965", "ibuprofen 200 MG Oral Tablet", "One tablet when in pain", 3),
        None,
        0.2,
    ),
)
ALLERGIES = (
    ("91936005", "Allergy to penicillin (finding)", "medication"),
    ("91934008", "Allergy to nut (finding)", "food"),
    ("300913006", "Allergy to shellfish (finding)", "food"),
)
VACCINE = ("140", "Influenza, seasonal, injectable, preservative free")
VISITS = (("AMB", "ambulatory"), ("VR", "virtual"))
VISIT_TYPE = ("185349003", "Encounter for check up (procedure)")
PHYSICIAN = ("59058001", "General physician (occupation)")
