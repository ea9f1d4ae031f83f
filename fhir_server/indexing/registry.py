"""The search parameters that R4 does not have, from installed guides and from posted resources:
taken up when they come, their entries built in the background, answering when all are there.

https://hl7.org/fhir/R4/searchparameter.html

A write has the entries of a parameter from the moment that it is building. The builder walks what
was there then in the order of its sequence: what is changed meanwhile moves behind that. The place
that it reached is committed with the entries, and at its end the parameter is active.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from fhir_server import access
from fhir_server.core import Core
from fhir_server.erasure.finishing import tell
from fhir_server.indexing import sources, states
from fhir_server.indexing.looking import look
from fhir_server.indexing.states import NOTHING, Indexed
from fhir_server.packages import Current
from fhir_server.search.added import Collected, Refusal, collect
from fhir_server.search.guests import Guests, Progress
from fhir_server.storage.store import Store, Transaction

REST = 2.0  # seconds of rest for each second of work in the background
_RETRY_SECONDS = 5.0


class Told(NamedTuple):
    """One parameter on one type, as operators are told: `state` is active, building or refused;
    of the latter `why`."""

    url: str
    type: str
    code: str
    state: str
    origin: str
    percent: int | None = None
    why: str = ""


class SearchParameters:
    """All of them, of one server. `settle` takes up what changed; `run` builds."""

    def __init__(self, store: Store, core: Core) -> None:
        self._store, self._core = store, core
        self._known = sources.known_of(core)
        self._found = Collected()
        self._states: dict[str, Indexed] = {}
        self._progress: dict[str, Progress] = {}
        self._one = asyncio.Lock()
        self._wake = asyncio.Event()
        core.guides.tell(self._installed)

    # --- what there is ---------------------------------------------------------------------------

    async def settle(self) -> None:
        """Take up what was installed, posted, changed or deleted; from here on, what is written has
        the entries of what is new. StoreError."""
        index = self._core.index
        async with self._one:
            index.stirred = False
            try:
                await self._store.transaction(self._reconcile, write=True)
            except BaseException:
                index.stirred = True
                self._wake.set()
                raise
        self._wake.set()

    async def _reconcile(self, tx: Transaction) -> None:
        """The index goes by it before another write has its turn, so that none comes between; if
        this is not committed, it is done once more."""
        kept = await states.read(tx)
        found = collect(self._known, [*sources.of_guides(self._core), *await sources.posted(tx)])
        for type in {*kept, *found.added}:
            before = kept.get(type, NOTHING)
            now = states.reconciled(before, found.added.get(type, {}))
            if now.pending and not now.until:
                now = await states.begin(tx, type, now)
            if now != before:
                await states.write(tx, type, now)
            kept[type] = now
        self._found = found
        self._states = {type: state for type, state in kept.items() if state != NOTHING}
        self._adopt()

    def _installed(self, _: Current) -> None:
        self._core.index.stirred = True
        self._wake.set()

    def _adopt(self) -> None:
        """Let the index go by what was found and how far it is."""
        types = {*self._states, *self._found.named, *(type for type, _ in self._found.aliases)}
        self._progress = {
            type: Progress(state.done, state.total) for type, state in self._states.items()
        }
        self._core.index.adopt({type: self._guests(type) for type in types})
        access.forget()

    def _guests(self, type: str) -> Guests:
        state = self._states.get(type, NOTHING)
        added = {code: each.parameter for code, each in self._found.added.get(type, {}).items()}
        answering = {code: each for code, each in added.items() if code in state.active}
        return Guests(
            {**self._found.named.get(type, {}), **answering},
            tuple(added.values()),
            {code: self._progress[type] for code in added if code in state.building},
            {code: url for (of, code), url in self._found.aliases.items() if of == type},
        )

    # --- building --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled: build what lacks, with rests in between, so that nobody waits long; what
        goes wrong is tried again."""
        while True:
            try:
                await self._work()
                await self._wake.wait()
            except Exception as error:
                tell("indexing search parameters", error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _work(self) -> None:
        """Build until nothing lacks."""
        while True:
            self._wake.clear()
            if self._core.index.stirred:
                await self.settle()
            type = next(iter(states.pending(self._states)), None)
            if type is None:
                return
            await asyncio.sleep(REST * await self._step(type))

    async def finish(self, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Build all that lacks, at once. StoreError."""
        while types := [*states.pending(self._states)]:
            await self._step(types[0])
            progress(sum(e.done for e in self._states.values()), self.total)

    @property
    def total(self) -> int:
        """About how many resources are to be looked at."""
        return sum(each.total for each in self._states.values() if each.pending)

    async def _step(self, type: str) -> float:
        """Look at some resources of a type; when there are no more, its parameters answer. How many
        seconds others had to wait for it."""
        async with self._one:
            state = self._states.get(type, NOTHING)
            if not state.pending:
                return 0.0
            spent = 0.0
            reach = (state.place, state.until)
            looked = await look(self._store, self._core.index, type, *reach)

            async def work(tx: Transaction) -> Indexed:
                nonlocal spent
                began = monotonic()
                if await states.read_one(tx, type) != state:
                    self._core.index.stirred = True  # $reindex began meanwhile
                    return state
                for each in looked.wrong:
                    current = await tx.get(type, each.id)
                    if current is not None and current.number == each.number:
                        await tx.reindex(type, each.id, each.entries)
                now = state.reached(looked.place, looked.seen)
                now = state.finished() if looked.last else now
                await states.write(tx, type, now)
                spent = looked.seconds + monotonic() - began
                return now

            now = await self._store.transaction(work, write=True)
            self._states[type] = now
            if now.pending:
                progress = self._progress[type]
                progress.done, progress.total = now.done, now.total
                return spent
            if now == NOTHING:
                del self._states[type]
            self._adopt()
            return spent

    # --- what is told ----------------------------------------------------------------------------

    def told(self) -> list[Told]:
        """Every parameter that R4 does not have, and every definition that has no effect."""
        found: list[Told] = []
        for type, added in sorted(self._found.added.items()):
            state = self._states.get(type, NOTHING)
            for code, each in sorted(added.items()):
                url, built = each.parameter.definition.url, code in state.active
                percent = None if built else self._progress[type].percent
                now = "active" if built else "building"
                found.append(Told(url, type, code, now, each.origin, percent))
        return found + [_refused(each) for each in self._found.refusals]

    def building(self) -> dict[str, Progress]:
        """How far what is being indexed is, by type."""
        pending = states.pending(self._states)
        return {type: self._progress[type] for type in pending}


def _refused(each: Refusal) -> Told:
    return Told(each.url, each.type or "", "", "refused", each.origin, None, each.why)
