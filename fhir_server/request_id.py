"""By what a request is known: the client's X-Request-Id, or one that is made here.

https://hl7.org/fhir/R4/http.html#custom, https://profiles.ihe.net/ITI/BALP/content.html
"""

from __future__ import annotations

import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, MutableMapping

REQUEST_ID = b"x-request-id"
_BYTES = 9  # of chance
# What a client gives is written into the audit as it is, so it has no room for a sentence.
_is_sane = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._\-]{0,63}").fullmatch


def request_id(headers: MutableMapping[bytes, bytes]) -> str:
    """The id of a request. Where the client gave none, or one that is no plain token, it is made
    and put among the headers."""
    given = headers.get(REQUEST_ID)
    if given is None or not _is_sane(given):
        given = headers[REQUEST_ID] = urlsafe_b64encode(os.urandom(_BYTES))
    return given.decode()


def request_of(headers: Mapping[bytes, bytes]) -> str:
    """The id that `request_id` has settled; empty before."""
    return headers.get(REQUEST_ID, b"").decode("ascii", "replace")
