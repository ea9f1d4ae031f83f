"""A unit in words, part for part of its code: `mg/dL` is (milligram) / (deciliter).

https://ucum.org/ucum#section-Grammar-of-Units-and-Unit-Terms
"""

from __future__ import annotations

from terminology.ucum.grammar import Component, Number, Simple, Term

_OPERATORS = {".": " * ", "/": " / "}


def words(term: Term) -> str:
    """The words of a parsed code."""
    said = ""
    for operator, component in term:
        if said or operator == "/":
            said += _OPERATORS[operator]
        said += _component(component)
    return said.strip()


def _component(component: Component) -> str:
    if isinstance(component, Number):
        return f"{component.value}{f' {component.annotation}' if component.annotation else ''}"
    if isinstance(component, Simple):
        return _simple(component)
    return f"({words(component)})"


def _simple(simple: Simple) -> str:
    if simple.atom is None:
        return f"({simple.annotation})"
    prefix = simple.prefix.name if simple.prefix else ""
    power = f" ^ {simple.exponent}" if simple.exponent != 1 else ""
    note = f" {simple.annotation}" if simple.annotation else ""
    return f"({prefix}{simple.atom.name}{power}{note})"
