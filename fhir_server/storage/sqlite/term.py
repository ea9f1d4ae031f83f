"""A term: a part of a query that can be probed for one resource and, often, enumerated.

https://www.sqlite.org/optoverview.html
"""

from __future__ import annotations

from msgspec import Struct

from fhir_server.storage.sqlite.sql import Sql

PK = "{pk}"  # stands for the SQL of a resource's pk in the text of a test


class Term(Struct, frozen=True, eq=False):
    """`test` is the expression that is true for a resource, with PK in the place of its pk.

    source   a SELECT of `pk` that enumerates at least the live resources of the type for which the
             term holds; None when only probing is sensible
    rank     which kind is selective as a rule; the least is counted first
    ordered  the source gives each pk once, in the order of an index that ends with it
    own      what holds is live and of the type that is searched
    group    which terms can be merged, and `numbers` what is merged: links to any of these, ...
    walk     the term is a link to one resource: the values of its source are its p and its dst
    arm      of a few values: the SELECT for one of them, in the order of pk
    gates    terms that must be few before the source is worth counting
    """

    test: Sql
    source: Sql | None = None
    rank: int = 9
    ordered: bool = False
    own: bool = False
    group: tuple[str, int] | None = None
    numbers: tuple[int, ...] = ()
    walk: bool = False
    arm: str | None = None
    gates: tuple[Term, ...] = ()

    def arms(self) -> list[Sql]:
        """A source for each value."""
        if self.arm is None or self.source is None:
            return []
        values = self.source.values
        lead = values[: len(values) - len(self.numbers)]
        return [Sql(self.arm, (*lead, value)) for value in values[len(lead) :]]

    def probe(self, pk: str) -> Sql:
        """The expression that is true for the resource whose pk this SQL gives."""
        return Sql(self.test.text.replace(PK, pk), self.test.values)
