"""Who signs checkpoints and who cosigns them, as the server sees them.

https://c2sp.org/tlog-checkpoint: a log signs no state that is inconsistent with an earlier one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from fhir_server.log import merkle
from fhir_server.log.checkpoint import NOTHING, Checkpoint, Head
from fhir_server.log.note import Note, Signature, SigningKey, Verifier
from fhir_server.log.witness import Refused, Request, grow

T = TypeVar("T")


class Signer(Protocol):
    """The log's own key. It signs what follows from what it signed last."""

    @property
    def verifier(self) -> Verifier: ...

    async def sign(self, checkpoint: Checkpoint, old: int, proof: Sequence[bytes]) -> Signature:
        """The log's signature of a checkpoint, with the proof that it follows from the one of
        `old` leaves. Refused (with `size`, when that was not the last one), Unreachable."""
        ...


class Witness(Protocol):
    """Somebody else, who cosigns what follows from what they cosigned last."""

    @property
    def verifier(self) -> Verifier: ...

    async def cosign(self, note: Note, old: int, proof: Sequence[bytes]) -> Signature:
        """Their genuine cosignature of a checkpoint that the log signed. Refused (with `size`, when
        `old` was not the last one), Unreachable."""
        ...


class LocalSigner:
    """A key in this process. `load` and `store` keep the state that it signed last; the new one is
    stored before its signature is given."""

    def __init__(
        self,
        key: SigningKey,
        load: Callable[[], Awaitable[Head | None]],
        store: Callable[[Head], Awaitable[None]],
    ) -> None:
        self._key, self._load, self._store = key, load, store
        self._verifier = key.verifier
        self._one_at_a_time = asyncio.Lock()

    @property
    def verifier(self) -> Verifier:
        return self._verifier

    async def sign(self, checkpoint: Checkpoint, old: int, proof: Sequence[bytes]) -> Signature:
        if checkpoint.origin != self._key.name:
            raise Refused(404, "The key here is of another log")
        async with self._one_at_a_time:
            head = await self._load() or NOTHING
            grow(head, Request(old, tuple(proof), b""), checkpoint)
            if checkpoint.head != head:
                await self._store(checkpoint.head)
        return self._key.sign(checkpoint.text)


async def following(
    ask: Callable[[int, Sequence[bytes]], Awaitable[T]], old: int, size: int, tile: merkle.Tile
) -> T:
    """What a signer or witness answers, asked once more from the size that it says it is at.
    Refused, Unreachable, TileMissing."""
    try:
        return await ask(old, await merkle.consistency(old, size, tile))
    except Refused as refused:
        if refused.size is None or refused.size > size:
            raise
        return await ask(refused.size, await merkle.consistency(refused.size, size, tile))
