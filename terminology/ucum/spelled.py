"""What people write for units that UCUM spells otherwise.

https://ucum.org/ucum
"""

from __future__ import annotations

from collections.abc import Mapping

# Unit of UCUM, and what is written for it, in any case.
_SPELLED: Mapping[str, str] = {
    "mg/dL": "",
    "mmol/L": "",
    "mm[Hg]": "mmHg mm/Hg mm_Hg torr",
    "cm[H2O]": "cmH2O cm/H2O",
    "Cel": "Celsius degC deg_C °C centigrade",
    "[degF]": "Fahrenheit degF deg_F °F",
    "/min": "bpm beats/min beats/minute breaths/min breaths/minute per_min 1/minute /minute",
    "a": "yr yrs year years",
    "mo": "mon month months mth",
    "wk": "week weeks wks",
    "d": "day days",
    "h": "hr hrs hour hours",
    "min": "minute minutes mins",
    "s": "sec secs second seconds",
    "ms": "msec msecs millisecond milliseconds",
    "[lb_av]": "lb lbs pound pounds",
    "[oz_av]": "oz ounce ounces",
    "[in_i]": "inch inches",
    "[ft_i]": "foot feet",
    "kg": "kgs kilo kilos kilogram kilograms",
    "g": "gram grams gm",
    "ug": "mcg µg μg microgram micrograms",
    "ug/L": "mcg/L µg/L μg/L",
    "ug/dL": "mcg/dL µg/dL μg/dL",
    "ng/mL": "nanogram/mL",
    "mL": "cc milliliter milliliters",
    "L": "liter liters litre litres",
    "cm": "centimeter centimeters centimetre centimetres cms",
    "kg/m2": "kg/m^2 kg/m² kg/sqm",
    "m2": "m^2 m²",
    "%": "percent pct",
    "[iU]": "IU",
    "[iU]/L": "IU/L",
    "[iU]/mL": "IU/mL",
    "m[iU]/L": "mIU/L uIU/mL µIU/mL",
    "umol/L": "µmol/L μmol/L",
    "10*9/L": "10e9/L x10^9/L x10*9/L",
    "10*12/L": "10e12/L x10^12/L x10*12/L",
    "10*3/uL": "x10^3/uL thou/uL",
    "mL/min/{1.73_m2}": "mL/min/1.73m2 mL/min/1.73m^2 mL/min/1.73_m2",
}
_WRITTEN: Mapping[str, str] = {
    each.casefold(): unit for unit, texts in _SPELLED.items() for each in (unit, *texts.split())
}


def spelled(text: str) -> str | None:
    """The unit of UCUM that somebody means who writes this, where it is none but is usual."""
    return _WRITTEN.get(text.casefold())
