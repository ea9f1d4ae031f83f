"""One search parameter of the URL as a query: its modifier, its chain, its _has.

https://hl7.org/fhir/R4/search.html#chaining, https://hl7.org/fhir/R4/search.html#has
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from conformance.outcome import FhirError
from fhir_server.search import composites, kinds
from fhir_server.search.context import SearchContext, Unsupported, malformed
from fhir_server.search.literals import split
from fhir_server.search.nearest import nearest, shown
from fhir_server.search.parameters import Parameter
from fhir_server.search.ranges import any_of
from fhir_server.storage.store import Query, ReferredBy, RefersTo

HAS = "_has"
_AMBIGUOUS = 12  # ways that a chain may lead over types that it does not name


class Way(NamedTuple):
    """How a chain came here: its hops, and over how many sequences of types."""

    hops: int = 0
    ways: int = 1


_START = Way()
_FLAGS = {"true": kinds.missing, "false": kinds.present}


def read(type: str, name: str, value: str, context: SearchContext, way: Way = _START) -> Query:
    """The query of one parameter of a search on `type`. Unsupported for what this server does not
    know, FhirError for a value that cannot be read or a type that may not be searched."""
    if way.hops > context.limits.chain:
        raise FhirError(
            "too-costly", f"A chain has at most {context.limits.chain} hops", status=400
        )
    if name == HAS or name.startswith(f"{HAS}:"):
        return _reverse(type, name, value, context, way)
    first, dot, rest = name.partition(".")
    code, _, modifier = first.partition(":")
    parameter = _parameter(type, code, context)
    if dot:
        return _chained(parameter, modifier, rest, value, context, way)
    if modifier == "missing":
        return _missing(parameter, value)
    values = split(value, ",")
    _refuse_too_many(parameter, values, context)
    if parameter.kind != "composite":
        return kinds.query(parameter, modifier or None, values, context)
    if modifier:
        raise Unsupported(f"`{code}` of {type} (composite) has no modifier `:{shown(modifier)}`")
    return composites.query(parameter, values, context)


def _parameter(type: str, code: str, context: SearchContext) -> Parameter:
    known = context.index.parameters(type)
    parameter = known.get(code)
    if parameter is None:
        context.require_built(type, code)
        raise Unsupported(
            f"`{shown(code)}` is not a search parameter of {type}{nearest(code, known)}"
        )
    return parameter


def _missing(parameter: Parameter, value: str) -> Query:
    asked = _FLAGS.get(value)
    if asked is None:
        raise malformed(f"`{parameter.code}:missing` of {parameter.type} is true or false")
    return asked(parameter)


def _refuse_too_many(parameter: Parameter, values: Sequence[str], context: SearchContext) -> None:
    if len(values) > context.limits.values:
        raise FhirError(
            "too-costly",
            f"`{parameter.code}` of {parameter.type} takes at most {context.limits.values} values",
            status=400,
        )
    if not all(values):
        raise malformed(f"`{parameter.code}` of {parameter.type} has an empty value")


# --- chains --------------------------------------------------------------------------------------


def _chained(
    parameter: Parameter, type: str, rest: str, value: str, context: SearchContext, way: Way
) -> Query:
    """`reference.rest` or `reference:Type.rest`."""
    if parameter.kind != "reference":
        raise Unsupported(
            f"`{parameter.code}` of {parameter.type} is a {parameter.kind}, so nothing can be"
            " chained to it"
        )
    targets = _named(parameter, type, context) if type else _possible(parameter, rest, context, way)
    onward = Way(way.hops + 1, way.ways * len(targets))
    return any_of(
        [
            RefersTo(key, target, _visible(target, rest, value, context, onward))
            for target in targets
            for key in parameter.keys
        ]
    )


def _visible(type: str, rest: str, value: str, context: SearchContext, way: Way) -> Query:
    return context.seen(type, read(type, rest, value, context, way))


def _named(parameter: Parameter, type: str, context: SearchContext) -> list[str]:
    if type not in context.definitions.types or type not in parameter.targets:
        raise Unsupported(
            f"`{parameter.code}` of {parameter.type} has no target `{shown(type)}`"
            f"{nearest(type, parameter.targets)}"
        )
    context.check(type)
    return [type]


def _possible(parameter: Parameter, rest: str, context: SearchContext, way: Way) -> list[str]:
    """The types that the chain may lead to: those that have its next parameter, and that the
    caller may search; at least one must be left of each."""
    code = rest.partition(".")[0].partition(":")[0]
    for target in parameter.targets:
        context.require_built(target, code)
    known = [
        target
        for target in parameter.targets
        if code == HAS or code in context.index.parameters(target)
    ]
    if not known:
        raise Unsupported(
            f"`{shown(code)}` is not a search parameter of any type that `{parameter.code}` of"
            f" {parameter.type} refers to"
        )
    if way.ways * len(known) > _AMBIGUOUS:
        raise Unsupported(
            f"`{parameter.code}` of {parameter.type} refers to many types: name one, as in"
            f" `{parameter.code}:{known[0]}.{code}`"
        )
    if len(known) == 1:
        context.check(known[0])
        return known
    allowed = [target for target in known if context.allowed(target)]
    if not allowed:
        context.check(known[0])
    return allowed


def _reverse(type: str, name: str, value: str, context: SearchContext, way: Way) -> Query:
    """`_has:Source:reference:rest`: some Source refers to this and meets the rest."""
    parts = name.split(":", 3)
    if len(parts) != 4 or not all(parts):
        raise Unsupported("`_has` is written _has:Type:reference:parameter")
    _, source, code, rest = parts
    if source not in context.definitions.types:
        raise Unsupported(
            f"`_has` names a type that does not exist{nearest(source, context.definitions.types)}"
        )
    context.check(source)
    parameter = _parameter(source, code, context)
    if parameter.kind != "reference" or (parameter.targets and type not in parameter.targets):
        raise Unsupported(f"`{code}` of {source} does not refer to {type}")
    found = _visible(source, rest, value, context, way._replace(hops=way.hops + 1))
    return any_of([ReferredBy(source, key, found) for key in parameter.keys])
