"""A term: a part of a query that can be probed for one resource and, often, enumerated.

https://www.sqlite.org/optoverview.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fhir_server.storage.sqlite.sql import Sql


@dataclass(frozen=True, slots=True)
class Term:
    """`probe` gives the expression that is true for a resource, by the SQL of its pk.

    source   a SELECT of `pk` that enumerates at least the live resources of the type for which the
             term holds; None when only probing is sensible
    rank     which kind is selective as a rule; the least is counted first
    ordered  the source gives each pk once, in the order of an index that ends with it
    own      what holds is live and of the type that is searched
    group    which terms can be merged, and `numbers` what is merged: links to any of these, ...
    walk     the dst and p of a link, when the term is just that
    gates    terms that must be few before the source is worth counting
    """

    probe: Callable[[str], Sql]
    source: Sql | None = None
    rank: int = 9
    ordered: bool = False
    own: bool = False
    group: tuple[str, int] | None = None
    numbers: tuple[int, ...] = ()
    walk: tuple[int, int] | None = None
    gates: tuple[Term, ...] = ()
