"""Searches answered: the searchset Bundle, its includes, its total and its sealed links.

https://hl7.org/fhir/R4/search.html, https://hl7.org/fhir/R4/bundle.html#searchset
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from conformance.json import encode, parse
from conformance.outcome import FhirError, Issue, outcome
from fhir_server import access, sight
from fhir_server.audit.search import count_events, find_events, refuse_hidden
from fhir_server.core import Core, Step
from fhir_server.formats import Shape, shaped
from fhir_server.interaction import Interaction, Parameters, Result, query_of
from fhir_server.links import Link, Place
from fhir_server.packages import published
from fhir_server.search import params
from fhir_server.search.compartments import types_of, within
from fhir_server.search.context import Include, Vocabulary
from fhir_server.search.includes import include_queries
from fhir_server.storage.store import EVENTS, Found, Page, Version
from fhir_server.terminologies import searched

PAGE = "_page"  # the one parameter of a paging link
_READ_AT_ONCE = 100  # matches; a page of large resources is seen to be one before it is read
_ESTIMATE = 10_000  # an estimate is exact up to this


def context(
    step: Step, handling: str = "strict", vocabulary: Vocabulary | None = None
) -> params.SearchContext:
    """What parsing a search needs to know of this step and its caller; without a `vocabulary`
    value sets are those of packages only."""
    core, grant = step.core, step.grant
    known = vocabulary or core.guides.current.vocabulary.terminology
    return params.SearchContext(
        definitions=core.definitions,
        index=core.index,
        base_url=core.base_url,
        timezone=core.timezone,
        now=core.clock(),
        limits=core.limits,
        handling="lenient" if handling == "lenient" else "strict",
        visible=lambda type: access.visible(core, grant, type, "s"),
        check=lambda type: access.check_search(grant, type),
        conceal=lambda type, query: access.conceal(core, grant, type, query),
        vocabulary=known,
    )


async def search(step: Step, asked: Interaction, _: None) -> Result:
    """One page of a search on a type or on the system."""
    link = open_link(step, asked)
    parameters = link.parameters if link else asked.parameters
    after = link.after if link else None
    if asked.type is None:
        result = await _search_system(step, asked, parameters, after)
        return replace(result, asked=parameters) if link else result
    vocabulary = await searched(step, parameters)
    surroundings = context(step, asked.prefer.handling, vocabulary)
    parsed = within(asked, params.parse(asked.type, parameters, surroundings), surroundings)
    result = await _answer(step, asked, parsed, after)
    return replace(result, asked=parameters) if link else result


async def _answer(
    step: Step, asked: Interaction, parsed: params.Search, after: Place | None
) -> Result:
    total = await _total(step, parsed)
    known = published.found(step, parsed.type, parsed.used, asked.compartment is not None)
    if total is not None:
        total += len(known)
    links = [self_link(step.core, _path(asked), parsed.used)]
    if parsed.summary == "count" or parsed.count == 0:
        return await _result(step, asked, parsed, _Found(()), total, links)
    found = await _page(step, parsed, after)
    if found.after is None and known:
        found = found._replace(matches=(*found.matches, *known))
    if total is None and after is None and found.after is None:
        total = len(found.matches)
    links += _links(step, asked, parsed.used, found.after, links[0][1])
    return await _result(step, asked, parsed, found, total, links)


class _Found(NamedTuple):
    matches: tuple[Version, ...]
    included: tuple[Version, ...] = ()
    after: Place | None = None
    cut: bool = False


async def find(step: Step, parsed: params.Search, page: Page) -> Found:
    """One page of matches, audit events included."""
    if parsed.type == EVENTS:
        return await find_events(step, parsed.query, parsed.sort, page)
    refuse_hidden(parsed.query, parsed.type)
    return await step.tx.find(parsed.type, parsed.query, parsed.sort, page)


async def _total(step: Step, parsed: params.Search) -> int | None:
    counted = parsed.summary == "count" or parsed.count == 0 or parsed.total == "accurate"
    if not counted and parsed.total != "estimate":
        return None
    bound = None if counted else _ESTIMATE
    if parsed.type == EVENTS:
        return await count_events(step, parsed.query)
    counted_up = await step.tx.count(parsed.type, parsed.query, bound)
    return None if counted_up == bound else counted_up


async def _page(step: Step, parsed: params.Search, after: Place | None) -> _Found:
    """A page of matches and what they include. When they would include too much, the page ends
    earlier; when a single match does, what is included is cut, and said to be."""
    limits = step.core.limits
    size = min(parsed.count or limits.default_page, limits.page)
    while True:
        found = await _matches(step, parsed, Page(size, after))
        included = await _included(step, parsed, found.versions)
        if len(included) <= limits.included or size == 1:
            break
        size = max(1, min(size, len(found.versions)) // 2)
    cut = len(included) > limits.included
    return _Found(found.versions, tuple(included[: limits.included]), found.after, cut)


async def _matches(step: Step, parsed: params.Search, page: Page) -> Found:
    """One page of matches that ends earlier when its resources are large."""
    most, after = step.core.limits.page_bytes, page.after
    versions: list[Version] = []
    while True:
        size = min(_READ_AT_ONCE, page.limit - len(versions))
        found = await find(step, parsed, Page(size, after))
        versions += found.versions
        after = found.after
        if after is None or len(versions) == page.limit:
            break
        most -= sum([len(each.body) for each in found.versions])
        if most < 0:
            break
    return Found(tuple(versions), after)


# --- includes ------------------------------------------------------------------------------------


async def _included(step: Step, parsed: params.Search, matches: Sequence[Version]) -> list[Version]:
    """What _include and _revinclude add, each resource once, at most one beyond the limit."""
    if not parsed.includes:
        return []
    known = {(each.type, each.id) for each in matches}
    added: list[Version] = []
    fresh: Sequence[Version] = matches
    includes: Iterable[Include] = parsed.includes
    for _ in range(step.core.limits.iterations):
        found = await _round(step, includes, fresh, known)
        added += found
        includes = tuple(each for each in parsed.includes if each.iterate)
        fresh = found
        if not found or not includes or len(added) > step.core.limits.included:
            break
    return added[: step.core.limits.included + 1]


async def _round(
    step: Step,
    includes: Iterable[Include],
    fresh: Sequence[Version],
    known: set[tuple[str, str]],
) -> list[Version]:
    most = step.core.limits.included + 1
    keys: dict[str, list[str]] = {}
    for each in fresh:
        keys.setdefault(each.type, []).append(each.id)
    found: list[Version] = []
    surroundings = context(step)
    for include in includes:
        for type, query in include_queries(include, keys, surroundings):
            if type == EVENTS and include.source != EVENTS:
                continue  # every resource has events: they come only when they are named
            page = (await step.tx.find(type, query, (), Page(most))).versions
            new = [each for each in page if (each.type, each.id) not in known]
            known.update((each.type, each.id) for each in new)
            found += new
            if len(found) >= most:
                return found
    return found


# --- the system ----------------------------------------------------------------------------------


async def _search_system(
    step: Step, asked: Interaction, parameters: Parameters, after: Place | None
) -> Result:
    """Type after type, in the order of _type; every parameter must be one of each type."""
    rest = tuple(pair for pair in parameters if pair[0] != "_type")
    surroundings = context(step, asked.prefer.handling, await searched(step, parameters))
    types = _types(step, asked, parameters)
    searches = [
        within(asked, params.parse(type, rest, surroundings), surroundings) for type in types
    ]
    if any(each.sort or each.includes for each in searches):
        raise FhirError("not-supported", "_sort and _include need a search on one type", status=400)
    first = searches[0]
    totals = [await _total(step, each) for each in searches]
    total = None if None in totals else sum(each or 0 for each in totals)
    used = (*(pair for pair in parameters if pair[0] == "_type"), *first.used)
    links = [self_link(step.core, _path(asked), used)]
    if first.summary == "count" or first.count == 0:
        return await _result(step, asked, first, _Found(()), total, links)
    found = await _system_page(step, searches, after)
    if total is None and after is None and found.after is None:
        total = len(found.matches)
    links += _links(step, asked, used, found.after, links[0][1])
    return await _result(step, asked, first, found, total, links)


def _types(step: Step, asked: Interaction, parameters: Parameters) -> list[str]:
    """The types to search: those named, which the caller must be allowed to search; else all of the
    compartment that it is, or all there are. Events come only when they are named. FhirError."""
    core, grant = step.core, step.grant
    known = core.definitions.types
    if asked.compartment:
        known = types_of(asked.compartment[0], core.definitions)
    named = [t for name, value in parameters if name == "_type" for t in value.split(",")]
    for type in named:
        if type not in known:
            raise FhirError("value", "_type names something that is not a resource type here")
        access.check_search(grant, type)
    if named:
        return list(dict.fromkeys(named))
    found = sorted(type for type in known - {EVENTS} if access.covers(grant, type, "s"))
    if not asked.compartment or not found:
        access.check_search(grant, access.ANY)
    return found


async def _system_page(
    step: Step, searches: Sequence[params.Search], after: Place | None
) -> _Found:
    limits = step.core.limits
    size = min(searches[0].count or limits.default_page, limits.page)
    start = int(after[0] or 0) if after else 0
    place: Place | None = after[1:] if after and len(after) > 1 else None
    matches: list[Version] = []
    for number in range(start, len(searches)):
        found = await _matches(step, searches[number], Page(size - len(matches), place))
        matches += found.versions
        place = None
        if found.after is not None:
            return _Found(tuple(matches), after=(number, *found.after))
        if len(matches) == size and number + 1 < len(searches):
            return _Found(tuple(matches), after=(number + 1,))
    return _Found(tuple(matches))


# --- links ---------------------------------------------------------------------------------------


def open_link(step: Step, asked: Interaction) -> Link | None:
    """The link that the request follows, if it does. FhirError 404 when it is not this caller's,
    not this search's, or too old."""
    sealed = [value for name, value in asked.parameters if name == PAGE]
    if not sealed:
        return None
    core = step.core
    link = core.links.open(sealed[0], _caller(step), core.clock())
    if (
        link is None
        or len(asked.parameters) > 1
        or (link.code, link.type, link.id) != (asked.code, asked.type, _subject(asked))
    ):
        raise FhirError("not-found", "This page does not exist (any more); start the search again")
    return link


def _caller(step: Step) -> str:
    """Whose a link is: another grant of the same person opens other pages."""
    grant = step.grant
    return f"grant {grant.id}" if grant.id else grant.agent or grant.name


def _subject(asked: Interaction) -> str | None:
    """What a link is about besides its type: an instance or a compartment."""
    return "/".join(asked.compartment) if asked.compartment else asked.id


def _path(asked: Interaction) -> str:
    """The path of a search below the base."""
    if asked.compartment is None:
        return asked.type or ""
    return "/".join((*asked.compartment, asked.type or access.ANY))


def self_link(core: Core, path: str, parameters: Parameters) -> tuple[str, str]:
    """The link that shows what was asked, as it was understood."""
    query = query_of(parameters)
    url = f"{core.base_url}/{path}" if path else core.base_url
    return "self", f"{url}?{query}" if query else url


def page_link(step: Step, path: str, link: Link) -> str:
    """The URL of a further page."""
    sealed = step.core.links.seal(link, _caller(step))
    base = f"{step.core.base_url}/{path}" if path else step.core.base_url
    return f"{base}?{PAGE}={sealed}"


def _links(
    step: Step, asked: Interaction, used: Parameters, after: Place | None, first: str
) -> list[tuple[str, str]]:
    links = [("first", first)]
    if after is not None:
        expires = step.core.clock() + step.core.limits.link_seconds * 1_000_000
        link = Link(asked.code, asked.type, _subject(asked), used, after, expires)
        links.append(("next", page_link(step, _path(asked), link)))
    return links


# --- bundles -------------------------------------------------------------------------------------


_MATCH, _INCLUDE = (f',"search":{{"mode":"{mode}"}}}}'.encode() for mode in ("match", "include"))


async def _result(
    step: Step,
    asked: Interaction,
    parsed: params.Search,
    found: _Found,
    total: int | None,
    links: Sequence[tuple[str, str]],
) -> Result:
    shape = Shape(_shape_of(parsed.summary), frozenset(parsed.elements))
    versions = await sight.reveal(step, (*found.matches, *found.included))
    matches = len(found.matches)
    made = _entries(step.core, versions[:matches], _MATCH, shape if shape.changes else None)
    made += _entries(step.core, versions[matches:], _INCLUDE)
    notes = [*parsed.ignored]
    if found.cut:
        most = step.core.limits.included
        text = f"Only {most} included resources are shown; search for the others by themselves"
        notes.append(Issue("warning", "too-costly", text))
    if notes:
        made.append(b'{"resource":' + encode(outcome(notes)) + b',"search":{"mode":"outcome"}}')
    touched = [(v.type, v.id, None) for v in versions if v.type == EVENTS]
    if asked.compartment:
        touched.append((*asked.compartment, None))
    return Result(
        200,
        bundle("searchset", made, links, total),
        touched=tuple(touched),
        patients=tuple(dict.fromkeys([v.owner for v in versions if v.owner])),
    )


def _shape_of(summary: str | None) -> str | None:
    return None if summary in (None, "false", "count") else summary


def _entries(
    core: Core, versions: Sequence[Version], mode: bytes, shape: Shape | None = None
) -> list[bytes]:
    """The entries of a Bundle for these versions; of the elements that `shape` leaves."""
    bodies = [version.body for version in versions]
    if shape is not None:
        bodies = [encode(shaped(parse(body), shape, core.definitions)) for body in bodies]
    start = f'{{"fullUrl":"{core.base_url}/'
    return [
        f'{start}{version.type}/{version.id}","resource":'.encode() + body + mode
        for version, body in zip(versions, bodies, strict=True)
    ]


def bundle(
    type: str,
    entries: Sequence[bytes],
    links: Sequence[tuple[str, str]] = (),
    total: int | None = None,
) -> bytes:
    """A Bundle's bytes from those of its entries."""
    head = f'{{"resourceType":"Bundle","type":"{type}"'
    if total is not None:
        head += f',"total":{total}'
    parts = [head.encode()]
    if links:
        shown = [{"relation": relation, "url": url} for relation, url in links]
        parts.append(b',"link":' + encode(shown))
    if entries:
        parts.append(b',"entry":[' + b",".join(entries) + b"]")
    return b"".join(parts) + b"}"
