"""The query string of a search, understood: every parameter becomes part of one Query or of how
its result is ordered and shown.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from conformance.outcome import FhirError, Issue
from fhir_server.search import kinds
from fhir_server.search.chains import read
from fhir_server.search.context import Include, Search, SearchContext, Unsupported, malformed
from fhir_server.search.includes import read_include
from fhir_server.search.nearest import nearest, shown
from fhir_server.search.parameters import Parameter
from fhir_server.storage.store import Match, Query, Shape, Sort

__all__ = ["Search", "SearchContext", "parse"]

_SUMMARIES = ("true", "text", "data", "count", "false")
_SORT_KEYS = 8
_TOTALS = ("none", "estimate", "accurate")
_OURS = "_salus"  # what the index keeps for access is not for callers to ask
_HTTP = frozenset({"_format", "_pretty"})  # read where the answer is written

# Parameters of R4 that this server does not have, and what to do instead.
_ABSENT: Mapping[str, str] = {
    "_text": "search a string parameter with :contains",
    "_content": "search a string parameter with :contains",
    "_filter": "write its conditions as parameters",
    "_query": "name an operation in the path",
    "_list": "read the List and search by _id",
    "_containedType": "contained resources are found with those that contain them",
    "_score": "results have no score",
}


def parse(type: str, parameters: Sequence[tuple[str, str]], context: SearchContext) -> Search:
    """The search that decoded names and values ask for on one resource type.

    Raises FhirError: 400 for a value that cannot be read and, when handling is strict, for a
    parameter that is not known; 403 for a type that the caller may not search."""
    if len(parameters) > context.limits.parameters:
        raise FhirError(
            "too-costly",
            f"A search takes at most {context.limits.parameters} parameters",
            status=400,
        )
    context.check(type)
    reading = _Reading(type, context)
    for name, value in parameters:
        if name in _HTTP:
            continue
        try:
            reading.add(name, value)
        except Unsupported as refused:
            if context.handling == "strict":
                raise
            text = f"Ignored: {refused.issues[0].text}"
            reading.ignored.append(Issue("warning", "not-supported", text))
        else:
            reading.used.append((name, value))
    return Search(
        type,
        context.seen(type, *reading.queries),
        includes=tuple(dict.fromkeys(reading.includes)),
        used=tuple(reading.used),
        ignored=tuple(reading.ignored),
        **reading.shown,
    )


@dataclass(slots=True)
class _Reading:
    """What has been understood so far. `shown` are the fields of Search that _sort, _count and
    their like set."""

    type: str
    context: SearchContext
    queries: list[Query] = field(default_factory=list)
    includes: list[Include] = field(default_factory=list)
    shown: dict[str, Any] = field(default_factory=dict)
    used: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[Issue] = field(default_factory=list)

    def add(self, name: str, value: str) -> None:
        """Understand one parameter. Unsupported, FhirError."""
        first = name.partition(":")[0]
        if first == _OURS:
            raise FhirError("not-supported", f"`{_OURS}:` is not for searches", status=400)
        if first in _ABSENT:
            raise Unsupported(f"`{first}` is not supported; {_ABSENT[first]}")
        if value == "":
            raise Unsupported(f"`{shown(name)}` has no value")
        if first in ("_include", "_revinclude"):
            self.includes.append(read_include(self.type, name, value, self.context))
        elif first in _CONTROLS:
            if name != first:
                raise Unsupported(f"`{first}` takes no modifier")
            _CONTROLS[first](self, value)
        else:
            self.queries.append(read(self.type, name, value, self.context))


# --- how the result is ordered and shown ---------------------------------------------------------


def _sort(reading: _Reading, value: str) -> None:
    known = reading.context.index.parameters(reading.type)
    carried = reading.context.index.carried(reading.type)
    keys: list[Sort] = []
    for each in value.split(","):
        code = each.removeprefix("-")
        parameter = known.get(code)
        if parameter is None:
            reading.context.require_built(reading.type, code)
        kind = kinds.KINDS.get(parameter.kind) if parameter else None
        if parameter is None or kind is None:
            raise Unsupported(
                f"`_sort` takes search parameters of {reading.type} that have one value, such as"
                f" _lastUpdated{nearest(code, known)}"
            )
        _refuse_concealed(parameter, kind.shapes[0], reading.context)
        keys.append(Sort(parameter.keys, kind.shapes[0], each != code, code == carried))
    reading.shown["sort"] = (*reading.shown.get("sort", ()), *keys)
    if len(reading.shown["sort"]) > _SORT_KEYS:
        raise malformed(f"`_sort` takes at most {_SORT_KEYS} keys")


def _refuse_concealed(parameter: Parameter, shape: Shape, context: SearchContext) -> None:
    """The order would tell of what is cut from what leaves."""
    for key in parameter.keys:
        match = Match(key, shape)
        if context.conceal(parameter.type, match) != match:
            raise Unsupported(f"`_sort` does not take `{parameter.code}` of {parameter.type}")


def _count(reading: _Reading, value: str) -> None:
    if not (value.isascii() and value.isdigit()) or len(value) > 9:
        raise malformed("`_count` is a number of resources, 0 or more")
    reading.shown["count"] = min(int(value), reading.context.limits.page)
    if reading.shown["count"] == 0:
        reading.shown["summary"] = "count"


def _total(reading: _Reading, value: str) -> None:
    if value not in _TOTALS:
        raise malformed(f"`_total` is one of {' '.join(_TOTALS)}")
    reading.shown["total"] = value


def _summary(reading: _Reading, value: str) -> None:
    if value not in _SUMMARIES:
        raise malformed(f"`_summary` is one of {' '.join(_SUMMARIES)}")
    if reading.shown.get("count") != 0:
        reading.shown["summary"] = value


def _elements(reading: _Reading, value: str) -> None:
    elements = [each.strip() for each in value.split(",")]
    if not all(elements):
        raise malformed("`_elements` is a list of element names")
    reading.shown["elements"] = (*reading.shown.get("elements", ()), *elements)


def _contained(reading: _Reading, value: str) -> None:
    if value != "false":
        raise Unsupported("`_contained` is supported as false only")


_Control: TypeAlias = Callable[[_Reading, str], None]

_CONTROLS: Mapping[str, _Control] = {
    "_sort": _sort,
    "_count": _count,
    "_total": _total,
    "_summary": _summary,
    "_elements": _elements,
    "_contained": _contained,
}
