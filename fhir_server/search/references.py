"""Reference parameters: resources of this server by type and id, all others by their address.

https://hl7.org/fhir/R4/search.html#reference
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fhir_server.search.context import Modifiers, SearchContext, malformed
from fhir_server.search.literals import unescape
from fhir_server.search.parameters import Parameter
from fhir_server.search.place import (
    Add,
    Factory,
    Place,
    Writer,
    add_present,
    link_entry,
    token_entry,
)
from fhir_server.search.ranges import any_of
from fhir_server.search.tokens import IDENTIFIER, identified
from fhir_server.storage.store import Condition, Match, Query

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:", re.ASCII)
# A parameter with more targets than this may refer to anything: a bare id is then any type's.
_MANY = 20


class Literal(NamedTuple):
    """A resource of this server."""

    type: str
    id: str


def literal(text: str, base_url: str, types: Collection[str]) -> Literal | None:
    """The resource that `Type/id` names, relative or below this server's base, with or without a
    version; None for every other reference."""
    if text.startswith(base_url) and text[len(base_url) : len(base_url) + 1] == "/":
        text = text[len(base_url) + 1 :]
    type, _, id = text.partition("/")
    if type not in types:
        return None
    if "/" in id:
        id, _, version = id.partition("/_history/")
        if not _ID.fullmatch(version):
            return None
    return Literal(type, id) if _ID.fullmatch(id) else None


# One patient is named in resource after resource.
_known_literal = lru_cache(maxsize=4_096)(literal)


# --- entries -------------------------------------------------------------------------------------


def _add_address(param: str, text: str, place: Place, add: Add) -> None:
    found = _known_literal(text, place.base_url, place.types)
    if found:
        add(link_entry(param, found[0], found[1]))
    else:
        add(token_entry(param, None, text))


def _reference(param: str, place: Place) -> Writer:
    identifiers = param + IDENTIFIER

    def write(value: Any, add: Add) -> None:
        text = value.get("reference")
        if text is None or text.startswith("#"):
            add_present(param, add)  # contained, logical or described: no resource of its own
        else:
            _add_address(param, text, place, add)
        identifier = value.get("identifier")
        if identifier and ("value" in identifier or "system" in identifier):
            add(token_entry(identifiers, identifier.get("system"), identifier.get("value")))

    return write


def add_canonical(param: str, text: str, add: Add) -> None:
    """A canonical is found with its version and without."""
    add(token_entry(param, None, text))
    url, bar, _ = text.partition("|")
    if bar:
        add(token_entry(param, None, url))


def _canonical(param: str, place: Place) -> Writer:
    def write(value: Any, add: Add) -> None:
        if value.startswith("#"):
            add_present(param, add)
            return
        add_canonical(param, value, add)
        found = literal(value.partition("|")[0], place.base_url, place.types)
        if found:  # so that chains and includes can follow it
            add(link_entry(param, found[0], found[1]))

    return write


def _resource(param: str, place: Place) -> Writer:
    def write(value: Any, add: Add) -> None:
        type, id = value.get("resourceType"), value.get("id")
        if type in place.types and id:
            add(link_entry(param, type, id))

    return write


WRITERS: Mapping[str, Factory] = {
    "Reference": _reference,
    "Resource": _resource,  # Bundle's composition and message
    **dict.fromkeys(("canonical", "uri", "url", "oid", "uuid"), _canonical),
}


# --- queries -------------------------------------------------------------------------------------


def link(key: str, types: Iterable[str], ids: Iterable[str]) -> Match:
    """An entry under `key` that names one of these ids of one of these types (none: any type)."""
    conditions = []
    for field, values in (("system", frozenset(types)), ("code", frozenset(ids))):
        if len(values) == 1:
            conditions.append(Condition(field, "eq", next(iter(values))))  # type: ignore[arg-type]
        elif values:
            conditions.append(Condition(field, "in", values))  # type: ignore[arg-type]
    return Match(key, "link", tuple(conditions))


def _named(parameter: Parameter, values: Sequence[str], context: SearchContext) -> Query:
    return _refers(parameter, values, context, parameter.targets)


def _refers(
    parameter: Parameter, values: Sequence[str], context: SearchContext, types: Sequence[str]
) -> Query:
    """`Type/id`, a bare id (of any of these types), or an address."""
    ids: dict[tuple[str, ...], list[str]] = {}
    addresses: list[str] = []
    for text in map(unescape, values):
        found = literal(text, context.base_url, context.definitions.types)
        if found:
            ids.setdefault((found.type,), []).append(found.id)
        elif _ID.fullmatch(text):
            ids.setdefault(tuple(types) if len(types) <= _MANY else (), []).append(text)
        elif _SCHEME.match(text):
            addresses.append(text)
        else:
            raise malformed(
                f"A value of `{parameter.code}` of {parameter.type} is written Type/id, id or as"
                " an absolute URL"
            )
    found_queries: list[Query] = []
    for key in parameter.keys:
        found_queries += [link(key, of, these) for of, these in ids.items()]
        if addresses:
            test = Condition("code", "in", frozenset(addresses))
            found_queries.append(Match(key, "token", (test,)))
    return any_of(found_queries)


def of_type(
    parameter: Parameter, values: Sequence[str], context: SearchContext, type: str
) -> Query:
    """`:[type]`: ids of that type."""
    for text in values:
        found = literal(text, context.base_url, context.definitions.types)
        if (found and found.type != type) or (not found and not _ID.fullmatch(text)):
            raise malformed(f"A value of `{parameter.code}:{type}` is the id of a {type}")
    return _refers(parameter, values, context, (type,))


MODIFIERS: Modifiers = {None: _named, "identifier": identified}
