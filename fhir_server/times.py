"""Instants of the server: microseconds since 1970 in UTC, as FHIR and HTTP write them.

https://hl7.org/fhir/R4/datatypes.html#instant, https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def instant(microseconds: int) -> str:
    """A FHIR instant with milliseconds: 2026-11-22T08:00:00.000Z."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_second(seconds)}.{rest // 1000:03}Z"


@lru_cache(4096)  # the present second is asked for again and again
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def parse_instant(text: str) -> int:
    """Microseconds since 1970 of a FHIR instant; a leap second counts as the one before.
    ValueError."""
    if text[16:19] == ":60":
        text = text[:16] + ":59" + text[19:]
    return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND


def http_date(microseconds: int) -> str:
    """An IMF-fixdate, for Last-Modified."""
    return _http_second(microseconds // 1_000_000)


@lru_cache(4096)
def _http_second(seconds: int) -> str:
    return format_datetime(_EPOCH + timedelta(seconds=seconds), usegmt=True)


def parse_http_date(text: str) -> int | None:
    """Microseconds since 1970 of an HTTP date; None when it is none, which HTTP says to ignore."""
    try:
        return int(parsedate_to_datetime(text).timestamp()) * 1_000_000
    except (ValueError, TypeError, OverflowError):
        return None
