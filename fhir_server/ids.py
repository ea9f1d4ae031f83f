"""New logical ids: UUIDs of version 7, which grow with time, so that index keys grow at one end.

https://www.rfc-editor.org/rfc/rfc9562#section-5.7, https://hl7.org/fhir/R4/datatypes.html#id
"""

from __future__ import annotations

import os
import re
import time

LOGICAL_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)

_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))  # its first two bits are 10


def new_id() -> str:
    """A fresh id; 74 of its bits are random."""
    at, random = f"{time.time_ns() // 1_000_000:012x}", os.urandom(10).hex()
    variant = _VARIANT[random[3]]
    return f"{at[:8]}-{at[8:]}-7{random[:3]}-{variant}{random[4:7]}-{random[7:19]}"


def is_id(text: str) -> bool:
    """Whether a text can be a logical id."""
    return LOGICAL_ID.fullmatch(text) is not None


def is_made_here(id: str) -> bool:
    """Whether an id looks like those that `new_id` gives, rather than one that a client chose."""
    return len(id) == 36 and id[14] == "7" and id[8] == "-"
