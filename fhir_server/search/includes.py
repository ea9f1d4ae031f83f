"""_include and _revinclude: what a page of matches brings with it.

https://hl7.org/fhir/R4/search.html#include
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from fhir_server.search.context import Include, SearchContext, Unsupported, malformed
from fhir_server.search.nearest import nearest
from fhir_server.search.parameters import Parameter
from fhir_server.search.ranges import any_of
from fhir_server.search.references import link
from fhir_server.storage.store import ID, All, Condition, Match, Query, ReferredBy

__all__ = ["Include", "include_queries", "read_include"]

ANY = "*"
_ITERATE = frozenset({"iterate", "recurse"})  # recurse: what STU3 called it


def read_include(type: str, name: str, value: str, context: SearchContext) -> Include:
    """`_include[:iterate]=Source:param[:Target]`, `Source:*` or `*`, in a search on `type`.
    Unsupported for what does not exist, FhirError 403 for a type that the caller may not search."""
    what, _, modifier = name.partition(":")
    if modifier and modifier not in _ITERATE:
        raise Unsupported(f"`{what}` has no modifier `:{modifier}`; it takes :iterate")
    iterate, reverse = bool(modifier), what == "_revinclude"
    if value == ANY:
        return Include(ANY if reverse or iterate else type, ANY, None, iterate, reverse)
    source, *rest = value.split(":")
    if not 1 <= len(rest) <= 2 or not all(rest):
        raise malformed(f"A value of `{what}` is written Type:parameter, Type:parameter:Type or *")
    include = Include(source, rest[0], rest[1] if len(rest) > 1 else None, iterate, reverse)
    _refuse_unknown(include, type, what, context)
    return include


def _refuse_unknown(include: Include, type: str, what: str, context: SearchContext) -> None:
    types = context.definitions.types
    for named in filter(None, (include.source, include.target)):
        if named not in types:
            raise Unsupported(f"`{what}` names a type that does not exist{nearest(named, types)}")
    if not (include.reverse or include.iterate) and include.source != type:
        raise Unsupported(
            f"`{what}={include.source}:...` adds nothing to a search on {type};"
            f" write `{what}:iterate` to follow references of what was included"
        )
    found = _referring(include, context)
    if include.param != ANY and not found:
        context.require_built(include.source, include.param)
        codes = [each.code for each in _references(include.source, context)]
        raise Unsupported(
            f"`{include.param}` is no reference parameter of {include.source}"
            f"{nearest(include.param, codes)}"
        )
    if include.target and include.param != ANY and include.target not in found[0].targets:
        raise Unsupported(f"`{include.param}` of {include.source} refers to no {include.target}")
    context.check(include.source)
    if include.target:
        context.check(include.target)
    elif include.param != ANY and not include.reverse:
        _require_some(found[0].targets, context)


def _require_some(targets: Sequence[str], context: SearchContext) -> None:
    """At least one of the types that an include may bring must be the caller's to search."""
    if targets and not any(context.allowed(target) for target in targets):
        context.check(targets[0])


def _references(type: str, context: SearchContext) -> list[Parameter]:
    return [each for each in context.index.parameters(type).values() if each.kind == "reference"]


def _referring(include: Include, context: SearchContext) -> list[Parameter]:
    """The reference parameters of the source type that the include follows. For `*` those with
    entries of their own: the others say nothing more."""
    references = _references(include.source, context)
    if include.param == ANY:
        return [each for each in references if each.own]
    return [each for each in references if each.code == include.param]


def include_queries(
    include: Include, page: Mapping[str, Collection[str]], context: SearchContext
) -> list[tuple[str, Query]]:
    """What an include adds to the resources on a page (ids by type): types and the queries that
    find them there, the caller's rights among them."""
    found = (_referring_to if include.reverse else _referred_by)(include, page, context)
    return _allowed(found, context)


def _referred_by(
    include: Include, page: Mapping[str, Collection[str]], context: SearchContext
) -> Mapping[str, list[Query]]:
    by_target: dict[str, list[Query]] = {}
    for source, ids in page.items():
        if include.source not in (source, ANY) or not ids:
            continue
        on_page = Match(ID, "token", (Condition("code", "in", frozenset(ids)),))
        for parameter in _referring(include._replace(source=source), context):
            for target in _targets(include, parameter):
                queries = by_target.setdefault(target, [])
                queries += [ReferredBy(source, key, on_page) for key in parameter.keys]
    return by_target


def _targets(include: Include, parameter: Parameter) -> Collection[str]:
    if include.target is None:
        return parameter.targets
    return (include.target,) if include.target in parameter.targets else ()


def _referring_to(
    include: Include, page: Mapping[str, Collection[str]], context: SearchContext
) -> Mapping[str, list[Query]]:
    sources = sorted(context.definitions.types) if include.source == ANY else [include.source]
    found: dict[str, list[Query]] = {}
    for source in sources:
        for parameter in _referring(include._replace(source=source), context):
            for type, ids in page.items():
                if type in _targets(include, parameter) and ids:
                    queries = found.setdefault(source, [])
                    queries += [link(key, (type,), ids) for key in parameter.keys]
    return found


def _allowed(found: Mapping[str, list[Query]], context: SearchContext) -> list[tuple[str, Query]]:
    """Types that the caller may not search are left out: those an include names have been
    refused when it was read."""
    return [
        (type, All((any_of(queries), context.visible(type))))
        for type, queries in found.items()
        if context.allowed(type)
    ]
