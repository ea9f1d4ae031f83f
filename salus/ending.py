"""What ends while a server runs: erasures are finished soon after they began, and once a day goes
what is no longer to be kept.

https://gdpr-info.eu/art-5-gdpr/, https://gdpr-info.eu/art-17-gdpr/
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import cast

from conformance import definitions
from fhir_server.erasure.finishing import WHOLE, Finisher, tell
from fhir_server.erasure.months import Ended, cutoff, expire_before
from fhir_server.erasure.retention import Purged, apply
from fhir_server.erasure.rules import read_rules
from fhir_server.server import Server
from fhir_server.storage.sqlite import SqliteStore
from fhir_server.storage.store import Transaction, Unavailable
from fhir_server.storage.vault import Vault
from salus.settings import Settings
from smart_auth.authority import Authority
from smart_auth.forgetting import forget

_DAY_SECONDS = 86_400.0
_FIRST_SECONDS = 300.0  # after the start, when others have found their place
_AT_START = 16 * WHOLE  # bytes of a file that is rebuilt before anybody waits for it


class Ending:
    """The parts of it: `finisher`; `daily` does what is due."""

    def __init__(
        self, settings: Settings, server: Server, vault: Vault, authority: Authority
    ) -> None:
        self._settings, self._server, self._vault = settings, server, vault
        self.store = cast(SqliteStore, server.store)
        self.finisher = Finisher(self.store, server.core, vault)

        async def forgets(tx: Transaction, names: Collection[str]) -> int:
            return await forget(authority, tx, names)

        server.core.beyond.forgets.append(forgets)
        server.core.beyond.forgotten.append(lambda: authority.changed(None))

    async def begin(self) -> None:
        """Finish what was interrupted, before anybody is served; what goes wrong in it keeps nobody
        from being served, and is tried again. Unavailable."""
        try:
            await self.finisher.resume()
        except Unavailable:
            raise
        except Exception as error:
            tell("erasure", error)
        if self.store.untidy:
            await self.store.tidy(_AT_START)

    async def daily(self) -> tuple[list[Purged], list[Ended]]:
        """Remove what is over. Unavailable."""
        now = self._server.core.clock()
        rules = read_rules(self._settings.retention, definitions.load().types)
        purged = await apply(self.store, rules, now)
        ended = await self.expire(cutoff(self._settings.audit_years, now))
        if purged or ended:
            await self.store.tidy(WHOLE)
        return purged, ended

    async def expire(self, before: str) -> list[Ended]:
        """End the months of the audit before one ("2020-11"). Unavailable."""
        return await expire_before(self.store, self._vault, before)

    async def run(self) -> None:
        """Until cancelled: `daily`, each day; what cannot be done now is tried the day after."""
        await asyncio.sleep(_FIRST_SECONDS)
        while True:
            try:
                await self.daily()
            except Exception as error:
                tell("what ends by its age", error)
            await asyncio.sleep(_DAY_SECONDS)


@asynccontextmanager
async def ending(
    settings: Settings, server: Server, vault: Vault, authority: Authority
) -> AsyncIterator[Ending]:
    """Everything that ends, seen to while this lasts. StoreError."""
    made = Ending(settings, server, vault, authority)
    await made.begin()
    tasks = [asyncio.create_task(made.finisher.run()), asyncio.create_task(made.run())]
    try:
        yield made
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
