"""Countries and their subdivisions (ISO 3166), areas of the world (UN M49), states of the USA.

https://hl7.org/fhir/R4/iso3166.html, https://unstats.un.org/unsd/methodology/m49
"""

from __future__ import annotations

from collections.abc import Iterator

from terminology.provider import Concept, Designation, Property
from terminology.providers.contents import content
from terminology.providers.listed import Listed

# The states of the USA are the subdivisions that are named for its mail, and these besides.
_MORE_STATES = {
    "AA": "Armed Forces Americas",
    "AE": "Armed Forces Europe, the Middle East, and Canada",
    "AP": "Armed Forces Pacific",
    "FM": "Federated States of Micronesia",
    "MH": "Marshall Islands",
    "PW": "Palau",
    "VI": "Virgin Islands of the U.S.",
}
_NOT_STATES = frozenset(("UM",))


def countries() -> Listed:
    """ISO 3166-1: alpha-2, alpha-3 and numeric codes are concepts beside each other."""
    return Listed(
        "urn:iso:std:iso:3166", "ISO 3166-1 Countries", "2018", _countries, ("numeric", "alpha-3")
    )


def subdivisions() -> Listed:
    """ISO 3166-2: provinces, states and their like."""
    return Listed(
        "urn:iso:std:iso:3166:-2", "ISO 3166-2 Subdivisions", None, _subdivisions, _WITHIN
    )


def areas() -> Listed:
    """UN M49: continents, their parts, and countries by number."""
    url = "http://unstats.un.org/unsd/methods/m49/m49.htm"
    return Listed(url, "UN M49 Areas", None, _areas, ("class", "parent"))


def states() -> Listed:
    """What the postal service of the USA calls states and possessions."""
    return Listed("https://www.usps.com/", "USPS States", None, _states)


_WITHIN = ("country", "parent")


def _countries() -> Iterator[Concept]:
    listed: dict[str, list[str]] = content("countries")["countries"]
    for place in range(3):
        for alpha_2, (alpha_3, numeric, name, usual) in listed.items():
            code = (alpha_2, alpha_3, numeric)[place]
            also = (Designation("en", usual),) if usual != name else ()
            told = (Property("alpha-3", "string", alpha_3), Property("numeric", "string", numeric))
            yield Concept(code, name, designations=also, properties=told)


def _subdivisions() -> Iterator[Concept]:
    listed: dict[str, list[str]] = content("subdivisions")["subdivisions"]
    for code, (name, parent) in listed.items():
        told = [Property("country", "string", code[:2])]
        if parent in listed:
            told.append(Property("parent", "code", parent))
        yield Concept(code, name, properties=tuple(told))


def _areas() -> Iterator[Concept]:
    listed: dict[str, list[str]] = content("areas")["areas"]
    for code, (name, parent, kind) in listed.items():
        told = [Property("class", "string", kind)]
        if parent:
            told.append(Property("parent", "code", parent))
        yield Concept(code, name[0].upper() + name[1:], properties=tuple(told))


def _states() -> Iterator[Concept]:
    listed: dict[str, list[str]] = content("subdivisions")["subdivisions"]
    named = {
        code[3:]: name
        for code, (name, parent) in listed.items()
        if parent == "US" and code[3:] not in _NOT_STATES
    }
    for code, name in sorted((named | _MORE_STATES).items()):
        yield Concept(code, name)
