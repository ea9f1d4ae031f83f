"""New logical ids: UUIDs of version 7, which grow with time, so that index keys grow at one end.

https://www.rfc-editor.org/rfc/rfc9562#section-5.7, https://hl7.org/fhir/R4/datatypes.html#id
"""

from __future__ import annotations

import os
import re
import time

LOGICAL_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)


def new_id() -> str:
    """A fresh id; 74 of its bits are random."""
    random = int.from_bytes(os.urandom(10), "big") & ((1 << 74) - 1)
    value = (
        ((time.time_ns() // 1_000_000) << 80)
        | (0x7 << 76)
        | ((random >> 62) << 64)
        | (0b10 << 62)
        | (random & ((1 << 62) - 1))
    )
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_id(text: str) -> bool:
    """Whether a text can be a logical id."""
    return LOGICAL_ID.fullmatch(text) is not None


def is_made_here(id: str) -> bool:
    """Whether an id looks like those that `new_id` gives, rather than one that a client chose."""
    return len(id) == 36 and id[14] == "7" and id[8] == "-"
