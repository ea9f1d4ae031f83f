"""What a search looks through: the candidates for its terms, and the versions behind what it found.

https://www.sqlite.org/optoverview.html#crossjoin
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from fhir_server.storage.sqlite import events, opened
from fhir_server.storage.sqlite.matches import live
from fhir_server.storage.sqlite.shapes import LIMIT, Plan, Statement, statement
from fhir_server.storage.sqlite.sql import Sql, Value, all_of
from fhir_server.storage.sqlite.state import BARE, Reach
from fhir_server.storage.sqlite.term import Term
from fhir_server.storage.store import EVENTS, Version

# What was found: the pk, the sort values, and what the version is made by: its sequence or columns.
Line: TypeAlias = tuple[Any, ...]


class Candidates(NamedTuple):
    """Rows to look through: FROM, the SQL of their pk, what must hold, whether a pk comes once, and
    the column of the order of creation with whether it counts down; `arms` are the same rows as
    several FROMs, each in the order of creation."""

    rows: Sql
    pk: str
    tests: list[Sql]
    once: bool
    place: str
    down: bool
    arms: tuple[Sql, ...] = ()


@dataclass(slots=True)
class Frame:
    """The terms of a search on one type, and the first page's bounds: the newest sequence (`top`)
    and the newest number (`last`) that it saw; whether `bodies` are asked for."""

    reach: Reach
    type: str
    terms: list[Term]
    top: Value = None
    last: Value = None
    bodies: bool = True
    events: bool = field(init=False)

    def __post_init__(self) -> None:
        self.events = self.type == EVENTS

    def candidates(self, driver: Term | None) -> Candidates:
        """The rows of a driver, or else all of the type."""
        if driver is not None and driver.source is not None:
            rows = "(" + driver.source + ") c"
            tests = self.tests("c.pk", driver)
            arms = () if self.events else tuple(["(" + arm + ") c" for arm in driver.arms()])
            return Candidates(rows, "c.pk", tests, driver.ordered, "c.pk", self.events, arms)
        if self.events:
            tests = self.tests("(-c.n)", None, scanned=True)
            return Candidates(Sql("event c"), "(-c.n)", tests, True, "c.n", False)
        of_type = Sql("c.type = ? AND c.deleted = 0", (self.reach.kind(self.type),))
        tests = [of_type, *self.tests("c.pk", None, scanned=True)]
        return Candidates(Sql("resource c"), "c.pk", tests, True, "c.pk", False)

    def tests(self, pk: str, driver: Term | None, scanned: bool = False) -> list[Sql]:
        """What must hold of a candidate besides the driver, cheapest first."""
        found = [
            term.probe(pk)
            for term in sorted(self.terms, key=lambda term: term.rank)
            if term is not driver
        ]
        if not scanned and not any(term.own for term in self.terms):
            found.append(live(self.reach, self.type)(pk))
        if self.top is not None and self.last is not None:
            found.insert(0, self._known(pk))
        return found

    def _known(self, pk: str) -> Sql:
        """That the first page could have seen it."""
        if self.events:
            return Sql(f"-({pk}) <= ?", (self.last,))
        return Sql(f"EXISTS (SELECT 1 FROM resource WHERE pk = {pk} AND t <= ?)", (self.top,))

    def newest(self) -> tuple[int, int]:
        """The newest sequence and number in this transaction's state."""
        if self.events:
            return 0, self.reach.conn.execute("SELECT max(n) FROM event").get or 0
        sql = "SELECT (SELECT max(t) FROM resource WHERE ver > 0), (SELECT max(pk) FROM resource)"
        top, last = self.reach.conn.execute(sql).get
        return top or 0, last or 0

    def run(self, plan: Plan, values: list[Value], limit: int) -> list[Line]:
        """The lines that a plan finds, at most `limit`."""
        lines: list[Line] = []
        for each in plan.statements:
            lines += self._lines(each, values)
        if len(plan.statements) > 1:
            lines.sort(key=self.number, reverse=plan.descending)
            lines.sort(key=itemgetter(1), reverse=plan.descending)
            del lines[limit:]
        if plan.missing is not None and len(lines) < limit:
            values[LIMIT] = limit - len(lines)
            lines += self._lines(plan.missing, values)
        return lines

    def _lines(self, statement: Statement, values: Sequence[Value]) -> list[Line]:
        # All at once: a row that cannot be opened must leave no statement in progress.
        found: list[Line] = self.reach.conn.execute(
            statement.text, statement.fill(values)
        ).fetchall()
        return found

    def number(self, line: Line) -> int:
        """The place of a line in the order of creation."""
        pk: int = line[0]
        return -pk if self.events else pk

    def versions(self, lines: Sequence[Line]) -> list[Version]:
        """What was found. Damaged, Erased, Unavailable."""
        reach, type = self.reach, self.type
        if self.events:
            return [events.version(reach, str(-line[0]), *line[-4:]) for line in lines]
        if self.bodies:
            return opened.versions(reach, type, [(line[0], line[-1]) for line in lines])
        return [reach.bare(type, line[-8:]) for line in lines]

    def statement(self, found: Sql) -> Statement:
        """What versions are made by, for a SELECT of pk and sort values, in its order."""
        table, pk = "resource", "r.pk = f.pk"
        columns = "r.t" if self.bodies else BARE
        if self.events:
            table, columns, pk = ("event", events.COLUMNS, "r.n = -f.pk")
        text = f"SELECT f.*, {columns} FROM ({found.text}) f CROSS JOIN {table} r ON {pk}"
        return statement(Sql(text, found.values))


def select(columns: Sql | str, rows: Sql | str, tests: list[Sql]) -> Sql:
    return "SELECT " + (columns + Sql(" FROM ")) + rows + " WHERE " + all_of(tests)
