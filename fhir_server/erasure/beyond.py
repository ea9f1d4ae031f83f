"""What takes part in an erasure beside the store's resources: whoever keeps records of patients
says here how they go. https://gdpr-info.eu/art-17-gdpr/
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from fhir_server.storage.store import Transaction

Forget = Callable[[Transaction, Collection[str]], Awaitable[int]]


class Beyond:
    """`forgets`: each removes its records of resources, named "Patient/id", in the transaction of
    their erasure, and says how many; `forgotten`: each is called once such a removal is durable, to
    go no longer by what it remembers; `begun` is set in a transaction after which an erasure waits
    to be finished."""

    def __init__(self) -> None:
        self.forgets: list[Forget] = []
        self.forgotten: list[Callable[[], None]] = []
        self.begun = asyncio.Event()

    async def forget(self, tx: Transaction, names: Collection[str]) -> int:
        return sum([await each(tx, names) for each in self.forgets])

    def durable(self) -> None:
        for each in self.forgotten:
            each()
