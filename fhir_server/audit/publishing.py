"""Publishing the log: each second, or after a thousand leaves, its state is signed by its key,
cosigned by witnesses, kept in the store and handed out.

https://c2sp.org/tlog-checkpoint, https://c2sp.org/tlog-witness
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import NamedTuple, Protocol

import msgspec
import structlog

from fhir_server.log import merkle, note
from fhir_server.log.checkpoint import Checkpoint, Head, parse
from fhir_server.log.merkle import TileMissing
from fhir_server.log.note import Malformed, Note, Signature, Untrusted, Verifier
from fhir_server.log.signing import Signer, Witness, following
from fhir_server.log.witness import Refused, Unreachable
from fhir_server.storage.store import Store, StoreError, Transaction
from fhir_server.times import instant

SPACE = "log"  # of the kept records of this module
NEWEST, HOURLY, VERIFIER = "newest", "hour/", "key/"

SECONDS = 1.0  # between two checkpoints, unless LEAVES came meanwhile
LEAVES = 1_000
TICK = 0.2  # seconds between two looks at the size
WAIT = 2.0  # seconds that somebody waits for a checkpoint, at most
WITNESS_SECONDS = 1.0  # that a checkpoint waits for cosignatures
PATIENCE = 10.0  # seconds before a signer or witness is asked again that did not answer
AGAIN = 3_600.0  # seconds before the same alarm is raised once more

_ALARMING = frozenset({409, 422})  # of HTTP: what was asked for contradicts what was signed
_log = structlog.get_logger("salus")


class Outlet(Protocol):
    """A place outside, where nobody here can take back what was said."""

    where: str  # for people

    async def publish(self, note: Note) -> None:
        """OSError, Unreachable."""
        ...


class Stamped(msgspec.Struct, frozen=True):
    """A checkpoint as it is kept: when it was signed, in microseconds since 1970, and its note."""

    at: int
    note: str


class Newest(NamedTuple):
    """The checkpoint that was signed last."""

    at: int
    note: Note
    checkpoint: Checkpoint


@dataclass
class Progress:
    """For metrics: leaves of the log and of its newest checkpoint, its time in microseconds since
    1970 and by how many it is cosigned; how many alarms there were; how many checkpoints and
    tiles were asked for; and what is wrong now, and since when, by whom it is about."""

    size: int = 0
    signed: int = 0
    at: int = 0
    cosigned: int = 0
    alarms: int = 0
    served: int = 0
    troubles: dict[str, str] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)


async def newest(tx: Transaction) -> Newest | None:
    """The checkpoint that the log has in this state of the store. StoreError when it is damaged."""
    there = await tx.kept(SPACE, NEWEST)
    return None if there is None else stamped(there.value)


def stamped(value: bytes) -> Newest:
    """A checkpoint from how it is kept. StoreError."""
    try:
        found = msgspec.json.decode(value, type=Stamped)
        signed = note.parse(found.note.encode())
        return Newest(found.at, signed, parse(signed.text))
    except (msgspec.MsgspecError, Malformed) as error:
        raise StoreError(f"A kept checkpoint of the log is damaged ({error})") from None


class Publisher:
    """Signs and publishes the log of one store. `alarm` is told when what was signed before is
    contradicted. Each outlet hears of the newest checkpoint every `every` seconds."""

    def __init__(
        self,
        store: Store,
        signer: Signer,
        clock: Callable[[], int],
        witnesses: Sequence[Witness] = (),
        outlets: Sequence[Outlet] = (),
        alarm: Callable[[str], Awaitable[None]] | None = None,
        every: float = 60.0,
    ) -> None:
        self._store, self._signer, self._clock = store, signer, clock
        self._witnesses, self._outlets, self._every = witnesses, outlets, every
        self._alarm = alarm
        self.progress = Progress()
        self.newest: Newest | None = None
        self._signed = 0  # leaves when the signer last signed, as far as is known
        self._seen = {each.verifier: 0 for each in witnesses}
        self._resting: dict[str, float] = {}  # until when whom is not asked
        self._rang: dict[str, float] = {}
        self._refusing: set[str] = set()  # witnesses who saw another log: asked when it grows
        self._told: dict[str, tuple[float, Note | None]] = {}  # when an outlet heard, and what
        self._hour = ""
        self._last = 0.0
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def verifier(self) -> Verifier:
        return self._signer.verifier

    @property
    def witnesses(self) -> list[str]:
        """Their names."""
        return [each.verifier.name for each in self._witnesses]

    # --- the task --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Hold the log as it is against what was signed of it last. StoreError."""
        self.newest = await self._store.transaction(newest)
        key = self._signer.verifier
        await self._keep({f"{VERIFIER}{key.id.hex()}": str(key).encode()})
        if self.newest is None:
            return
        self._show(self.newest)
        state = self.newest.checkpoint
        if state.origin == key.name:
            self._signed = state.size
        self._seen = dict.fromkeys(self._seen, state.size)
        if wrong := await self._contradiction(state.head):
            await self._ring("log", wrong)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(TICK)
            try:
                if await self._due():
                    await self.publish()
                else:
                    await self._complete()
                await self._hand_out()
            except StoreError as error:
                self._trouble("store", str(error))
            except Exception as error:  # the log is signed again as soon as that is possible
                self._rest("signer")
                self._trouble("signer", f"The log cannot be signed ({type(error).__name__})")

    async def close(self) -> None:
        """Sign and hand out what came last."""
        with suppress(StoreError):
            await self.publish()
            await self._hand_out(last=True)

    async def covered(self, leaf: int) -> None:
        """Wait until a leaf is in a checkpoint, or for WAIT seconds."""
        if self.progress.signed > leaf:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT):
                while self.progress.signed <= leaf:
                    made: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiting.add(made)
                    try:
                        await made
                    finally:
                        self._waiting.discard(made)

    async def _due(self) -> bool:
        size = self.progress.size = await self._store.transaction(lambda tx: tx.size())
        new = size - (self.newest.checkpoint.size if self.newest else 0)
        if new == 0 or monotonic() < self._resting.get("signer", 0.0):
            return False
        return new >= LEAVES or monotonic() - self._last >= SECONDS

    async def _contradiction(self, signed: Head) -> str | None:
        """Why the log is not one that begins with what was signed."""
        size = self.progress.size = await self._store.transaction(lambda tx: tx.size())
        if size < signed.size:
            return (
                f"The log has {size} leaves, {signed.size} were signed: it was cut or rolled back"
            )
        try:
            if await merkle.root(signed.size, self._tile) != signed.root:
                return f"The first {signed.size} leaves are not those that were signed"
        except TileMissing as error:
            return f"The log is damaged: {error}"
        return None

    # --- one checkpoint --------------------------------------------------------------------------

    async def publish(self) -> bool:
        """Sign the log as it is, when it has grown; whether that was done. StoreError."""
        self._last = monotonic()
        size = self.progress.size = await self._store.transaction(lambda tx: tx.size())
        if self.newest is not None and size == self.newest.checkpoint.size:
            return False
        if size == 0:
            return False
        signed = await self._sign(size)
        if signed is None:
            return False
        cosigned = await self._cosign(signed, size, self._witnesses)
        await self._settle(signed.signed(cosigned), self._clock())
        return True

    async def _complete(self) -> None:
        """Ask those for the newest checkpoint whose cosignature it has not: at the start, or when
        they did not answer."""
        if self.newest is None or self.newest.checkpoint.origin != self.verifier.name:
            return
        at, signed, state = self.newest
        there = {(each.name, each.id) for each in signed.signatures}
        lacking = [
            each
            for each in self._witnesses
            if (each.verifier.name, each.verifier.id) not in there
            and each.verifier.name not in self._refusing
        ]
        if lacking and (cosigned := await self._cosign(signed, state.size, lacking)):
            await self._settle(signed.signed(cosigned), at)

    async def _sign(self, size: int) -> Note | None:
        """A checkpoint of the log of this size; None when it is not signed now."""
        try:
            root = await merkle.root(size, self._tile)
            state = Checkpoint(self._signer.verifier.name, size, root)
            ask = partial(self._signer.sign, state)
            signature = await following(ask, min(self._signed, size), size, self._tile)
        except Refused as refused:
            self._rest("signer")
            if refused.alarm or refused.status in _ALARMING:
                await self._ring("signer", f"The signer refuses: {refused}")
            else:
                self._trouble("signer", f"The signer refuses: {refused}")
        except (Unreachable, OSError) as error:
            self._rest("signer")
            self._trouble("signer", f"The log cannot be signed now: {error}")
        except TileMissing as error:
            self._rest("signer")
            await self._ring("log", f"The log is damaged: {error}")
        else:
            self._signed = size
            self._well("signer", "log", "store")
            return Note(state.text, (signature,))
        return None

    async def _cosign(
        self, signed: Note, size: int, witnesses: Iterable[Witness]
    ) -> list[Signature]:
        """What witnesses answer in time."""
        now = monotonic()
        asked = [
            asyncio.create_task(self._ask(each, signed, size))
            for each in witnesses
            if now >= self._resting.get(each.verifier.name, 0.0)
        ]
        if not asked:
            return []
        done, late = await asyncio.wait(asked, timeout=WITNESS_SECONDS)
        for task in late:
            task.cancel()
            await asyncio.wait([task])
        found = [task.result() for task in done]
        return [each for each in found if each is not None]

    async def _ask(self, witness: Witness, signed: Note, size: int) -> Signature | None:
        name = witness.verifier.name
        try:
            ask = partial(witness.cosign, signed)
            old = min(self._seen[witness.verifier], size)
            signature = await following(ask, old, size, self._tile)
        except Refused as refused:
            self._rest(name)
            if refused.alarm or refused.status in _ALARMING:
                self._refusing.add(name)
                await self._ring(name, f"The witness {name} refuses: {refused}")
            else:
                self._trouble(name, f"The witness {name} refuses: {refused}")
        except (Unreachable, TileMissing, StoreError) as error:
            self._rest(name)
            self._trouble(name, f"The witness {name} does not cosign: {error}")
        except asyncio.CancelledError:
            self._rest(name)
            self._trouble(name, f"The witness {name} took longer than {WITNESS_SECONDS:g} s")
            raise
        else:
            self._seen[witness.verifier] = size
            self._refusing.discard(name)
            self._well(name)
            return signature
        return None

    async def _settle(self, signed: Note, at: int) -> None:
        """Keep a checkpoint that was signed at this time, and one each hour for good."""
        value = msgspec.json.encode(Stamped(at, signed.encode().decode()))
        kept, hour = {NEWEST: value}, instant(at)[:13]
        if hour != self._hour:
            kept[f"{HOURLY}{hour}"] = value
        await self._keep(kept)
        self._hour = hour
        self.newest = Newest(at, signed, parse(signed.text))
        self._show(self.newest)
        for each in self._waiting:
            if not each.done():
                each.set_result(None)

    async def _keep(self, records: dict[str, bytes]) -> None:
        async def work(tx: Transaction) -> None:
            for key, value in records.items():
                there = await tx.kept(SPACE, key)
                if there is None or there.value != value:
                    await tx.keep(SPACE, key, value)

        await self._store.transaction(work, write=True)

    async def _tile(self, level: int, number: int) -> bytes:
        return await self._store.transaction(lambda tx: tx.tile(level, number))

    # --- outside ---------------------------------------------------------------------------------

    async def _hand_out(self, last: bool = False) -> None:
        """Tell the newest checkpoint to the outlets that have not heard of it for a while."""
        if self.newest is None:
            return
        newest, now = self.newest.note, monotonic()
        for each in self._outlets:
            when, heard = self._told.get(each.where, (float("-inf"), None))
            if heard == newest or (now - when < self._every and not last):
                continue
            self._told[each.where] = (now, heard)
            try:
                await each.publish(newest)
            except (OSError, Unreachable) as error:
                self._trouble(each.where, f"A checkpoint cannot be published: {error}")
            else:
                self._told[each.where] = (now, newest)
                self._well(each.where)

    # --- what went wrong -------------------------------------------------------------------------

    def _show(self, newest: Newest) -> None:
        self.progress.signed, self.progress.at = newest.checkpoint.size, newest.at
        self.progress.cosigned = len(cosigners(newest.note, self._seen))

    def _rest(self, who: str) -> None:
        self._resting[who] = monotonic() + PATIENCE

    def _trouble(self, who: str, text: str) -> None:
        """Say it in the operator's log, once."""
        if self.progress.troubles.get(who) != text:
            self._is_wrong(who, text)
            _log.warning("log", about=who, trouble=text)

    def _is_wrong(self, who: str, text: str) -> None:
        self.progress.troubles[who] = text
        self.progress.since.setdefault(who, self._clock())

    def _well(self, *who: str) -> None:
        for each in who:
            self.progress.since.pop(each, None)
            if self.progress.troubles.pop(each, None) is not None:
                _log.info("log", about=each, trouble="over")

    async def _ring(self, who: str, text: str) -> None:
        """Somebody must look at this."""
        self._is_wrong(who, text)
        if monotonic() - self._rang.get(text, float("-inf")) < AGAIN:
            return
        self._rang[text] = monotonic()
        self.progress.alarms += 1
        _log.error("log", about=who, alarm=text)
        if self._alarm is not None:
            with suppress(StoreError):
                await self._alarm(text)


def cosigners(signed: Note, known: Iterable[Verifier]) -> list[Verifier]:
    """The witnesses whose genuine cosignatures a note has."""
    found = []
    for each in known:
        with suppress(Untrusted):
            note.verified(signed, (each,))
            found.append(each)
    return found
