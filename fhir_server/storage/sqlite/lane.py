"""The write lane: one transaction after another on one connection, and one COMMIT for many.

The work of a transaction runs on the event loop, in the task of its caller. When nobody waits any
more, or the batch is full, it is committed, and everything in it is answered. A commit that is
quick is made at once, since waking a thread, which then waits for the interpreter, costs more; for
others a thread is woken, and meanwhile the next batch gathers: commits grow with the load. The lane
stays occupied while a work awaits something else, so works should not.

A work that fails after it wrote takes the batch with it: the others run again, and for a while each
work runs inside a SAVEPOINT of its own (https://www.sqlite.org/lang_savepoint.html). Not always: it
copies every page that is written, a tenth of the cost of a create, and what is refused is refused
before it writes, as a rule.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, TypeVar

import apsw

from fhir_server.storage.sqlite import events, log, records
from fhir_server.storage.sqlite.schema import CHECKPOINT, REFUSALS, unavailable
from fhir_server.storage.sqlite.state import Reach, Shared
from fhir_server.storage.sqlite.threads import Threads
from fhir_server.storage.store import Event, StoreError

T = TypeVar("T")

BATCH = 128  # transactions in one commit
BATCH_SECONDS = 0.010  # after which no further one joins
QUICK_SECONDS = 0.002  # a commit that usually takes less is made on the event loop
FEW = 100  # rows that such a commit changes at most: larger batches gain from gathering
SWEEP_SECONDS = 60  # between two sweeps of expired records
CAREFUL = 1_000  # works that run inside savepoints after one failed that had written


class _Again(Exception):
    """Another work failed and took this one's writes with it."""


class Lane:
    """The writer's connection and who may use it now."""

    def __init__(self, conn: apsw.Connection, shared: Shared) -> None:
        self._conn = conn
        self._shared = shared
        self._thread = Threads(1, "salus-commit")
        self._loop = asyncio.get_running_loop()
        self._busy = False  # a work or a COMMIT is running
        self._idle = asyncio.Event()
        self._idle.set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._recording: list[tuple[Sequence[Event], asyncio.Future[None]]] = []
        self._batch: list[asyncio.Future[None]] = []
        self._begun = 0.0
        self._erased = False
        self._careful = 0  # works that will yet run inside savepoints
        self._swept = monotonic()
        self._closed = False
        self._committed = (shared.sequence, shared.event)
        self._edge: dict[int, bytes] = {}
        self._usual = 0.0  # seconds that a commit takes, the last ones above all
        self._changes = 0  # of the connection before this transaction
        self._pages = 0  # in the write-ahead log
        conn.set_wal_hook(self._note_pages)

    async def run(self, work: Callable[[Reach], Awaitable[T]]) -> T:
        """Run a work when its turn comes; what it returned, once it is durable."""
        if self._closed:
            raise StoreError("The store is closed")
        while True:
            await self._turn()
            try:
                result = await self._attempt(work)
                done = self._loop.create_future()
                self._batch.append(done)
            finally:
                self._pass_on()
            try:
                await done
                return result
            except _Again:
                continue

    async def alone(self, job: Callable[[apsw.Connection], T]) -> T:
        """Run a job outside of every transaction, in the thread that commits, while nobody writes.
        Unavailable."""
        if self._closed:
            raise StoreError("The store is closed")
        await self._turn()
        running = self._loop.create_task(self._by_itself(job))
        running.add_done_callback(_looked_at)
        # Who asked may leave; the connection is the thread's until the job is done.
        return await asyncio.shield(running)

    async def _by_itself(self, job: Callable[[apsw.Connection], T]) -> T:
        """The job, in a turn that was given."""
        try:
            await self._finish()
            return await self._thread.run(partial(job, self._conn))
        except REFUSALS as error:
            raise unavailable(error) from error
        finally:
            self._pass_on()

    async def record(self, waiting: Sequence[Event]) -> None:
        """Append events in the next commit."""
        for event in waiting:
            events.require_shapes(event)
        if self._closed:
            raise StoreError("The store is closed")
        done: asyncio.Future[None] = self._loop.create_future()
        self._recording.append((waiting, done))
        if not self._busy:
            self._occupy()
            self._loop.call_soon(self._settle)
        await done

    def erasing(self) -> None:
        """The running work frees numbers."""
        events.settle(Reach(self._conn, self._shared), self._shared.updated)
        self._erased = True
        self._shared.names.drop()
        self._shared.owners.clear()
        self._shared.current.clear()

    async def close(self) -> None:
        """Wait for everything that was begun."""
        self._closed = True
        await self._idle.wait()
        self._thread.close()

    # --- turns -----------------------------------------------------------------------------------

    async def _turn(self) -> None:
        if not self._busy:
            self._occupy()
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()
            raise

    def _occupy(self) -> None:
        self._busy = True
        self._idle.clear()

    def _pass_on(self) -> None:
        """Give the turn to the next who waits; commit when there is none, but look once more after
        the tasks that are ready now have run: they may want to join."""
        if not self._grant():
            self._loop.call_soon(self._settle)

    def _grant(self) -> bool:
        full = len(self._batch) >= BATCH or (
            self._batch and monotonic() - self._begun > BATCH_SECONDS
        )
        while self._waiting and not full:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return True
        return False

    # --- one work --------------------------------------------------------------------------------

    async def _attempt(self, work: Callable[[Reach], Awaitable[T]]) -> T:
        conn, shared = self._conn, self._shared
        self._begin()
        if self._careful:
            self._settle_before()
        mark, before = shared.names.mark(), (shared.sequence, shared.event)
        leaves, keys = shared.leaves.size, shared.sealing.made
        deferred, waiting = len(shared.deferred), len(shared.waiting)
        erased, changes = self._erased, conn.total_changes()
        shared.updated = max(shared.updated, shared.clock())
        careful = self._careful > 0
        if careful:
            self._careful -= 1
            conn.execute("SAVEPOINT work")
        try:
            result = await work(Reach(conn, shared))
            if careful:
                conn.execute("RELEASE work")
        except BaseException as error:
            shared.names.undo(mark)
            shared.sequence, shared.event = before
            shared.leaves.undo(leaves)
            del shared.deferred[deferred:]
            shared.current.undone()
            while len(shared.waiting) > waiting:
                shared.waiting.popitem()
            if shared.sealing.made != keys:
                shared.sealing.forget()
            if self._erased and not erased:
                shared.names.drop()
            if careful or not conn.in_transaction:
                self._withdraw()
            elif conn.total_changes() != changes:
                self._begin_again()
            if isinstance(error, REFUSALS):
                raise unavailable(error) from error
            raise
        return result

    def _settle_before(self) -> None:
        """Write what waits of the works before, so that undoing the next one does not take it."""
        try:
            events.settle(Reach(self._conn, self._shared), self._shared.updated)
        except BaseException as error:
            self._begin_again()
            if isinstance(error, REFUSALS):
                raise unavailable(error) from error
            raise

    def _begin(self) -> None:
        if not self._conn.in_transaction:
            try:
                self._conn.execute("BEGIN IMMEDIATE")
            except apsw.Error as error:
                raise unavailable(error) from error
            self._begun, self._changes = monotonic(), self._conn.total_changes()

    def _withdraw(self) -> None:
        """Undo the running work; SQLite itself may have undone the whole batch, on a full disk."""
        if self._conn.in_transaction:
            self._conn.execute("ROLLBACK TO work")
            self._conn.execute("RELEASE work")
        else:
            batch, self._batch = self._batch, []
            self._lose(batch, unavailable(apsw.FullError()))

    def _begin_again(self) -> None:
        """Undo the whole batch, for the running work cannot be undone alone; the others run again
        when their turn comes."""
        self._careful = CAREFUL
        batch, self._batch = self._batch, []
        try:
            self._conn.execute("ROLLBACK")
        finally:
            if batch:
                self._erased = False
                self._lose(batch, _Again())

    # --- commit ----------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Commit, unless somebody came meanwhile."""
        if not self._grant():
            task = self._loop.create_task(self._commit())
            task.add_done_callback(lambda done: done.result())

    async def _commit(self) -> None:
        await self._finish()
        if not self._grant():
            self._rest()

    async def _finish(self) -> None:
        """End the batch, with the events that wait."""
        batch, self._batch = self._batch, []
        if batch:
            self._shared.current.committing()
        try:
            batch += self._append()
            if monotonic() - self._swept > SWEEP_SECONDS:
                self._swept = monotonic()
                self._begin()
                records.sweep(Reach(self._conn, self._shared), self._shared.clock())
            if self._conn.in_transaction:
                self._edge = log.write(self._conn, self._shared.leaves)
                if self._is_quick():
                    self._commit_here()
                else:
                    await self._thread.run(self._commit_here)
        except Exception as error:
            cause = unavailable(error) if isinstance(error, apsw.Error) else error
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")
            self._lose(batch, cause)
        else:
            self._keep(batch)
            if self._pages >= CHECKPOINT:
                await self._thread.run(self._checkpoint_here)

    def _is_quick(self) -> bool:
        """Whether committing is not worth waking a thread: on a disk that stalls it soon is."""
        rows = self._conn.total_changes() - self._changes
        return self._usual < QUICK_SECONDS and rows < FEW

    def _commit_here(self) -> None:
        began = monotonic()
        self._conn.execute("COMMIT")
        self._usual += (monotonic() - began - self._usual) / 8

    def _checkpoint_here(self) -> None:
        """What cannot be moved now, since somebody reads, is the next time."""
        with suppress(apsw.Error):
            self._conn.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _note_pages(self, _conn: apsw.Connection, _name: str, pages: int) -> int:
        self._pages = pages
        return apsw.SQLITE_OK

    def _append(self) -> list[asyncio.Future[None]]:
        """Write the rows and events that wait; whose the events are."""
        asked, self._recording = self._recording, []
        if not (asked or self._shared.deferred or self._shared.waiting):
            return []
        self._begin()
        try:
            reach = Reach(self._conn, self._shared)
            now = self._shared.clock() if asked else self._shared.updated
            events.settle(reach, now, [event for each, _ in asked for event in each])
        except BaseException as error:
            self._lose([done for _, done in asked], error)
            raise
        return [done for _, done in asked]

    def _keep(self, batch: list[asyncio.Future[None]]) -> None:
        shared = self._shared
        shared.names.settle()
        shared.leaves.settle(self._edge)
        if self._erased:
            self._erased = False
            shared.names.drop()
            shared.owners.clear()
            shared.current.clear()
            shared.counted.clear()
            shared.totals.clear()
        if shared.reindexed:
            shared.reindexed = False
            shared.names.era += 1
        self._committed = (shared.sequence, shared.event)
        shared.current.settled(committed=True)
        for done in batch:
            if not done.done():
                done.set_result(None)

    def _lose(self, batch: list[asyncio.Future[None]], error: BaseException) -> None:
        """Nothing of the batch is stored: forget what was made in it and tell everybody."""
        self._shared.names.drop()
        self._shared.owners.clear()
        self._shared.sequence, self._shared.event = self._committed
        self._shared.leaves.undo(self._shared.leaves.committed)
        self._shared.sealing.forget()
        self._shared.deferred.clear()
        self._shared.waiting.clear()
        self._shared.current.settled()
        for done in batch:
            if not done.done():
                done.set_exception(error)

    def _rest(self) -> None:
        if self._recording:
            self._loop.call_soon(self._settle)
        else:
            self._busy = False
            self._idle.set()


def _looked_at(task: asyncio.Task[Any]) -> None:
    """Nobody need wait for it: what it raised is not left unseen."""
    if not task.cancelled():
        task.exception()
