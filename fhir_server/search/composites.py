"""Composite parameters: several values that hold together, in one and the same element.

The leading components are tokens, and a part of the entry's key: `code-value-quantity=system|code`
bears the quantity. https://hl7.org/fhir/R4/search.html#composite
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any, TypeAlias

from conformance.definitions import Definitions
from conformance.fhirpath.search import compile_relative, compile_search
from fhir_server.search import kinds, quantities
from fhir_server.search.context import SearchContext, malformed
from fhir_server.search.limit import room
from fhir_server.search.literals import escape, prefixed, split
from fhir_server.search.parameters import Parameter
from fhir_server.search.place import Place, range_entry
from fhir_server.search.ranges import alternatives, any_of
from fhir_server.search.tokens import Token, token
from fhir_server.search.units import IN
from fhir_server.storage.store import All, Entry, Match, Query

# Writes the entries of a resource whose other entries are there already.
Late: TypeAlias = Callable[[dict[str, Any], list[Entry]], None]

_VALUE = ""  # the param of a component's entries before they have their key


@lru_cache(maxsize=16_384)
def _exact(system: str | None, code: str) -> str:
    return f"{escape(system or '')}|{escape(code)}"


def _forms(entry: Entry) -> list[str]:
    """All that a search may write for a token: system and code, code alone, system alone."""
    of_system = [f"{escape(entry.system)}|"] if entry.system else []
    if entry.code is None:
        return of_system
    return [_exact(entry.system, entry.code), escape(entry.code), *of_system]


def _form(asked: Token) -> str:
    if asked.system is None:
        return escape(asked.code or "")
    return _exact(asked.system, asked.code or "")


def _key(parameter: Parameter, forms: Iterable[str]) -> str:
    return f"{parameter.code}={'$'.join(forms)}"


def ends_in_interval(parameter: Parameter) -> bool:
    """Whether the last two components are numbers: together the two ends of one range."""
    return [each.kind for each in parameter.components[-2:]] == ["number", "number"]


# --- entries -------------------------------------------------------------------------------------


def _own(param: str) -> tuple[str, str]:
    """A param, and the unit behind it with what parts them."""
    of, parted, unit = param.partition(IN)
    return of, parted + unit


def joined(parameter: Parameter) -> Late:
    """For components that speak of the resource itself: their own entries are there to be joined.
    Only under system and code: all else is asked of the components one by one."""
    *leading, last = [frozenset(each.keys) for each in parameter.components]

    def write(_: dict[str, Any], found: list[Entry]) -> None:
        ranges = [each for each in found if each[0] == "range" and _own(each[1])[0] in last]
        if not ranges:
            return
        tokens = [
            [_exact(e[2], e[3]) for e in found if e[1] in keys and e[0] == "token" and e[3]]
            for keys in leading
        ]
        room(found, prod(map(len, tokens)) * len(ranges), parameter.code)
        for chosen in product(*tokens):
            key = _key(parameter, chosen)
            found += [
                range_entry(key + _own(e[1])[1], e[5] or 0, e[6] or 0, e[2], e[3]) for e in ranges
            ]

    return write


def nodes(
    parameter: Parameter, part: str, definitions: Definitions, place: Callable[[str], Place]
) -> Late:
    """For components that speak of the elements that one part of the expression finds, each of
    which is taken by itself. `place` tells of an element's path."""
    find = compile_search(part, parameter.type, definitions)
    components: dict[str, list[_Component]] = {}  # by the path of the element
    bake = _intervals if ends_in_interval(parameter) else _values

    def write(resource: dict[str, Any], found: list[Entry]) -> None:
        for _, node, path in find(resource):
            if path not in components:
                components[path] = [
                    _component(each, expression, path, definitions, place)
                    for each, (_, expression) in zip(
                        parameter.components, parameter.definition.components, strict=True
                    )
                ]
            bake(parameter, [each(node, resource) for each in components[path]], found)

    return write


_Component: TypeAlias = Callable[[Any, dict[str, Any]], list[Entry]]


def _component(
    component: Parameter,
    expression: str,
    path: str,
    definitions: Definitions,
    place: Callable[[str], Place],
) -> _Component:
    """The entries of one component of one element, still without their key."""
    find = compile_relative(expression, path, definitions)
    shapes = kinds.KINDS[component.kind].shapes
    write = kinds.hit_writer(component, _VALUE, place)

    def entries(node: Any, resource: dict[str, Any]) -> list[Entry]:
        found: list[Entry] = []
        for hit in find(node, resource):
            write(hit, found.append)
            room(found, 0, component.code)
        return [each for each in found if not _own(each.param)[0] and each.shape in shapes]

    return entries


def _keys(
    parameter: Parameter, leading: Iterable[Sequence[Entry]], found: list[Entry], each: int
) -> list[str]:
    """The keys that the leading components make; under each of them `each` entries are written,
    and it is seen first that there is room for them."""
    spelled = [[form for each in these for form in _forms(each)] for these in leading]
    room(found, prod(map(len, spelled)) * each, parameter.code)
    return [_key(parameter, forms) for forms in product(*spelled)] if each else []


def _values(parameter: Parameter, components: Sequence[list[Entry]], found: list[Entry]) -> None:
    *leading, last = components
    for key in _keys(parameter, leading, found, len(last)):
        found += [each._replace(param=key + each.param) for each in last]


def _intervals(parameter: Parameter, components: Sequence[list[Entry]], found: list[Entry]) -> None:
    *leading, starts, ends = components
    for key in _keys(parameter, leading, found, len(starts) * len(ends)):
        found += [
            range_entry(key, start.low or 0, end.high or 0)
            for start, end in product(starts, ends)
            if (start.low or 0) <= (end.high or 0)
        ]


# --- queries -------------------------------------------------------------------------------------


def query(parameter: Parameter, values: Sequence[str], context: SearchContext) -> Query:
    """Some one of the values, each of them written component$component, holds."""
    if parameter.members:
        return any_of([query(each, values, context) for each in parameter.members])
    return any_of([_holds(parameter, split(value, "$"), context) for value in values])


def _holds(parameter: Parameter, parts: Sequence[str], context: SearchContext) -> Query:
    components = parameter.components
    if len(parts) != len(components) or not all(parts):
        raise malformed(
            f"A value of `{parameter.code}` of {parameter.type} is written"
            f" {'$'.join(each.code for each in components)}"
        )
    if parameter.conjunction and not _exactly_led(parameter, parts):
        each_holds = zip(components, parts, strict=True)
        return All(tuple(kinds.query(each, None, [text], context) for each, text in each_holds))
    if ends_in_interval(parameter):
        return _interval(parameter, parts)
    leading = zip(components[:-1], parts, strict=False)
    key = _key(parameter, [_form(token(each, text)) for each, text in leading])
    return kinds.query(replace(components[-1], keys=(key,)), None, [parts[-1]], context)


def _exactly_led(parameter: Parameter, parts: Sequence[str]) -> bool:
    """Whether the joined entries answer: they are kept for tokens with system and code only."""
    if not parameter.baked:
        return False
    leading = [token(*each) for each in zip(parameter.components[:-1], parts, strict=False)]
    return all(each.system is not None and each.code is not None for each in leading)


def _interval(parameter: Parameter, parts: Sequence[str]) -> Query:
    """The last two components compare with the two ends of one range."""
    *leading, starts, ends = parameter.components
    forms = [_form(token(each, text)) for each, text in zip(leading, parts, strict=False)]
    prefix, text = prefixed(parts[-2])
    low = alternatives(prefix, quantities.bounds(starts, prefix, text), "low", "low")
    prefix, text = prefixed(parts[-1])
    high = alternatives(prefix, quantities.bounds(ends, prefix, text), "high", "high")
    key = _key(parameter, forms)
    return any_of([Match(key, "range", (*one, *other)) for one, other in product(low, high)])
