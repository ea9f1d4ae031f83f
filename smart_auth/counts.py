"""Attempts counted in fixed windows of time, through the store, so that a restart forgets none.

https://www.rfc-editor.org/rfc/rfc6749#section-10.10
"""

from __future__ import annotations

from smart_auth.model import COUNTS, Count
from smart_auth.records import Transaction


async def add(tx: Transaction, what: str, window: int, now: int) -> int:
    """Count one more attempt of `what` and say how many there are in its window, which begins with
    the first and lasts `window` microseconds."""
    running = await _running(tx, what, window, now)
    began, count = (running.began, running.count + 1) if running else (now, 1)
    await COUNTS.write(tx, what, Count(count=count, began=began), until=began + window)
    return count


async def counted(tx: Transaction, what: str, window: int, now: int) -> int:
    """How many attempts of `what` there are in the present window."""
    running = await _running(tx, what, window, now)
    return running.count if running else 0


async def remaining(tx: Transaction, what: str, window: int, now: int) -> int:
    """Microseconds until the present window of `what` ends; 0 when there is none."""
    running = await _running(tx, what, window, now)
    return running.began + window - now if running else 0


async def forget(tx: Transaction, what: str) -> None:
    """Begin anew at the next attempt."""
    await COUNTS.take(tx, what)


async def _running(tx: Transaction, what: str, window: int, now: int) -> Count | None:
    found = await COUNTS.read(tx, what)
    return found if found and found.began <= now < found.began + window else None
