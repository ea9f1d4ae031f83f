"""Generated stores and queries: small worlds, biased toward what breaks engines (wildcards, empty
and folded texts, absent fields, ties, long and short ranges, links to nothing), and queries about
what is in them. A world is the function of a seed, so that there can be thousands in a minute; what
hypothesis would shrink is small already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fhir_server.storage.store import (
    EVENT_TIME,
    EVENTS,
    ID,
    UPDATED,
    All,
    AnyOf,
    Condition,
    Entry,
    Event,
    Match,
    Not,
    Query,
    ReferredBy,
    RefersTo,
    Sort,
    Store,
    Transaction,
    Version,
)

TYPES = ("Patient", "Observation", "Group")
IDS = ("1", "a", "0190a1b2-0000-7000-8000-00000000000f", "0190a1b2-0000-7000-8000-00000000000F")
WORDS = (
    "",
    "a",
    "ab",
    "abc",
    "A",
    "b",
    "%",
    "_",
    "a%",
    "a_c",
    "é",
    "e\u0301",
    "\U0001f600",
    "a\U0010ffff",
    "a\ud7ff",
    "a\ue000",
    "'",
    "\x00",
    "a\x00b",
)
SYSTEMS = (None, "", "s", "http://s", "http://s/%")
UNITS = ((None, None), (None, "kg"), ("s", "kg"), ("s", "g"))
DAY = 86_400_000_000
SPANS = (0, 0, 1, DAY - 1, DAY, DAY + 1, 40 * DAY)
TIMES = (-5 * DAY, 0, 1, DAY, DAY + 1, 2 * DAY, 30 * DAY)
NUMBERS = (-1.5, 0.0, 0.1, 1.0, 1.05, 72.5, 1e15)
WIDTHS = (0.0, 0.5, 1.0, 1.5, 1e6)
OWNERS = ("Patient/1", "Patient/a", "Group/1")
MOMENTS = (0, 1, 3, 5, 6, 7, 8, 20, DAY)


# --- steps ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Put:
    type: str
    id: str
    entries: tuple[Entry, ...] | None  # None deletes
    owner: str | None = None


@dataclass(frozen=True)
class Reindex:
    type: str
    id: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Erase:
    owner: str


@dataclass(frozen=True)
class Purge:
    type: str
    id: str


Step = Put | Reindex | Erase | Purge | Event


def world(chance: Random, longest: int = 40) -> list[Step]:
    steps = (_put, _put, _put, _put, _put, _put, _event, _event, _reindex, _erase)
    return [chance.choice(steps)(chance) for _ in range(chance.randint(1, longest))]


def _put(chance: Random) -> Step:
    found = None if chance.random() < 0.15 else _entries(chance)
    owner = chance.choice(OWNERS) if chance.random() < 0.4 else None
    return Put(chance.choice(TYPES), chance.choice(IDS), found, owner)


def _reindex(chance: Random) -> Step:
    return Reindex(chance.choice(TYPES), chance.choice(IDS), _entries(chance))


def _erase(chance: Random) -> Step:
    if chance.random() < 0.15:
        return Purge(chance.choice(TYPES), chance.choice(IDS))
    return Erase(chance.choice(OWNERS)) if chance.random() < 0.3 else _put(chance)


def _event(chance: Random) -> Step:
    found = {_token(chance) for _ in range(chance.randint(0, 2))}
    for _ in range(chance.randint(0, 2)):
        found.add(Entry("link", "subject", chance.choice(TYPES), chance.choice(IDS)))
    return Event(chance.choice(MOMENTS), b'{"id":"', b'"}', tuple(sorted(found, key=repr)))


def _token(chance: Random) -> Entry:
    code = None if chance.random() < 0.1 else chance.choice(WORDS)
    return Entry("token", chance.choice(("code", "tag")), chance.choice(SYSTEMS), code)


def _text(chance: Random) -> Entry:
    code = None if chance.random() < 0.3 else chance.choice(WORDS)
    return Entry("text", chance.choice(("name", "note")), code=code, text=chance.choice(WORDS))


def _number(chance: Random) -> Entry:
    low = chance.choice(NUMBERS)
    return Entry("range", "value", *chance.choice(UNITS), low=low, high=low + chance.choice(WIDTHS))


def _period(chance: Random, param: str = "period") -> Entry:
    low = chance.choice(TIMES)
    return Entry("range", param, low=low, high=low + chance.choice(SPANS))


def _entries(chance: Random) -> tuple[Entry, ...]:
    """Entries of one version; links carry its one date, as the contract of `low` asks."""
    found = [
        chance.choice((_token, _text, _number, _period))(chance)
        for _ in range(chance.randint(0, 6))
    ]
    date = _period(chance, "date") if chance.random() < 0.7 else None
    if date:
        found.append(date)
    for _ in range(chance.randint(0, 3)):
        type = chance.choice((*TYPES, EVENTS))
        param = chance.choice(("subject", "member"))
        found.append(Entry("link", param, type, chance.choice(IDS), low=date.low if date else None))
    chance.shuffle(found)
    return tuple(found)


# --- queries about what is there -------------------------------------------------------------------

_NUMERIC = ("eq", "lt", "le", "gt", "ge")
_TEXTUAL = {
    ("token", "system"): ("eq", "eq", "in"),
    ("token", "code"): ("eq", "eq", "in", "prefix"),
    ("text", "text"): ("eq", "prefix", "prefix", "contains", "contains", "in"),
    ("text", "code"): ("eq", "prefix"),
    ("range", "system"): ("eq",),
    ("range", "code"): ("eq", "in"),
    ("link", "system"): ("eq",),
    ("link", "code"): ("eq", "eq", "in", "prefix"),
}
_FIELDS = {
    "token": ("system", "code"),
    "text": ("text", "text", "code"),
    "range": ("low", "high", "low", "high", "system", "code"),
    "link": ("system", "code"),
}
_ALWAYS = (
    *(Entry("token", ID, None, id) for id in (*IDS, "2")),
    Entry("token", "nothing", None, "a"),
    *(
        Entry("range", param, low=at, high=at)
        for param in (UPDATED, EVENT_TIME)
        for at in MOMENTS[:6]
    ),
)


def _condition(chance: Random, entry: Entry, field: str) -> Condition:
    """One that the entry meets, or just not."""
    value = getattr(entry, field)
    operators = _TEXTUAL.get((entry.shape, field))
    if value is None or chance.random() < 0.05:
        return Condition(field, "eq", chance.choice((None, "a")) if operators else None)
    if operators is None:
        steps = (0, 0, 1, -1, DAY, -DAY) if isinstance(value, int) else (0, 0, 0.05, -0.05, 1)
        return Condition(field, chance.choice(_NUMERIC), value + chance.choice(steps))
    operator = chance.choice(operators)
    if operator == "in":
        return Condition(field, operator, frozenset((value, chance.choice(WORDS))))
    start, end = sorted((chance.randint(0, len(value)), chance.randint(0, len(value))))
    parts = {"eq": value, "prefix": value[:end], "contains": value[start:end]}
    if chance.random() < 0.2:
        return Condition(field, operator, chance.choice(WORDS))
    return Condition(field, operator, parts[operator])


def _match(chance: Random, entries: Sequence[Entry]) -> Query:
    entry = chance.choice(entries)
    fields = [chance.choice(_FIELDS[entry.shape]) for _ in range(chance.choice((0, 1, 1, 2, 3)))]
    if entry.shape == "link" and chance.random() < 0.6:
        fields = ["system", "code"]  # the usual question
    return Match(
        entry.param, entry.shape, tuple(_condition(chance, entry, each) for each in fields)
    )


def query(chance: Random, entries: Sequence[Entry], depth: int = 3) -> Query:
    if depth == 0 or chance.random() < 0.5:
        return _match(chance, entries)

    def deeper():
        return query(chance, entries, depth - 1)

    several = tuple(deeper() for _ in range(chance.choice((0, 1, 2, 2, 2, 3))))
    type = chance.choice((*TYPES, *TYPES, EVENTS, "Unknown"))
    param = chance.choice(("subject", "member"))
    makes = (
        lambda: All(several),
        lambda: All(several),
        lambda: AnyOf(several),
        lambda: Not(deeper()),
        lambda: RefersTo(param, type, deeper()),
        lambda: ReferredBy(type, param, deeper()),
    )
    return chance.choice(makes)()


_SORTS = (
    (("date",), "range"),
    (("date",), "range"),
    (("period", "date"), "range"),
    (("value",), "range"),
    (("name",), "text"),
    (("name", "note"), "text"),
    (("code",), "token"),
    (("subject",), "link"),
    ((UPDATED,), "range"),
    ((ID,), "token"),
)


def _sort(chance: Random) -> Sort:
    params, shape = chance.choice(_SORTS)
    carried = params == ("date",) and chance.random() < 0.7
    return Sort(params, shape, chance.random() < 0.5, carried)


Search = tuple[str, Query, tuple[Sort, ...], int]  # type, query, sort, limit


def search(chance: Random, steps: Sequence[Step]) -> Search:
    entries = [entry for step in steps for entry in getattr(step, "entries", None) or ()]
    sort = tuple(_sort(chance) for _ in range(chance.choice((0, 0, 1, 1, 1, 2))))
    type = chance.choice((*TYPES, *TYPES, EVENTS))
    asked = query(chance, [*entries, *_ALWAYS])
    erases = any(isinstance(step, Erase | Purge) for step in steps)
    while erases and _guesses(asked):
        asked = query(chance, [*entries, *_ALWAYS])
    if erases and type == EVENTS:  # whose links to what was erased sort as nobody can tell
        sort = tuple(each for each in sort if each.shape != "link")
    return type, asked, sort, chance.randint(1, 6)


def _guesses(query: Query) -> bool:
    """Whether it asks for a part of an id that links name: an engine may have forgotten the ids of
    what was erased, and answer those who know them whole."""
    match query:
        case Match():
            partly = any(each.operator not in ("eq", "in") for each in query.conditions)
            return query.shape == "link" and partly
        case All() | AnyOf():
            return any(_guesses(each) for each in query.queries)
        case _:
            return _guesses(query.query)


# --- carrying out --------------------------------------------------------------------------------


class Clock:
    """Time that moves on by one every few looks."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> int:
        self.looks += 1
        return self.looks // 3


async def play(tx: Transaction, steps: Sequence[Step]) -> None:
    """Carry the steps out in one transaction."""
    for step in steps:
        match step:
            case Event():
                await tx.record(step)
            case Erase():
                await tx.erase(step.owner)
            case Purge():
                await tx.purge(step.type, step.id)
                await tx.veil([(step.type, step.id)])
            case Reindex():
                await tx.reindex(step.type, step.id, step.entries)
            case Put():
                await _carry_out(tx, step)


async def _carry_out(tx: Transaction, step: Put) -> None:
    current = await tx.get(step.type, step.id)
    number = current.number + 1 if current else 1
    body = b"" if step.entries is None else f"{step.type}/{step.id} {number}".encode()
    version = Version(step.type, step.id, number, tx.now, body, step.owner, not body)
    await tx.put(version, step.entries or ())


async def grow(store: Store, steps: Sequence[Step], together: int) -> None:
    """Carry the steps out, some in one transaction."""
    for start in range(0, len(steps), together):
        part = steps[start : start + together]
        await store.transaction(lambda tx, part=part: play(tx, part), write=True)
