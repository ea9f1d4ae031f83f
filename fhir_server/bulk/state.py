"""What all bulk jobs of a server share: how many there may be, and the bell of who works on them.

https://hl7.org/fhir/uv/bulkdata/
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from conformance.outcome import FhirError

NDJSON = "application/fhir+ndjson"
NDJSON_TYPES = frozenset({NDJSON, "application/ndjson", "ndjson"})


async def _nowhere(url: str, most: int) -> AsyncIterator[bytes]:
    raise FhirError("not-supported", "this server fetches no files")
    yield b""


async def _stands(grant: str) -> bool:
    return True


@dataclass(slots=True)
class Bulk:
    """`jobs` of one client and `total` of all are kept at a time; `lines` of a file; `import_lines`
    of one that is imported, about; `seconds` that a finished job is kept; `hosts` that files to
    import are fetched from, by `fetch` (of a URL, at most so many bytes; FhirError); `stands`:
    whether the grant of this id still counts. `begun` is set when there is something to do;
    `polled` says of a job when its status may be asked again (seconds of the monotonic clock)."""

    jobs: int = 8
    total: int = 100
    lines: int = 50_000
    import_lines: int = 5_000_000
    seconds: int = 24 * 3600
    hosts: frozenset[str] = frozenset()
    fetch: Callable[[str, int], AsyncIterator[bytes]] = _nowhere
    stands: Callable[[str], Awaitable[bool]] = _stands
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    polled: dict[str, float] = field(default_factory=dict)
