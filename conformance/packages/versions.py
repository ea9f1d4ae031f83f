"""Which of two business versions is newer, and which one a canonical asks for.

https://hl7.org/fhir/R4/references.html#canonical
"""

from __future__ import annotations

import re
from typing import TypeAlias

_DATE = re.compile(r"(?:19|20)\d\d(?:-?\d\d(?:-?\d\d)?)?(?:[T ].*)?")
_NUMBERS = re.compile(r"(\d{1,9}(?:\.\d{1,9})*)(?:-([0-9A-Za-z.-]+))?(?:\+.*)?")

Order: TypeAlias = tuple[int, tuple[int, ...], tuple[tuple[int, int, str], ...], str]


def order(version: str) -> Order:
    """What sorts versions by age: numbers as https://semver.org orders them stand above dates (a
    code system that was dated and is now numbered moved to its new home), these above any text."""
    if _DATE.fullmatch(version):
        return 1, (), (), version.replace("-", "")
    found = _NUMBERS.fullmatch(version)
    if found is None:
        return 0, (), (), version
    numbers = tuple(map(int, found[1].split(".")))
    while numbers and numbers[-1] == 0:  # 1.0 is 1.0.0
        numbers = numbers[:-1]
    return 2, numbers, _before(found[2]), version


def fits(asked: str, version: str) -> bool:
    """Whether a version is the one asked for, or one of the line that is asked for: 4.0 fits
    4.0.1."""
    return version == asked or version.startswith(asked + ".")


def _before(label: str | None) -> tuple[tuple[int, int, str], ...]:
    """What stands after a hyphen came before the release itself."""
    if label is None:
        return ((2, 0, ""),)
    return tuple(
        (0, int(part), "") if part.isdecimal() and len(part) < 10 else (1, 0, part)
        for part in label.split(".")
    )
