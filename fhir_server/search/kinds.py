"""The types of search parameters: how each writes entries and what each modifier asks of them.

A new modifier is one function in the file of its type and one line in that file's table.
https://hl7.org/fhir/R4/search.html#ptypes
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from conformance.definitions import Definitions
from conformance.fhirpath.search import Hit
from fhir_server.search import (
    moments,
    phonetic,
    quantities,
    references,
    strings,
    tokens,
    uris,
)
from fhir_server.search.context import Modifiers, SearchContext, Unsupported
from fhir_server.search.nearest import shown
from fhir_server.search.parameters import PHONETIC, Parameter
from fhir_server.search.place import PRESENT, Add, Factory, Place, Writer, presence
from fhir_server.search.ranges import any_of
from fhir_server.storage.store import Condition, Match, Not, Query, Shape


class Kind(NamedTuple):
    """`shapes` are what its entries are; the first is what it sorts by."""

    shapes: tuple[Shape, ...]
    writers: Mapping[str, Factory]  # by datatype
    modifiers: Modifiers


KINDS: Mapping[str, Kind] = {
    "token": Kind(("token",), tokens.WRITERS, tokens.MODIFIERS),
    "string": Kind(("text",), strings.WRITERS, strings.MODIFIERS),
    "reference": Kind(("link", "token"), references.WRITERS, references.MODIFIERS),
    "date": Kind(("range",), moments.WRITERS, moments.MODIFIERS),
    "number": Kind(("range",), quantities.NUMBER_WRITERS, quantities.NUMBER_MODIFIERS),
    "quantity": Kind(("range",), quantities.QUANTITY_WRITERS, quantities.QUANTITY_MODIFIERS),
    "uri": Kind(("token",), uris.WRITERS, uris.MODIFIERS),
    PHONETIC: Kind(("token",), phonetic.WRITERS, phonetic.MODIFIERS),
}

# What FHIRPath calls the results of operators.
_SYSTEM_TYPES = {"System.Boolean": "boolean", "System.String": "string"}


def writer(parameter: Parameter, param: str, datatype: str, place: Place) -> Writer:
    """What writes the entries of `param` for one value of a datatype."""
    datatype = _SYSTEM_TYPES.get(datatype, datatype)
    factory = KINDS[parameter.kind].writers.get(datatype)
    return (factory or presence)(param, place)


def hit_writer(
    parameter: Parameter, param: str, place: Callable[[str], Place]
) -> Callable[[Hit, Add], None]:
    """What writes the entries of `param` for what FHIRPath finds. `place` tells of an element's
    path; it is asked once for each datatype and path."""
    writers: dict[tuple[str, str], Writer] = {}

    def write(hit: Hit, add: Add) -> None:
        datatype, value, path = hit
        key = (datatype, path)
        if key not in writers:
            writers[key] = writer(parameter, param, datatype, place(path))
        writers[key](value, add)

    return write


def systems(definitions: Definitions, path: str) -> Mapping[str, str] | str | None:
    """The code system that the required binding of an element implies for its bare codes: one, or
    one for each code where the value set draws on several."""
    try:
        binding = definitions.element(path).binding
    except KeyError:
        return None
    if binding is None or binding.strength != "required":
        return None
    lists = definitions.code_lists.get(binding.value_set)
    if lists is None:
        named = definitions.open_lists.get(binding.value_set, ())
        return named[0] if len(named) == 1 else None
    if len(lists) == 1:
        return next(iter(lists))
    return {code: system for system, codes in lists.items() for code in codes}


def query(
    parameter: Parameter, modifier: str | None, values: Sequence[str], context: SearchContext
) -> Query:
    """What some one of the values asks for. Unsupported for a modifier that the parameter's type
    does not have; FhirError for a value that cannot be read."""
    kind = KINDS.get(parameter.kind)
    if kind is None:
        raise Unsupported(f"`{parameter.code}` of {parameter.type} cannot be searched here")
    if parameter.kind == "reference" and modifier in context.definitions.types:
        return references.of_type(parameter, values, context, _target(parameter, modifier or ""))
    asked = kind.modifiers.get(modifier)
    if asked is None:
        raise Unsupported(
            f"`{parameter.code}` of {parameter.type} ({parameter.kind}) has no modifier"
            f" `:{shown(modifier or '')}`; it takes {_listed(kind.modifiers)}"
        )
    return asked(parameter, values, context)


def _target(parameter: Parameter, type: str) -> str:
    if parameter.targets and type not in parameter.targets:
        raise Unsupported(
            f"`{parameter.code}` of {parameter.type} refers to"
            f" {', '.join(parameter.targets)}, not to {type}"
        )
    return type


def _listed(modifiers: Collection[str | None]) -> str:
    return " ".join(sorted(f":{each}" for each in (*modifiers, "missing") if each))


def present(parameter: Parameter) -> Query:
    """There is a value. Unsupported where no entry of its own says so."""
    if parameter.members:
        return any_of([present(each) for each in parameter.members])
    kind = KINDS.get(parameter.kind)
    if kind is None:
        raise Unsupported(f"`{parameter.code}` of {parameter.type} has no modifier `:missing`")
    if parameter.only:
        narrowed = (Condition("system", "eq", parameter.only),)
        return any_of([Match(key, "link", narrowed) for key in parameter.keys])
    found: list[Query] = [Match(key, shape) for key in parameter.keys for shape in kind.shapes]
    if not parameter.code.startswith("_"):
        found += [Match(key + PRESENT, "token") for key in parameter.keys]
    return any_of(found)


def missing(parameter: Parameter) -> Query:
    """There is no value."""
    return Not(present(parameter))
