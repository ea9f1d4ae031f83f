"""A bulk job as it is kept: who asked, what for, how far it has come, and what it found.

The list holds sequences, by which the store gives exactly the versions that were there when the
export began; it says nothing of anybody. https://hl7.org/fhir/uv/bulkdata/export.html
"""

from __future__ import annotations

import re
import secrets
import zlib
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import accumulate
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from conformance.outcome import FhirError
from fhir_server.storage.store import ANY, Transaction
from smart_auth.grant import Grant, Scope

_JOBS = "bulk.job"
_LIST = "bulk.list"
BODY = "-body"  # the pieces of a body that waits to be imported
ERRORS = "-errors"  # lines of the file of what was refused
TOLD = 10_000  # lines of an import that are told when they were refused; more are counted
_END = "\U0010ffff"
_RUNNING_SECONDS = 7 * 24 * 3600  # a job that has not come further for so long is forgotten
SECOND = 1_000_000
DELETED = "-deleted"  # where the sequences of deletions are, which no type is named
NAMED = "-named"
BLOCKS = "-by-patient"  # slices of blocks, where the files are organized by patient
REST = "~"  # before a type, of which there are lists again: of what is in no block


class Held(msgspec.Struct, frozen=True):
    """A grant as it is kept, to go on with after a restart."""

    name: str
    agent: str | None
    unrestricted: bool
    id: str
    client: str
    scopes: tuple[tuple[str, str, str, tuple[tuple[str, str], ...]], ...]
    patient: str | None
    reach: tuple[str, ...] | None
    identity: bool
    confined: bool
    account: str | None

    @classmethod
    def of(cls, grant: Grant) -> Held:
        """What is to be kept of a grant."""
        return cls(
            grant.name,
            grant.agent,
            grant.unrestricted,
            grant.id,
            grant.client,
            tuple((each.context, each.type, each.letters, each.query) for each in grant.scopes),
            grant.patient,
            None if grant.reach is None else tuple(sorted(grant.reach)),
            grant.identity,
            grant.confined,
            grant.account,
        )

    def grant(self) -> Grant:
        """The grant again."""
        return Grant(
            self.name,
            self.agent,
            self.unrestricted,
            self.id,
            self.client,
            tuple(Scope(*each) for each in self.scopes),  # type: ignore[arg-type]
            self.patient,
            None if self.reach is None else frozenset(self.reach),
            self.identity,
            self.confined,
            self.account,
        )


class Wanted(msgspec.Struct, frozen=True):
    """What an export is of. `level`: system, type (all patients) or instance (a Group); `group`: id
    and number of the Group's version; `patients`: ids, where some are named; `filters`: type and
    query string of searches; `since` and `until` in microseconds since 1970; `organized`:
    whether the files are to be by patient."""

    level: str
    types: tuple[str, ...]
    group: tuple[str, int] | None = None
    patients: tuple[str, ...] | None = None
    filters: tuple[tuple[str, str], ...] = ()
    elements: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    lenient: bool = False
    organized: bool = False


class Source(msgspec.Struct, frozen=True):
    """What is imported: a URL, or the pieces of a body that was sent (`url` empty)."""

    type: str | None
    url: str = ""


class Load(msgspec.Struct, frozen=True):
    """An import: its sources, and how many pieces a body that was sent has."""

    sources: tuple[Source, ...]
    pieces: int = 0


class Progress(msgspec.Struct, frozen=True):
    """How far a job has come. `place` is the number of a type (or source), `chunk` of the patients
    in it, `after` where the next page (or line) begins; `slices` and `counts` of the list by type;
    `work` done of about `all`. `issues`: severity, code and text of what went wrong."""

    phase: str = "walk"
    place: int = 0
    chunk: int = 0
    after: tuple[str | int | float | None, ...] | None = None
    slices: dict[str, int] = {}
    counts: dict[str, tuple[int, ...]] = {}
    work: int = 0
    all: int = 0
    issues: tuple[tuple[str, str, str], ...] = ()
    failures: int = 0  # lines of an import that were refused
    parted: tuple[int, ...] = ()  # slices of blocks that go on with the block of the one before


class Job(msgspec.Struct, frozen=True):
    """`whose`: client and user, to whom it belongs; `request`: the URL of the kick-off; `began`:
    its transaction time, in microseconds since 1970; `sequence`: of the newest version then;
    `leaf`: how many the log had; `ended`: when it was done (None: it runs); `failed`: why it never
    will be."""

    id: str
    kind: str
    whose: str
    grant: Held
    address: str
    request: str
    began: int
    sequence: int
    leaf: int
    wanted: Wanted | None = None
    load: Load | None = None
    progress: Progress = Progress()
    ended: int | None = None
    failed: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Job).decode


def new_id() -> str:
    """Nobody guesses it, though that alone opens nothing."""
    return secrets.token_hex(16)


def whose(grant: Grant) -> str:
    """To whom a job belongs: the client, and its user where there is one."""
    parts = (grant.client or grant.name, grant.account or "", grant.agent or "")
    return "\0".join(parts)


async def read(tx: Transaction, id: str) -> tuple[Job, int] | None:
    """A job and its revision."""
    kept = await tx.kept(_JOBS, id)
    return None if kept is None else (_decode(kept.value), kept.revision)


async def own(tx: Transaction, id: str | None, grant: Grant) -> Job:
    """A job of the caller's. FhirError 404; somebody else's is like one that never was."""
    found = await read(tx, id or "")
    if found is None or found[0].whose != whose(grant):
        raise FhirError("not-found", "There is no such job (any more)")
    return found[0]


async def write(tx: Transaction, job: Job, seconds: int, expect: int = ANY) -> None:
    """Keep a job: `seconds` once it is done, and a week from its last step while it runs. Conflict
    when it was removed, or went on, meanwhile."""
    ended = job.ended is not None
    until = tx.now + (seconds if ended else max(seconds, _RUNNING_SECONDS)) * SECOND
    await tx.keep(_JOBS, job.id, _encode(job), expect, until)


async def remove(tx: Transaction, id: str) -> bool:
    """Forget a job with its list; whether there was one."""
    await tx.clear(_LIST, f"{id}/", f"{id}0")
    return await tx.take(_JOBS, id) is not None


async def every(tx: Transaction) -> list[Job]:
    """All jobs."""
    return [_decode(each.value) for each in await tx.range(_JOBS, "", _END, 10_000)]


async def forget(tx: Transaction, names: Collection[str]) -> int:
    """Remove the jobs whose request or grant names one of these patients ("Patient/id"), or whose
    body that waits to be imported does; how many."""
    ids = b"|".join(re.escape(name.partition("/")[2].encode()) for name in names)
    names_them = re.compile(rb"(?<![A-Za-z0-9.\-])(?:%s)(?![A-Za-z0-9.\-])" % ids).search
    gone = 0
    for kept in await tx.range(_JOBS, "", _END, 10_000):
        texts = _texts(msgspec.msgpack.decode(kept.value))
        if any(map(names_them, texts)) or await _waits(tx, kept.key, names_them):
            gone += await remove(tx, kept.key)
    return gone


def _texts(value: Any) -> Iterator[bytes]:
    """All texts of a job, what is escaped in a URL, and in a URL within it, in plain too."""
    if isinstance(value, str):
        plain = unquote_to_bytes(value)
        yield from (value.encode(), plain, unquote_to_bytes(plain))
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


async def _waits(tx: Transaction, id: str, names_them: Callable[[bytes], object]) -> bool:
    """Whether a body that is to be imported names one of them."""
    after, end, last = f"{id}/{BODY}", f"{id}/{BODY}~", b""
    while page := await tx.range(_LIST, after, end, 1):
        if names_them(last + page[0].value):
            return True
        after, last = page[0].key + "\0", page[0].value[-128:]
    return False


# --- the list ------------------------------------------------------------------------------------


def _key(id: str, of: str, number: int) -> str:
    return f"{id}/{of}/{number:08}"


async def add(tx: Transaction, id: str, of: str, number: int, content: bytes) -> None:
    """Keep one slice of what a job found, of a type or of one of the names above. It goes when the
    job goes; what is left of one that was interrupted, after a fortnight."""
    await tx.keep(_LIST, _key(id, of, number), content, until=tx.now + 14 * 24 * 3600 * SECOND)


async def drop(tx: Transaction, id: str, of: str) -> None:
    """Forget what a job found of one type, or a source that was read."""
    await tx.clear(_LIST, f"{id}/{of}/", f"{id}/{of}0")


async def slice_of(tx: Transaction, id: str, of: str, number: int) -> bytes:
    """One slice; empty when it is gone."""
    kept = await tx.kept(_LIST, _key(id, of, number))
    return b"" if kept is None else kept.value


def packed(sequences: Sequence[int]) -> bytes:
    """Sequences as their differences, which pack well; they are sorted by that."""
    sorted_ = sorted(sequences)
    differences = array("Q", (b - a for a, b in zip([0, *sorted_], sorted_, strict=False)))
    return zlib.compress(differences.tobytes(), 6)


def unpacked(content: bytes) -> list[int]:
    """The sequences of a slice."""
    if not content:
        return []
    differences = array("Q")
    differences.frombytes(zlib.decompress(content))
    return list(accumulate(differences))


def joined(names: Collection[str]) -> bytes:
    """Names as a slice."""
    return "\n".join(names).encode()


def split(content: bytes) -> list[str]:
    return content.decode().split("\n") if content else []


# --- files ---------------------------------------------------------------------------------------


class File(msgspec.Struct, frozen=True):
    """One file of a job: the slices of one list from `first` on, and how many resources they give;
    `parted`: whether its last block goes on in the next file."""

    of: str
    number: int
    first: int
    slices: int
    count: int
    parted: bool = False

    @property
    def type(self) -> str:
        """The type of its resources, where it is one."""
        return self.of.removeprefix(REST)

    @property
    def name(self) -> str:
        """Its place in the URL: Patient-1.ndjson."""
        return f"{self.type.removeprefix('-')}-{self.number}.ndjson"


def files(job: Job, lines: int) -> Iterator[File]:
    """The files of an export: slices, in order, as long as they are not too many together; those of
    one block stay together while they are not too many alone."""
    if job.load is not None:
        return
    organized = BLOCKS in job.progress.counts
    for of, counts in sorted(job.progress.counts.items()):
        if organized and of[0] not in "-~":
            continue  # they are in the blocks, and in what is in none
        parted = frozenset(job.progress.parted if of == BLOCKS else ())
        number, first, held = 1, 0, 0
        for place, count in enumerate(counts):
            whole = count + (0 if place in parted else _behind(counts, place, parted))
            if held and (held + count > lines or (held + whole > lines and place not in parted)):
                yield File(of, number, first, place - first, held, place in parted)
                number, first, held = number + 1, place, 0
            held += count
        if held:
            yield File(of, number, first, len(counts) - first, held)


def _behind(counts: Sequence[int], place: int, parted: Collection[int]) -> int:
    """How many more there are in the slices that go on with the block of this one."""
    more = 0
    while (place := place + 1) in parted:
        more += counts[place]
    return more
