"""How much of the time bulk work takes: the less, the longer others have to wait for their turn.

https://docs.python.org/3/library/asyncio-dev.html#running-blocking-code
"""

from __future__ import annotations

import asyncio
from time import monotonic

_LATE = 0.004  # seconds after which a turn comes late: others are at work
_MOST = 8.0  # seconds of rest for a second of work, where others wait
_LONGEST = 0.5  # seconds of one rest


class Pace:
    """`least`: seconds of rest for a second of work, where nobody waits."""

    def __init__(self, least: float) -> None:
        self._least = self._share = least

    async def rest(self, worked: float) -> None:
        """Rest after so many seconds of work, and learn from how late the next turn comes."""
        began, pause = monotonic(), min(worked * self._share, _LONGEST)
        await asyncio.sleep(pause)
        if monotonic() - began - pause > _LATE:
            self._share = min(max(self._share, 0.5) * 2, _MOST)
        else:
            self._share = max(self._share / 1.25, self._least)
