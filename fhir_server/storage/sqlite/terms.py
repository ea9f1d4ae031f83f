"""Queries as SQL terms: each can be probed for one resource, and many can be enumerated.

The nodes are those of the storage waist; what they mean is said by `store.satisfies`, what they are
made from by https://hl7.org/fhir/R4/search.html. No id set that is negated can hold a NULL.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from fhir_server.storage.sqlite.either import either_range, measured_range, plain_range
from fhir_server.storage.sqlite.matches import (
    Conditions,
    compile_match,
    compile_ranges,
    finite,
    live,
)
from fhir_server.storage.sqlite.plan import cheapest
from fhir_server.storage.sqlite.sql import Sql, all_of, any_of, joined
from fhir_server.storage.sqlite.state import Reach
from fhir_server.storage.sqlite.term import PK, Term
from fhir_server.storage.store import (
    EVENTS,
    All,
    AnyOf,
    Match,
    Not,
    Query,
    ReferredBy,
    RefersTo,
)

Compiled: TypeAlias = Term | bool  # a bool holds, or not, for every resource

SOURCES = 100  # an alternative of more parts is probed only


@dataclass(slots=True)
class Compiler:
    """Compiles the queries of one search; each nested SELECT gets an alias of its own."""

    reach: Reach
    aliases: int = 0

    def conjuncts(self, type: str, query: Query) -> list[Term] | None:
        """The terms that must all hold; None when nothing can meet them."""
        terms: list[Term] = []
        for each in _flat(query):
            term = self.compile(type, each)
            if term is False:
                return None
            if isinstance(term, Term):
                terms.append(term)
        return terms

    def compile(self, type: str, query: Query) -> Compiled:
        match query:
            case Match():
                return compile_match(self.reach, type, query)
            case All():
                terms = self.conjuncts(type, query)
                return False if terms is None else self._together(terms)
            case AnyOf():
                return self._either(list(self._alternatives(type, query)))
            case Not():
                return _not(self.compile(type, query.query))
            case RefersTo():
                return self._refers(type, query)
            case ReferredBy():
                return self._referred(query)

    # --- combinations ----------------------------------------------------------------------------

    def _together(self, terms: list[Term]) -> Compiled:
        if len(terms) < 2:
            return terms[0] if terms else True
        driver, _ = cheapest(self.reach, terms)
        source = None
        if driver is not None and driver.source is not None:
            alias = self._alias()
            rest = [term.probe(f"{alias}.pk") for term in terms if term is not driver]
            source = f"SELECT {alias}.pk AS pk FROM (" + driver.source + f") {alias} WHERE "
            source = source + all_of(rest)
        return Term(
            all_of([term.test for term in terms]),
            source,
            rank=driver.rank if driver else 9,
            own=any(term.own for term in terms),
            gates=(driver,) if driver else (),
        )

    def _alternatives(self, type: str, query: AnyOf) -> Iterator[Compiled]:
        """The alternatives compiled; ranges of one param are one term, and so are those of
        several params of which the same is asked."""
        ranges: dict[str, list[Match]] = {}
        measured: dict[Conditions, list[str]] = {}
        for each in query.queries:
            if plain_range(each, type):
                ranges.setdefault(each.param, []).append(each)
            elif measured_range(each):
                measured.setdefault(each.conditions, []).append(each.param)
            else:
                yield self.compile(type, each)
        for conditions, params in measured.items():
            yield compile_ranges(self.reach, type, params, conditions)
        for alike in ranges.values():
            several = len(alike) > 1
            yield either_range(self.reach, type, alike) if several else self.compile(type, alike[0])

    def _either(self, compiled: list[Compiled]) -> Compiled:
        if any(each is True for each in compiled):
            return True
        terms = list(_merged([each for each in compiled if isinstance(each, Term)]))
        if len(terms) < 2:
            return terms[0] if terms else False
        sources = [term.source for term in terms if term.source is not None]
        enumerable = len(sources) == len(terms) <= SOURCES
        return Term(
            any_of([term.test for term in terms]),
            joined(sources, " UNION ALL ") if enumerable else None,
            rank=max(term.rank for term in terms),
            own=all(term.own for term in terms),
            gates=tuple(terms) if enumerable else (),
        )

    # --- references ------------------------------------------------------------------------------

    def _refers(self, type: str, query: RefersTo) -> Compiled:
        """Some link of ours leads to an existing resource for which the query holds."""
        p = self._link(type, query.param)
        inner = self.compile(query.type, query.query)
        if p is None or inner is False:
            return False
        there = self._there(query.type, inner)
        link, far = self._alias(), self._alias()

        def source(targets: Sql) -> Sql:
            start = f"SELECT {link}.src AS pk FROM (" + targets + f") {far} CROSS JOIN link {link}"
            return start + Sql(f" ON {link}.dst = {far}.pk AND {link}.p = ?", (p,))

        if type == EVENTS:
            test = f"{PK} IN (" + source(self._all_of_type(query.type, there)) + ")"
        else:
            # `src > 0` is what the index on src asks for; events are found from the other end.
            start = f"EXISTS (SELECT 1 FROM link {link} WHERE {link}.src = {PK} AND {link}.src > 0"
            test = start + Sql(f" AND {link}.p = ? AND ", (p,)) + there.probe(f"{link}.dst") + ")"
        return Term(
            test,
            None if there.source is None else source(there.source),
            rank=5,
            own=True,
            gates=(there,) if there.source else (),
        )

    def _referred(self, query: ReferredBy) -> Compiled:
        """Some link of a resource for which the query holds leads here."""
        p = self._link(query.type, query.param)
        inner = self.compile(query.type, query.query)
        if p is None or inner is False:
            return False
        link, far = self._alias(), self._alias()

        start = f"EXISTS (SELECT 1 FROM link {link} WHERE {link}.dst = {PK}"
        test = start + Sql(f" AND {link}.p = ?", (p,))
        test = test + (")" if inner is True else " AND " + inner.probe(f"{link}.src") + ")")

        source = None
        if isinstance(inner, Term) and inner.source is not None and query.type != EVENTS:
            source = f"SELECT {link}.dst AS pk FROM (" + inner.source
            source = source + f") {far} CROSS JOIN link {link} ON {link}.src = {far}.pk"
            source = source + Sql(f" AND {link}.src > 0 AND {link}.p = ?", (p,))
        gates = (inner,) if source and isinstance(inner, Term) else ()
        return Term(test, source, rank=6, gates=gates)

    def _link(self, type: str, param: str) -> int | None:
        kind = self.reach.kind(type)
        return None if kind is None else self.reach.param(kind, param, "link")

    def _there(self, type: str, inner: Compiled) -> Term:
        """The query on what a link leads to, with its being there and of the type."""
        if isinstance(inner, Term) and inner.own:
            return inner
        alive = live(self.reach, type)
        if not isinstance(inner, Term):
            return Term(alive(PK))
        source = None
        if inner.source is not None:
            alias = self._alias()
            source = f"SELECT {alias}.pk AS pk FROM (" + inner.source + f") {alias} WHERE "
            source = source + alive(f"{alias}.pk")
        return Term(all_of([inner.test, alive(PK)]), source, gates=inner.gates or (inner,))

    def _all_of_type(self, type: str, there: Term) -> Sql:
        """Every resource of a type for which a term holds."""
        alias = self._alias()
        if type == EVENTS:
            every = Sql(f"SELECT -{alias}.n AS pk FROM event {alias} WHERE ")
            return every + there.probe(f"(-{alias}.n)")
        every = Sql(f"SELECT {alias}.pk AS pk FROM resource {alias} WHERE {alias}.type = ?")
        every = Sql(every.text, (self.reach.kind(type),))
        return every + f" AND {alias}.deleted = 0 AND " + there.probe(f"{alias}.pk")

    def _alias(self) -> str:
        self.aliases += 1
        return f"a{self.aliases}"


def _flat(query: Query) -> Iterator[Query]:
    """The conjuncts of a query."""
    if isinstance(query, All):
        for each in query.queries:
            yield from _flat(each)
    else:
        yield query


def _not(compiled: Compiled) -> Compiled:
    if not isinstance(compiled, Term):
        return not compiled
    return Term("NOT " + compiled.test)


def _merged(terms: list[Term]) -> Iterator[Term]:
    """Alternatives of one group are one term: the code is this or that."""
    groups: dict[tuple[str, int], list[Term]] = {}
    for term in terms:
        if term.group is None:
            yield term
        else:
            groups.setdefault(term.group, []).append(term)
    for group, alike in groups.items():
        numbers = {number for term in alike for number in term.numbers}
        yield finite(group, numbers) if len(alike) > 1 else alike[0]
