"""Generated stores and queries: small worlds, biased toward what breaks engines (wildcards, empty
and folded texts, absent fields, ties, long and short ranges, links to nothing)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st
from msgspec.structs import replace

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
IDS = (
    "1",
    "a",
    "B",
    "a-1",
    "0190a1b2-0000-7000-8000-00000000000f",
    "00000000-0000-0000-0000-00000000000A",
)
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
    "é",
    "e\u0301",
    "\U0001f600",
    "\uffff",
    "\U0010ffff",
    "'",
    "\\",
    "0",
    "\x00",
    "a\x00b",
)
SYSTEMS = (None, "", "s", "http://s", "http://s/%")
DAY = 86_400_000_000
SPANS = (0, 0, 1, DAY - 1, DAY, DAY + 1, 40 * DAY)
TIMES = (-5 * DAY, 0, 1, DAY, DAY + 1, 2 * DAY, 30 * DAY)
NUMBERS = (-1.5, 0.0, 0.1, 1.0, 1.05, 72.5, 1e15)
WIDTHS = (0.0, 0.5, 1.0, 1.5, 1e6)

words, systems, ids, types = map(st.sampled_from, (WORDS, SYSTEMS, IDS, TYPES))


@st.composite
def _token(draw, params=("code", "tag")):
    return Entry("token", draw(st.sampled_from(params)), draw(systems), draw(st.none() | words))


@st.composite
def _text(draw):
    return Entry(
        "text",
        draw(st.sampled_from(("name", "note"))),
        code=draw(st.none() | words),
        text=draw(words),
    )


@st.composite
def _number(draw):
    low = draw(st.sampled_from(NUMBERS))
    unit = draw(st.sampled_from(((None, None), (None, "kg"), ("s", "kg"), ("s", "g"))))
    return Entry("range", "value", *unit, low=low, high=low + draw(st.sampled_from(WIDTHS)))


@st.composite
def _period(draw):
    low = draw(st.sampled_from(TIMES))
    return Entry("range", "period", low=low, high=low + draw(st.sampled_from(SPANS)))


@st.composite
def _entries(draw):
    """Entries of one version; links carry its one date, as the contract of `low` asks."""
    found = draw(st.lists(_token() | _text() | _number() | _period(), max_size=6))
    date = draw(st.none() | st.sampled_from(TIMES))
    if date is not None:
        found.append(Entry("range", "date", low=date, high=date + draw(st.sampled_from(SPANS))))
    targets = st.tuples(
        st.sampled_from(("subject", "member")), st.sampled_from((*TYPES, EVENTS)), ids
    )
    for param, type, id in draw(st.lists(targets, max_size=3)):
        found.append(Entry("link", param, type, id, low=date))
    return tuple(draw(st.permutations(found)))


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


Step = Put | Reindex | Erase | Event

owners = st.none() | st.sampled_from(("Patient/1", "Patient/a", "Group/B"))
puts = st.builds(Put, types, ids, st.none() | _entries() | _entries() | _entries(), owners)
events = st.builds(
    Event,
    st.sampled_from((5, 6, 7, DAY)),
    st.just(b'{"id":"'),
    st.just(b'"}'),
    st.lists(
        _token() | st.builds(Entry, st.just("link"), st.just("subject"), types, ids),
        max_size=3,
        unique=True,
    ).map(tuple),
)
steps = puts | puts | puts | puts | events | st.builds(Reindex, types, ids, _entries())
worlds = st.lists(steps | steps | st.builds(Erase, owners.filter(bool)), min_size=1, max_size=30)


def _conditions(field, values, operators):
    plain = st.builds(Condition, st.just(field), st.sampled_from(operators), values)
    absent = st.just(Condition(field, "eq", None))
    return plain | plain | absent


def _texts(field, operators=("eq", "prefix")):
    among = st.builds(Condition, st.just(field), st.just("in"), st.frozensets(words, max_size=3))
    return _conditions(field, words, operators) | among


_compare = ("eq", "lt", "le", "gt", "ge")
_system = _conditions("system", systems.filter(lambda s: s is not None), ("eq",)) | st.builds(
    Condition, st.just("system"), st.just("in"), st.frozensets(systems.filter(bool), max_size=2)
)
_at = st.sampled_from((*TIMES, *(t + s for t in (0, DAY) for s in SPANS), 0.5))
_moment = st.sampled_from((0, 1, 3, 5, 6, 7, 8, 20, 6.5))


def _match(param, shape, *conditions):
    some = st.lists(st.one_of(*conditions), max_size=3).map(tuple)
    return st.builds(
        Match,
        param if isinstance(param, st.SearchStrategy) else st.just(param),
        st.just(shape),
        some,
    )


matches = st.one_of(
    _match(st.sampled_from(("code", "tag", "nothing")), "token", _system, _texts("code")),
    _match(
        st.sampled_from(("name", "note")),
        "text",
        _texts("text", ("eq", "prefix", "contains")),
        _texts("code"),
    ),
    _match(
        "value",
        "range",
        *(
            _conditions(f, st.sampled_from((*NUMBERS, 1, 0.6, 1.55)), _compare)
            for f in ("low", "high")
        ),
        _system,
        _texts("code"),
    ),
    _match(
        st.sampled_from(("date", "period")),
        "range",
        *(_conditions(f, _at, _compare) for f in ("low", "high")),
    ),
    _match(
        st.sampled_from(("subject", "member")),
        "link",
        _conditions("system", st.sampled_from((*TYPES, EVENTS)), ("eq",)),
        _conditions("code", ids, ("eq", "prefix")),
    ),
    _match(
        "subject",
        "link",
        st.builds(Condition, st.just("system"), st.just("eq"), types),
        st.builds(Condition, st.just("code"), st.just("eq"), ids),
    ),
    _match(
        ID,
        "token",
        _conditions("code", ids, ("eq", "prefix")),
        st.builds(Condition, st.just("code"), st.just("in"), st.frozensets(ids)),
    ),
    _match(UPDATED, "range", *(_conditions(f, _moment, _compare) for f in ("low", "high"))),
    _match(EVENT_TIME, "range", *(_conditions(f, _moment, _compare) for f in ("low", "high"))),
)

_links = st.sampled_from(("subject", "member"))
_any_type = st.sampled_from((*TYPES, EVENTS, "Unknown"))


def _deeper(queries):
    several = st.lists(queries, max_size=3).map(tuple)
    return (
        st.builds(All, several)
        | st.builds(AnyOf, several)
        | st.builds(Not, queries)
        | st.builds(RefersTo, _links, _any_type, queries)
        | st.builds(ReferredBy, _any_type, _links, queries)
    )


queries: st.SearchStrategy[Query] = st.recursive(matches, _deeper, max_leaves=6)

_sorts = st.builds(
    lambda which, descending: Sort(*which[:2], descending, *which[2:]),
    st.sampled_from(
        (
            (("date",), "range"),
            (("date",), "range", True),
            (("period", "date"), "range"),
            (("value",), "range"),
            (("name",), "text"),
            (("name", "note"), "text"),
            (("code",), "token"),
            (("subject",), "link"),
            ((UPDATED,), "range"),
            ((ID,), "token"),
        )
    ),
    st.booleans(),
)
sorts = st.lists(_sorts, max_size=3).map(tuple)
searches = st.tuples(st.sampled_from((*TYPES, EVENTS)), queries, sorts, st.integers(1, 6))


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
            case Reindex():
                await tx.reindex(step.type, step.id, step.entries)
            case Put():
                await _put(tx, step)


async def _put(tx: Transaction, step: Put) -> None:
    current = await tx.get(step.type, step.id)
    number = current.number + 1 if current else 1
    body = b"" if step.entries is None else f"{step.type}/{step.id} {number}".encode()
    version = Version(step.type, step.id, number, tx.now, body, step.owner, not body)
    await tx.put(version, step.entries or ())


async def grow(store: Store, world: Sequence[Step], together: int) -> None:
    """Carry a world out, `together` steps a transaction."""
    for start in range(0, len(world), together):
        part = world[start : start + together]
        await store.transaction(lambda tx, part=part: play(tx, part), write=True)


def plain(version: Version) -> Version:
    return replace(version, sequence=0)
