"""The units, read from the published essence of UCUM when the first one is asked for.

https://ucum.org/ucum#section-Tables-of-Terminal-Symbols
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from terminology.ucum.grammar import Atom, Prefix

_FILE = Path(__file__).with_name("ucum-essence.xml")
_NS = "{http://unitsofmeasure.org/ucum-essence}"


class Defined(NamedTuple):
    """What a unit is worth: `value` times `unit`, of which a special unit's `function` is taken.
    A base unit has no `unit`; `arbitrary` units are dimensions of their own."""

    value: Fraction
    unit: str | None
    function: str | None
    arbitrary: bool
    symbol: str | None
    property: str | None


class Table(NamedTuple):
    version: str
    atoms: Mapping[str, Atom]
    prefixes: Mapping[str, Prefix]
    factors: Mapping[str, Fraction]  # of prefixes
    defined: Mapping[str, Defined]  # of atoms
    dimensions: tuple[str, ...]  # base units, in the order of the file


@cache
def table() -> Table:
    """The table of the file beside this module: some milliseconds, once."""
    root = ElementTree.fromstring(_FILE.read_bytes())
    prefixes = {each.attrib["Code"]: each for each in root.iter(f"{_NS}prefix")}
    bases = {each.attrib["Code"]: each for each in root.iter(f"{_NS}base-unit")}
    units = {each.attrib["Code"]: each for each in root.iter(f"{_NS}unit")}
    return Table(
        root.attrib["version"],
        {code: Atom(code, _name(each), True) for code, each in bases.items()}
        | {
            code: Atom(code, _name(each), each.get("isMetric") == "yes")
            for code, each in units.items()
        },
        {code: Prefix(code, _name(each)) for code, each in prefixes.items()},
        {code: Fraction(_value(each).attrib["value"]) for code, each in prefixes.items()},
        {code: _base(each) for code, each in bases.items()}
        | {code: _defined(each) for code, each in units.items()},
        tuple(bases),
    )


def _base(element: ElementTree.Element) -> Defined:
    said = _said(element, "printSymbol"), _said(element, "property")
    return Defined(Fraction(1), None, None, False, *said)


def _defined(element: ElementTree.Element) -> Defined:
    value = _value(element)
    function = value.find(f"{_NS}function")
    source = value if function is None else function
    return Defined(
        Fraction(source.attrib["value"]),
        source.attrib["Unit"],
        None if function is None else function.attrib["name"],
        element.get("isArbitrary") == "yes",
        _said(element, "printSymbol"),
        _said(element, "property"),
    )


def _value(element: ElementTree.Element) -> ElementTree.Element:
    found = element.find(f"{_NS}value")
    assert found is not None  # of every prefix and unit of the file
    return found


def _name(element: ElementTree.Element) -> str:
    """The first of the names, in one line."""
    return _said(element, "name") or element.attrib["Code"]


def _said(element: ElementTree.Element, name: str) -> str | None:
    found = element.find(f"{_NS}{name}")
    return None if found is None else " ".join("".join(found.itertext()).split()) or None
