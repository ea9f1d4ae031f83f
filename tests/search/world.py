"""A server's memory in a list: resources with their entries, searched by the plain meaning of a
query."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

from conformance.definitions import load
from fhir_server.search.context import Search, SearchContext
from fhir_server.search.index import Index
from fhir_server.search.params import parse
from fhir_server.storage.store import Entry, Query, ReferredBy, RefersTo, satisfies

BASE = "https://clinic.example/fhir"
NOW = int(datetime(2024, 7, 1, 12, tzinfo=UTC).timestamp() * 1_000_000)

INDEX = Index(load(), BASE, UTC)


def context(index: Index = INDEX, **changed: Any) -> SearchContext:
    made = {"now": NOW, "timezone": index.timezone, **changed}
    return SearchContext(index.definitions, index, BASE, **made)


class World:
    """Resources by type and id."""

    def __init__(self, resources: Iterable[Mapping[str, Any]], index: Index = INDEX) -> None:
        self.index = index
        self.resources: dict[tuple[str, str], list[Entry]] = {}
        for at, each in enumerate(resources):
            resource = {"id": str(at), **each}
            own = [
                Entry("token", "_id", None, resource["id"]),
                Entry("range", "_lastUpdated", None, None, None, NOW, NOW),
            ]
            key = (resource["resourceType"], resource["id"])
            self.resources[key] = [*own, *index.entries(resource)]

    def search(self, url: str | tuple[str, list[tuple[str, str]]], **changed: Any) -> list[str]:
        """The ids found by `Type?name=value&...`, in the order of the resources."""
        search = self.parse(url, **changed)
        return self.find(search.type, search.query)

    def parse(self, url: str | tuple[str, list[tuple[str, str]]], **changed: Any) -> Search:
        type, pairs = pairs_of(url) if isinstance(url, str) else url
        return parse(type, pairs, context(self.index, **changed))

    def find(self, type: str, query: Query) -> list[str]:
        return [id for of, id in self.resources if of == type and self.holds(query, (of, id))]

    def holds(self, query: Query, key: tuple[str, str]) -> bool:
        def follow(node: RefersTo | ReferredBy) -> bool:
            return any(self.holds(node.query, other) for other in self._ends(node, key))

        return satisfies(query, self.resources[key], follow)

    def _ends(self, node: RefersTo | ReferredBy, key: tuple[str, str]) -> Iterable[tuple[str, str]]:
        if isinstance(node, RefersTo):
            named = [
                (e.system or "", e.code or "")
                for e in self.resources[key]
                if e.shape == "link" and e.param == node.param and e.system == node.type
            ]
            return [each for each in named if each in self.resources]
        return [
            other
            for other, entries in self.resources.items()
            if other[0] == node.type
            and any(
                e.shape == "link" and e.param == node.param and (e.system, e.code) == key
                for e in entries
            )
        ]


def pairs_of(url: str) -> tuple[str, list[tuple[str, str]]]:
    """A URL's type, and its names and values; nothing is percent-encoded here."""
    type, _, query = url.partition("?")
    pairs = [each.partition("=") for each in query.split("&") if each]
    return type, [(name, value) for name, _, value in pairs]


def timezone_index(zone: tzinfo) -> Index:
    return Index(load(), BASE, zone)
