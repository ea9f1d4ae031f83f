"""Lines in gzip, for a client that takes them so.

https://www.rfc-editor.org/rfc/rfc9110#field.accept-encoding, https://www.rfc-editor.org/rfc/rfc1952
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

_GZIP = 31  # the window bits that mean gzip
_LEVEL = 1  # the quickest
_NAMES = ("gzip", "x-gzip", "*")  # the first that is named decides


def takes_gzip(header: bytes) -> bool:
    """Whether an Accept-Encoding names gzip, or anything, and does not refuse it."""
    wanted = dict[str, bool]()
    for each in header.decode("latin-1").lower().split(","):
        name, _, weight = each.partition(";")
        wanted[name.strip()] = weight.replace(" ", "").rstrip("0") not in ("q=", "q=0.", "q=.")
    found = [wanted[name] for name in _NAMES if name in wanted]
    return bool(found) and found[0]


async def gzipped(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same, packed."""
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
    async for each in lines:
        part = packer.compress(each)
        if part:
            yield part
    yield packer.flush()
