"""How long resources are kept, as the setting says it: a number of days by type.

https://gdpr-info.eu/art-5-gdpr/ (e: storage limitation)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

_DAYS = {"d": 1, "m": 30, "y": 365}
_RULE = re.compile(r"([A-Z][A-Za-z]+)=([1-9][0-9]{0,4})([dmy])", re.ASCII)
_OTHERWISE: Mapping[str, str] = {
    "Patient": "A Patient does not end by its age: `salus patient erase` is for that",
    "AuditEvent": "AuditEvent has a setting of its own: SALUS_AUDIT_YEARS",
}


class Rule(NamedTuple):
    """Resources of a type are kept for so many days."""

    type: str
    days: int


def read_rules(parts: Sequence[str], types: Collection[str]) -> tuple[Rule, ...]:
    """Rules as the setting writes them: `Observation=3650d`, `Communication=2y`. ValueError."""
    found: dict[str, Rule] = {}
    for part in parts:
        match = _RULE.fullmatch(part)
        if match is None:
            raise ValueError(f"`{part}` is not TYPE=NUMBER and d, m or y, as in Observation=10y")
        type, number, unit = match.groups()
        if type not in types:
            raise ValueError(f"R4 has no resource type {type}")
        if type in _OTHERWISE:
            raise ValueError(_OTHERWISE[type])
        if type in found:
            raise ValueError(f"{type} is there twice")
        found[type] = Rule(type, int(number) * _DAYS[unit])
    return tuple(found.values())
