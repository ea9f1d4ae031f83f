"""Dates and times as ranges of microseconds since 1970, UTC, both ends inclusive.

https://hl7.org/fhir/R4/search.html#date
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo

# The ends of an open period: beyond every date of FHIR, within 64 bits.
EARLIEST = -(2**62)
LATEST = 2**62

MICROSECOND = timedelta(microseconds=1)
SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FRACTION_DIGITS = 9  # of a second in a search value; more is a mistake, not a precision
_ASKED = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)"
    r"(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[ +-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)


def stored(text: str, zone: tzinfo) -> tuple[int, int]:
    """The range that a date, dateTime or instant of a resource covers. Without an offset it is
    read in `zone`. A fraction of a second is a point (more than six digits: the two microseconds
    around it). ValueError when it is no date."""
    if len(text) <= 10:
        return _days(text, zone)
    low = _moment(text, zone)
    if text[19:20] != ".":
        return low, low + SECOND - 1
    beyond = text[26:].rstrip("Z").partition("+")[0].partition("-")[0].rstrip("0")
    return low, low + 1 if beyond else low


def asked(text: str, zone: tzinfo) -> tuple[int, int]:
    """The range that a search value means. A fraction finer than a microsecond gives an empty
    range, whose ends are the microseconds on either side: comparisons with it stay exact.
    ValueError when it is no date."""
    found = _ASKED.fullmatch(text)
    if found is None:
        raise ValueError("not a date")
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    if hour is None:
        return _days(text, zone)
    text = f"{year}-{month}-{day}T{hour}:{minute}:{second or '00'}"
    # An unencoded + in a URL arrives as a space.
    low = _moment(text + (offset or "").replace(" ", "+"), zone)
    if second is None:
        return low, low + MINUTE - 1
    if fraction is None:
        return low, low + SECOND - 1
    if len(fraction) > _FRACTION_DIGITS:
        raise ValueError("too many digits")
    return _fraction(low, fraction)


def _fraction(low: int, digits: str) -> tuple[int, int]:
    low += int(digits[:6].ljust(6, "0"))
    if len(digits) <= 6:
        return low, low + int(10 ** (6 - len(digits))) - 1
    return (low + 1, low) if digits[6:].strip("0") else (low, low)


def _moment(text: str, zone: tzinfo) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        if text[16:19] != ":60":  # a leap second is the first second of the next minute
            raise
        return _moment(text.replace(":60", ":59", 1), zone) + SECOND
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def _days(text: str, zone: tzinfo) -> tuple[int, int]:
    year = int(text[:4])
    if len(text) == 10:
        day = date.fromisoformat(text)
        low = _start(day, zone)
        return low, _before(day.toordinal() + 1, zone)
    if len(text) == 7:
        month = int(text[5:])
        first = date(year, month, 1)
        return _start(first, zone), _before(
            (first + timedelta(days=31)).replace(day=1).toordinal()
            if (year, month) != (9999, 12)
            else date.max.toordinal() + 1,
            zone,
        )
    if len(text) != 4:
        raise ValueError("not a date")
    return _start(date(year, 1, 1), zone), _before(date(year, 12, 31).toordinal() + 1, zone)


def _start(day: date, zone: tzinfo) -> int:
    if zone is UTC:
        return (day.toordinal() - _EPOCH_DAY) * DAY
    return (datetime(day.year, day.month, day.day, tzinfo=zone) - _EPOCH) // MICROSECOND


def _before(ordinal: int, zone: tzinfo) -> int:
    """The last microsecond before the day of that ordinal, which may be the one after 9999."""
    if zone is UTC or ordinal > date.max.toordinal():
        return (ordinal - _EPOCH_DAY) * DAY - 1
    return _start(date.fromordinal(ordinal), zone) - 1
