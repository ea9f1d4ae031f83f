"""Which term drives a search: the one with the fewest rows, found by bounded counts.

The wrong driver costs up to 500 times at half a million resources; a bounded count costs a few
microseconds and is remembered for some seconds. https://www.sqlite.org/queryplanner.html
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from fhir_server.storage.sqlite.state import Reach
from fhir_server.storage.sqlite.term import Term

MANY = 1000  # counting stops here
FEW = 16  # so few that nothing else need be counted
REMEMBER_SECONDS = 10.0


def estimate(reach: Reach, term: Term, most: int | None = None) -> int:
    """How many rows the source of a term gives, at most MANY (or `most`)."""
    most = MANY if most is None else most
    if term.source is None or any(estimate(reach, gate) >= MANY for gate in term.gates):
        return most
    key = (term.source.text, term.source.values, most)
    now = monotonic()
    known = reach.shared.counted.get(key)
    if known is not None and known[0] > now:
        return known[1]
    rows: int = reach.conn.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM ({term.source.text}) LIMIT ?)",
        (*term.source.values, most),
    ).get
    if len(reach.shared.counted) > 10_000:
        reach.shared.counted.clear()
    reach.shared.counted[key] = (now + REMEMBER_SECONDS, rows)
    return rows


def cheapest(reach: Reach, terms: Sequence[Term]) -> tuple[Term | None, int]:
    """The term to enumerate, and how many rows it has; a term alone is not counted: 0."""
    candidates = sorted(
        (term for term in terms if term.source is not None), key=lambda term: term.rank
    )
    if len(candidates) < 2:
        return (candidates[0], 0) if candidates else (None, MANY)
    best, fewest = None, MANY + 1
    for term in candidates:
        rows = estimate(reach, term)
        if rows < fewest:
            best, fewest = term, rows
        if rows <= FEW:
            break
    return best, fewest
