"""Vital signs: an Observation with one of these codes must meet R4's own profile of it.

https://hl7.org/fhir/R4/observation-vitalsigns.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PROFILE = "http://hl7.org/fhir/StructureDefinition/"
_LOINC = "http://loinc.org"
PROFILES: Mapping[str, str] = {
    "85353-1": f"{_PROFILE}vitalspanel",
    "9279-1": f"{_PROFILE}resprate",
    "8867-4": f"{_PROFILE}heartrate",
    "2708-6": f"{_PROFILE}oxygensat",
    "8310-5": f"{_PROFILE}bodytemp",
    "8302-2": f"{_PROFILE}bodyheight",
    "9843-4": f"{_PROFILE}headcircum",
    "29463-7": f"{_PROFILE}bodyweight",
    "39156-5": f"{_PROFILE}bmi",
    "85354-9": f"{_PROFILE}bp",
}


def vital_signs(observation: Mapping[str, Any]) -> list[str]:
    """The profiles that the code of an Observation calls for."""
    code = observation.get("code")
    codings = code.get("coding") if type(code) is dict else None
    return [
        PROFILES[each["code"]]
        for each in (codings if type(codings) is list else ())
        if type(each) is dict
        and each.get("system") == _LOINC
        and type(each.get("code")) is str
        and each["code"] in PROFILES
    ]
