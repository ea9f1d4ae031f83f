"""The second narrow waist: what every storage engine does, in words that are not FHIR's.

An engine keeps versions of resources with the flat entries that searches ask for, the audit
events, and kept records. It knows no element, modifier, Bundle or scope: everything of FHIR search
(https://hl7.org/fhir/R4/search.html) is resolved above it into the six nodes of `Query`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from msgspec import Struct

T = TypeVar("T")

Shape: TypeAlias = Literal["token", "text", "range", "link"]


class Entry(NamedTuple):
    """One searchable value of one resource.

    token  system and code (either may be None): tokens, uris, external references
    text   text (already folded: what is compared) and code (the original spelling, for :exact)
    range  low <= high, both inclusive; int (microseconds since 1970, UTC) or float; system and
           code name a unit, or are None. All entries of one param use one number type
    link   system is the type and code the id of the resource that is referred to; it need not
           exist. low, when present, is the sort key that the referring resource carries (its
           clinical date, the same number as its one range entry of that param)
    """

    shape: Shape
    param: str
    system: str | None = None
    code: str | None = None
    text: str | None = None
    low: int | float | None = None
    high: int | float | None = None


# --- queries -------------------------------------------------------------------------------------

Field: TypeAlias = Literal["system", "code", "text", "low", "high"]
Operator: TypeAlias = Literal["eq", "in", "prefix", "contains", "lt", "le", "gt", "ge"]


class Condition(NamedTuple):
    """`field operator value`. eq with None asks that the field is absent; in takes a frozenset of
    values; prefix and contains are for `text` (and, prefix only, for `code`); an absent field
    satisfies no other operator."""

    field: Field
    operator: Operator
    value: str | int | float | frozenset[str] | None


class Match(Struct, frozen=True):
    """Some entry of `param` with this shape meets all conditions; without any, it is there."""

    param: str
    shape: Shape
    conditions: tuple[Condition, ...] = ()


class All(Struct, frozen=True):
    """Every query holds; without any, everything does."""

    queries: tuple[Query, ...] = ()


class AnyOf(Struct, frozen=True):
    """Some query holds; without any, nothing does."""

    queries: tuple[Query, ...] = ()


class Not(Struct, frozen=True):
    query: Query


class RefersTo(Struct, frozen=True):
    """Some link entry of `param` names an existing resource of `type` for which `query` holds."""

    param: str
    type: str
    query: Query


class ReferredBy(Struct, frozen=True):
    """Some existing resource of `type`, for which `query` holds, has a link entry of `param` that
    names this one."""

    type: str
    param: str
    query: Query


Query: TypeAlias = Match | All | AnyOf | Not | RefersTo | ReferredBy

EVERYTHING = All()
NOTHING = AnyOf()

# Entries that every live version has without their being put: its id as a token's code (no system),
# and the time of its version as a range.
ID = "_id"
UPDATED = "_lastUpdated"


class Sort(NamedTuple):
    """Order by the least value of `params` (the greatest when descending); resources without one
    come last in both directions. A range sorts by low, a text by text, a token by code, a link by
    type and id. `carried`: link entries carry this key in `low`, so an engine may walk them."""

    params: tuple[str, ...]
    shape: Shape
    descending: bool = False
    carried: bool = False


class Version(Struct, frozen=True, gc=False):
    """One version of one resource, or an event. `updated`: microseconds since 1970, UTC; never
    decreases along `sequence`, the number of this version in the order of all commits. A deleted
    version has an empty body. `owner` is "Patient/id" or None. `leaf` is its index in the log (-1:
    none yet). `apart` is what an event has apart from its body, while it can be opened."""

    type: str
    id: str
    number: int
    updated: int
    body: bytes
    owner: str | None = None
    deleted: bool = False
    sequence: int = 0
    leaf: int = -1
    apart: bytes | None = None


class Page(NamedTuple):
    """`after` is what an earlier Found of the same query and sort returned; plain JSON values.
    Without `bodies` versions, but for events, come as `numbered` gives them."""

    limit: int
    after: tuple[str | int | float | None, ...] | None = None
    bodies: bool = True


class Found(NamedTuple):
    """Live versions in order; `after` is None when nothing follows.

    Over all pages a resource that does not change while they are read appears exactly once; one
    that changes at most once more, as its new version; resources created after the first page may
    be left out.
    """

    versions: tuple[Version, ...]
    after: tuple[str | int | float | None, ...] | None


class Event(NamedTuple):
    """An audit event: `at` in microseconds since 1970; the bytes before and after the place of its
    id, which the engine gives; entries of shape token and link only, besides its time. `apart` is
    what must not outlive `owner` ("Patient/id"; None: the system): it is no part of the body, nor
    of the leaf, and is sealed under that owner's key."""

    at: int
    head: bytes
    tail: bytes
    entries: tuple[Entry, ...]
    apart: bytes | None = None
    owner: str | None = None


EVENTS = "AuditEvent"  # the type under which events are found: `get`, `find`, `count` and links
EVENT_TIME = "date"  # the param that ranges over `Event.at`


class Logged(NamedTuple):
    """A record as the log has it: the index of its leaf, and the salt (16 random bytes) and the
    content that its entry digests: SHA-256(salt || content). The content of a version is its body,
    that of a deletion what `deletion` gives."""

    leaf: int
    salt: bytes
    content: bytes


class Notice(NamedTuple):
    """What the log says about itself in plain sight, as that leaves were erased: JSON without a
    word about anybody. Its entry is SHA-256 of the content, without a salt."""

    leaf: int
    content: bytes


class Gone(NamedTuple):
    """What was removed for good: type and id of resources, the leaves of all records that went, ids
    of the data keys under which nothing is left, to be destroyed once the removal is durable."""

    names: tuple[tuple[str, str], ...] = ()
    leaves: tuple[int, ...] = ()
    keys: tuple[bytes, ...] = ()


class Unread(NamedTuple):
    """A version that cannot be opened: it is damaged, or its key is destroyed."""

    type: str
    id: str
    sequence: int


class Aged(NamedTuple):
    """A resource, deleted ones included, whose newest version is of some age."""

    type: str
    id: str
    owner: str | None
    sequence: int


def deletion(type: str, id: str, number: int, updated: int) -> bytes:
    """What stands in the log for a version that has no body."""
    return b"deleted %s/%s/_history/%d at %d" % (type.encode(), id.encode(), number, updated)


class Conflict(Exception):
    """The current version is not the expected one. `current` is its number; 0: never existed."""

    def __init__(self, type: str, id: str, current: int) -> None:
        super().__init__(f"{type}/{id} is at version {current}")
        self.type, self.id, self.current = type, id, current


class TooCostly(Exception):
    """A query was interrupted because it exceeded the time that the operator allows."""


class StoreError(Exception):
    """The store cannot be opened or used; the text says what to do."""


class Unavailable(StoreError):
    """Nothing can be written (or read) now: disk full, input or output error, the key service does
    not answer."""


class Erased(StoreError):
    """The key that this was sealed under is destroyed: it can never be read again."""


class Kept(NamedTuple):
    """A record that is no resource. `revision` grows with each `keep` of its key."""

    key: str
    value: bytes
    revision: int
    until: int | None


ANY: int = -1  # keep(expect=ANY): whatever is there; 0: nothing must be there


class Transaction(Protocol):
    """All of it happens or nothing; it reads one state of the store plus its own writes.

    An engine may run the work of a transaction again, so it must have no effect outside."""

    now: int  # microseconds; the `updated` of every version put here

    async def get(self, type: str, id: str, number: int | None = None) -> Version | None:
        """The current version (deleted ones included), or the one with that number."""
        ...

    async def find(self, type: str, query: Query, sort: Sequence[Sort], page: Page) -> Found:
        """Live versions of one type for which the query holds. TooCostly."""
        ...

    async def count(self, type: str, query: Query, bound: int | None = None) -> int:
        """How many; counting stops at `bound`. TooCostly."""
        ...

    async def history(
        self,
        type: str | None,
        id: str | None,
        limit: int,
        before: int | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> list[Version]:
        """Versions, deletions included, newest first: of one resource, one type or all; with
        `sequence` < before, `updated` >= since and `updated` <= until. Events are not in it."""
        ...

    async def numbered(self, sequences: Sequence[int], bodies: bool = True) -> list[Version]:
        """The versions with these sequences, old ones too, in this order; those that are gone, or
        cannot be opened, are left out. Without `bodies` they are empty, leaves -1. Unavailable."""
        ...

    async def put(
        self, version: Version, entries: Sequence[Entry], expect: int | None = None
    ) -> Version:
        """Make this the current version; `number` must be the current one's plus 1 (1 for a new
        resource), `updated` must be `now`. The entries replace those of the version before; a
        deleted version has none. Returns it with its sequence. Conflict when the current number is
        not `expect` (None: number - 1)."""
        ...

    async def reindex(self, type: str, id: str, entries: Sequence[Entry]) -> None:
        """Replace the entries of the current version without a new version."""
        ...

    async def erase(self, owner: str) -> Gone:
        """Remove every version of every resource of an owner, with entries, what is kept of them,
        and what events that name them have apart. Events are still found by a whole name."""
        ...

    async def erased(self, owners: Iterable[str]) -> bool:
        """Whether one of these owners was erased."""
        ...

    async def purge(self, type: str, id: str) -> Gone:
        """Remove every version of one resource, with entries."""
        ...

    async def redact(self, type: str, id: str, number: int, body: bytes) -> tuple[int, bytes]:
        """Put another body in the place of a version's; its leaf, which stays, and the hash that
        the leaf of what is there now would have. LookupError."""
        ...

    async def veil(self, names: Iterable[tuple[str, str]]) -> int:
        """Forget the ids of what is no more, where only events name it; how many others do."""
        ...

    async def strip(self, ids: Iterable[str]) -> None:
        """Remove what these events have apart."""
        ...

    async def owned(self, owner: str) -> list[tuple[str, str]]:
        """Type and id of every resource whose current version is an owner's, deleted ones too."""
        ...

    async def aged(self, type: str, before: int, limit: int, after: int = 0) -> list[Aged]:
        """The resources of a type whose newest version is older than `before`, by `sequence`, from
        beyond `after`."""
        ...

    async def survey(
        self, type: str | None, id: str | None, limit: int, before: int | None = None
    ) -> list[Version | Unread]:
        """As `history`, with those that cannot be opened told. Unavailable."""
        ...

    async def whose(self, type: str, id: str) -> frozenset[str]:
        """The owners of all versions of a resource."""
        ...

    async def aparts(self, after: int, limit: int) -> list[tuple[int, bytes | None]]:
        """Events from beyond a number and what they have apart; None: that cannot be opened."""
        ...

    async def sealers(self) -> list[tuple[str, bytes]]:
        """Every owner and the id of a data key of theirs: "Patient/id", "" for what is nobody's,
        "audit/2026-11" for the events of a month. Of an engine that seals nothing, none."""
        ...

    def walk(self, after: int = 0, type: str | None = None) -> AsyncIterator[Version]:
        """Current versions, deletions left out, of one type or all, by `sequence`, from beyond
        `after`."""
        ...

    async def record(self, event: Event) -> str:
        """Append an audit event; its id."""
        ...

    async def logged(self, type: str, id: str, number: int | None = None) -> Logged | None:
        """What the leaf of a version (None: the current one) or of an event was made of. Erased."""
        ...

    async def size(self) -> int:
        """How many leaves the log has."""
        ...

    async def tile(self, level: int, number: int) -> bytes:
        """Up to 256 hashes of 32 bytes, one after the other: leaf hashes on level 0, above it the
        roots of the full tiles below (https://c2sp.org/tlog-tiles); empty where there is none."""
        ...

    async def note(self, content: bytes) -> int:
        """Append a notice; the index of its leaf."""
        ...

    async def notices(self, after: int = -1) -> list[Notice]:
        """The notices whose leaf is beyond `after`, in order."""
        ...

    async def keep(
        self,
        space: str,
        key: str,
        value: bytes,
        expect: int = ANY,
        until: int | None = None,
        owner: str | None = None,
    ) -> int:
        """Write a record, to be forgotten from `until` (microseconds) on; its revision. `owner`
        ("Patient/id") is whose data the value is: sealed under that key, gone with its erasure.
        Conflict when its revision is not `expect`."""
        ...

    async def kept(self, space: str, key: str) -> Kept | None: ...

    async def take(self, space: str, key: str) -> Kept | None:
        """Read and remove: of many callers exactly one gets it."""
        ...

    async def range(self, space: str, low: str, high: str, limit: int = 1000) -> list[Kept]:
        """Records with low <= key < high, by key."""
        ...

    async def clear(self, space: str, low: str, high: str) -> int:
        """Remove records with low <= key < high; how many."""
        ...


# The content of the notice for these leaves and these keys, under which nothing is left.
Expired: TypeAlias = Callable[[Sequence[int], Sequence[bytes]], bytes]


class Store(Protocol):
    async def transaction(
        self, work: Callable[[Transaction], Awaitable[T]], write: bool = False
    ) -> T:
        """Run `work`; what it returned, once every write in it is durable. What it raises undoes
        all of it. Unavailable when nothing can be written."""
        ...

    async def record(self, events: Sequence[Event]) -> None:
        """Append audit events; durable on return, in one commit with whatever else is waiting."""
        ...

    async def expire(self, month: str, notice: Expired) -> Gone:
        """Remove the events that were recorded in a month ("2026-11"), with their entries, in small
        transactions, each with the notice that says so."""
        ...

    async def close(self) -> None: ...


# --- the plain meaning ---------------------------------------------------------------------------

_TESTS: dict[Operator, Callable[..., bool]] = {
    "eq": lambda have, asked: have == asked,
    "in": lambda have, asked: have in asked,
    "prefix": lambda have, asked: have.startswith(asked),
    "contains": lambda have, asked: asked in have,
    "lt": lambda have, asked: have < asked,
    "le": lambda have, asked: have <= asked,
    "gt": lambda have, asked: have > asked,
    "ge": lambda have, asked: have >= asked,
}


def meets(entry: Entry, condition: Condition) -> bool:
    """Whether one entry meets one condition."""
    have = getattr(entry, condition.field)
    if have is None:
        return condition.operator == "eq" and condition.value is None
    return condition.value is not None and _TESTS[condition.operator](have, condition.value)


def satisfies(
    query: Query, entries: Iterable[Entry], follow: Callable[[RefersTo | ReferredBy], bool]
) -> bool:
    """The meaning of a query for one resource, in plain Python: `entries` are all of its entries,
    ID and UPDATED included (`own_entries`); `follow` answers the two reference nodes."""
    match query:
        case Match():
            return any(
                entry.param == query.param
                and entry.shape == query.shape
                and all(meets(entry, condition) for condition in query.conditions)
                for entry in entries
            )
        case All():
            return all(satisfies(each, entries, follow) for each in query.queries)
        case AnyOf():
            return any(satisfies(each, entries, follow) for each in query.queries)
        case Not():
            return not satisfies(query.query, entries, follow)
        case RefersTo() | ReferredBy():
            return follow(query)


def own_entries(version: Version) -> tuple[Entry, Entry]:
    """The entries that every live version has without their being put."""
    return (
        Entry("token", ID, None, version.id),
        Entry("range", UPDATED, low=version.updated, high=version.updated),
    )
