"""Files by patient (`organizeOutputBy`): what was found type by type is put into blocks, one after
the other, each of what names one patient.

A slice of blocks holds sequences only, and so says nothing of anybody, as the lists by type do: the
patient of a block is told by the sequence of a version of the Patient, or by whose the first
version in it is. https://hl7.org/fhir/uv/bulkdata/export.html#bulk-data-output-file-organization
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from fhir_server import access
from fhir_server.bulk import job as jobs
from fhir_server.bulk.asked import GROUP
from fhir_server.bulk.job import BLOCKS, REST, Job, Progress
from fhir_server.bulk.members import Whose, entries
from fhir_server.core import Step
from fhir_server.owners import PATIENT, named, naming
from fhir_server.storage.store import Version

SLICE = 2_000  # sequences of a slice, at most
_LOOK = 100  # versions that are looked at at once
_AT_ONCE = 10  # slices that are kept in one transaction


class Block(NamedTuple):
    """`patient`: the sequence of a version of the Patient, 0 where there is none; `sequences`: of
    what is in the block, that of the Patient first where it is there."""

    patient: int
    sequences: list[int]


def packed(blocks: Sequence[Block]) -> bytes:
    """Blocks as one slice."""
    numbers = array("Q")
    for block in blocks:
        numbers.extend((block.patient, len(block.sequences), *block.sequences))
    return zlib.compress(numbers.tobytes(), 6)


def unpacked(content: bytes) -> list[Block]:
    """The blocks of a slice."""
    numbers, found, at = array("Q"), list[Block](), 0
    if content:
        numbers.frombytes(zlib.decompress(content))
    while at < len(numbers):
        patient, count = numbers[at : at + 2]
        found.append(Block(patient, numbers[at + 2 : at + 2 + count].tolist()))
        at += 2 + count
    return found


def sequences(of: str, content: bytes) -> list[int]:
    """All sequences of a slice, whatever it is of."""
    if of != BLOCKS:
        return jobs.unpacked(content)
    return [each for block in unpacked(content) for each in block.sequences]


class Reading(Protocol):
    """An export that goes on, as far as this needs it."""

    @property
    def job(self) -> Job: ...
    async def read(self, look: Callable[[Step], Awaitable[None]]) -> None: ...
    async def theirs(self, step: Step) -> Whose: ...
    async def listed(self, of: str, number: int) -> list[int]: ...
    async def add(self, slices: Sequence[tuple[str, int, bytes]]) -> None: ...


async def organized(export: Reading) -> Progress:
    """Put everything into blocks; the progress with the job's new lists. Until that is kept nothing
    of it counts, so that a restart does it again."""
    found = _Found()
    for of, slices in sorted(export.job.progress.slices.items()):
        if of[0] == "-":
            continue
        for number in range(slices):
            every = await export.listed(of, number)
            for start in range(0, len(every), _LOOK):
                await export.read(partial(_look, export, found, every[start : start + _LOOK]))
    patients = sorted(found.blocks)
    for start in range(0, len(patients), _LOOK):
        await export.read(partial(_name, export, found, patients[start : start + _LOOK]))
    return await _kept(export, found)


@dataclass(slots=True)
class _Found:
    """By patient what is theirs, by type what is nobody's, and the versions of the patients."""

    blocks: dict[str, array[int]] = field(default_factory=dict)
    rest: dict[str, array[int]] = field(default_factory=dict)
    patients: dict[str, int] = field(default_factory=dict)


async def _look(export: Reading, found: _Found, some: Sequence[int], step: Step) -> None:
    theirs = await export.theirs(step)
    among, limit = theirs.among, access.limit(step.grant)
    if limit is not None:
        among = limit if among is None else among & limit
    for version in await step.tx.numbered(some, bodies=False):
        ids = await _patients(step, version, among)
        for id in ids:
            found.blocks.setdefault(id, array("Q")).append(version.sequence)
        if not ids:
            found.rest.setdefault(version.type, array("Q")).append(version.sequence)


async def _patients(step: Step, version: Version, among: frozenset[str] | None) -> list[str]:
    """The patients in question whom a version names."""
    if version.type == GROUP:
        return []  # it names all its members to each
    if version.owner is not None:
        id = version.owner.partition("/")[2]
        if among is None or id in among:
            return [id]
    keys = naming(version.type, step.core.index)
    if not keys or version.type == PATIENT:
        return []
    ids = set[str]()
    for full in await step.tx.numbered([version.sequence]):
        ids = named(entries(step, full), keys)
    known = [id for id in sorted(ids) if among is None or id in among]
    return [id for id in known if await step.tx.get(PATIENT, id) is not None]


async def _name(export: Reading, found: _Found, ids: Sequence[str], step: Step) -> None:
    """The version of each patient that was there when the export began."""
    before = export.job.sequence + 1
    for id in ids:
        version = await step.tx.get(PATIENT, id)
        if version is not None and version.sequence >= before:
            version = next(iter(await step.tx.history(PATIENT, id, 1, before)), version)
        found.patients[id] = 0 if version is None else version.sequence


def _sliced(found: _Found) -> Iterator[tuple[bool, list[Block]]]:
    """The blocks of each slice, and whether it goes on with the block of the one before."""
    held, count = list[Block](), 0
    for id in sorted(found.blocks):
        patient, every = found.patients[id], sorted(found.blocks[id])
        every.sort(key=lambda each: each != patient)  # the Patient first
        if held and count + len(every) > SLICE:
            yield False, held
            held, count = [], 0
        while len(every) > SLICE:
            yield bool(count), [Block(patient, every[:SLICE])]
            every, count = every[SLICE:], SLICE
        if count and not held:  # the end of a block that began in a slice before
            yield True, [Block(patient, every)]
            count = 0
            continue
        held.append(Block(patient, every))
        count += len(every)
    if held:
        yield False, held


async def _kept(export: Reading, found: _Found) -> Progress:
    """Keep the new lists, and tell of them."""
    progress = export.job.progress
    slices, counts = {**progress.slices}, {**progress.counts, BLOCKS: ()}
    parted, waiting = list[int](), list[tuple[str, int, bytes]]()

    async def keep(of: str, content: bytes, count: int) -> None:
        number = len(counts.get(of, ()))
        counts[of] = (*counts.get(of, ()), count)
        slices[of] = number + 1
        waiting.append((of, number, content))
        if len(waiting) >= _AT_ONCE:
            await export.add(waiting)
            waiting.clear()

    for goes_on, blocks in _sliced(found):
        if goes_on:
            parted.append(len(counts[BLOCKS]))
        await keep(BLOCKS, packed(blocks), sum(len(each.sequences) for each in blocks))
    for type, every in sorted(found.rest.items()):
        for start in range(0, len(every), SLICE):
            part = every[start : start + SLICE].tolist()
            await keep(REST + type, jobs.packed(part), len(part))
    await export.add(waiting)
    return replace(progress, phase="done", slices=slices, counts=counts, parted=tuple(parted))
