"""By what a request is known: the client's X-Request-Id, or one that is made here.

https://hl7.org/fhir/R4/http.html#custom, https://profiles.ihe.net/ITI/BALP/content.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

REQUEST_ID = b"x-request-id"
_BYTES = 8  # of chance
# What a client gives is written into the audit as it is, so it has no room for a sentence.
_is_sane = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._\-]{0,63}").fullmatch


def request_id(headers: Mapping[bytes, bytes]) -> bytes:
    """The id of a request: made where the client gave none, or one that is no plain token."""
    given = headers.get(REQUEST_ID)
    if given is not None and _is_sane(given):
        return given
    return os.urandom(_BYTES).hex().encode()


def request_of(headers: Mapping[bytes, bytes]) -> str:
    """The id of a request, once it is settled and among its headers."""
    return headers.get(REQUEST_ID, b"").decode("ascii", "replace")
