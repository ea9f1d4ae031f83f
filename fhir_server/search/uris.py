"""Uri parameters: equal character by character, or by path with :above and :below.

https://hl7.org/fhir/R4/search.html#uri
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fhir_server.search.context import Modifiers, SearchContext, malformed
from fhir_server.search.literals import unescape
from fhir_server.search.parameters import Parameter
from fhir_server.search.place import Factory, Place, Writer, known_token
from fhir_server.search.ranges import any_of
from fhir_server.search.references import add_canonical
from fhir_server.storage.store import Condition, Match, Query


def _uri(param: str, _: Place) -> Writer:
    return lambda value, add: add(known_token(param, None, value))


def _canonical(param: str, _: Place) -> Writer:
    return lambda value, add: add_canonical(param, value, add)


WRITERS: Mapping[str, Factory] = {
    "canonical": _canonical,
    **dict.fromkeys(("uri", "url", "oid", "uuid"), _uri),
}


def _is_one_of(parameter: Parameter, asked: Sequence[str]) -> Query:
    test = (
        Condition("code", "eq", asked[0])
        if len(asked) == 1
        else Condition("code", "in", frozenset(asked))
    )
    return any_of([Match(key, "token", (test,)) for key in parameter.keys])


def _is(parameter: Parameter, values: Sequence[str], _: SearchContext) -> Query:
    return _is_one_of(parameter, [unescape(each) for each in values])


def _below(parameter: Parameter, values: Sequence[str], _: SearchContext) -> Query:
    """What begins with the value."""
    return any_of(
        [
            Match(key, "token", (Condition("code", "prefix", each),))
            for key in parameter.keys
            for each in _urls(parameter, values)
        ]
    )


def _above(parameter: Parameter, values: Sequence[str], _: SearchContext) -> Query:
    """The value and everything that it lies below, one step of its path at a time."""
    asked: list[str] = []
    for url in _urls(parameter, values):
        scheme, path = url.split("://", 1)
        steps = path.split("/")
        for count in range(1, len(steps) + 1):
            shorter = f"{scheme}://{'/'.join(steps[:count])}"
            asked += [shorter, shorter + "/"] if count < len(steps) else [shorter]
    return _is_one_of(parameter, asked)


def _urls(parameter: Parameter, values: Sequence[str]) -> list[str]:
    urls = [unescape(each) for each in values]
    if not all("://" in each for each in urls):
        raise malformed(f"`{parameter.code}` with :above or :below takes URLs, not URNs")
    return urls


MODIFIERS: Modifiers = {None: _is, "below": _below, "above": _above}
