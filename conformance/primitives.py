"""What a value of each primitive type may be: form, real calendar days, ranges and lengths.

https://hl7.org/fhir/R4/datatypes.html#primitive
"""

from __future__ import annotations

import binascii
import re
from calendar import monthrange
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

Check = Callable[[Any], bool]

LONGEST_STRING = 1024 * 1024  # characters
_LOWEST, _HIGHEST = -(2**31), 2**31 - 1

# The official expressions with re.ASCII, so that a no-break space is no white space. That of
# base64Binary is not used: its time doubles with each gap.
_DATE = r"(?!0000)\d{4}(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12]\d|3[01]))?)?"
_DAY = r"(?!0000)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?"
_ZONE = r"(?:Z|[+-](?:(?:0\d|1[0-3]):[0-5]\d|14:00))"


def _form(expression: str) -> Callable[[str], object]:
    return re.compile(expression, re.ASCII).fullmatch


_id = _form(r"[A-Za-z0-9\-.]{1,64}")
_uri = _form(r"\S+")
_code = _form(r"\S+(?: \S+)*")
_text = _form(r"[ \r\n\t\S]+")
_oid = _form(r"urn:oid:[0-2](?:\.(?:0|[1-9]\d*))+")
_uuid = _form(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_date = _form(_DATE)
_date_time = _form(rf"{_DAY}T{_TIME}{_ZONE}|{_DATE}")  # most have a time of day
_instant = _form(rf"{_DAY}T{_TIME}{_ZONE}")
_time = _form(_TIME)


def is_string(value: Any) -> bool:
    if type(value) is not str or not value or len(value) > LONGEST_STRING:
        return False
    # Printable text holds no control character; the expression is for the rest.
    return (value.isprintable() or (_text(value) is not None and "\0" not in value)) and (
        not value.isspace()
    )


def is_code(value: Any) -> bool:
    if type(value) is not str or not value:
        return False
    return (value.isprintable() and " " not in value) or _code(value) is not None


def is_uri(value: Any) -> bool:
    if type(value) is not str or not value:
        return False
    return (value.isprintable() and " " not in value) or _uri(value) is not None


def is_id(value: Any) -> bool:
    return type(value) is str and _id(value) is not None


def is_oid(value: Any) -> bool:
    return type(value) is str and _oid(value) is not None


def is_uuid(value: Any) -> bool:
    return type(value) is str and _uuid(value) is not None


def is_boolean(value: Any) -> bool:
    return type(value) is bool


def is_integer(value: Any) -> bool:
    return type(value) is int and _LOWEST <= value <= _HIGHEST


def is_unsigned(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _HIGHEST


def is_positive(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _HIGHEST


def is_decimal(value: Any) -> bool:
    return type(value) is int or (type(value) is Decimal and value.is_finite())


def is_date(value: Any) -> bool:
    return type(value) is str and _date(value) is not None and _on_calendar(value)


def is_date_time(value: Any) -> bool:
    return type(value) is str and _date_time(value) is not None and _on_calendar(value)


def is_instant(value: Any) -> bool:
    return type(value) is str and _instant(value) is not None and _on_calendar(value)


def is_time(value: Any) -> bool:
    return type(value) is str and _time(value) is not None


def is_base64(value: Any) -> bool:
    if type(value) is not str:
        return False
    packed = "".join(value.split())
    try:
        binascii.a2b_base64(packed, strict_mode=True)
    except ValueError:
        return False
    return bool(packed)


def _on_calendar(value: str) -> bool:
    day = value[8:10]
    return day < "29" or int(day) <= monthrange(int(value[:4]), int(value[5:7]))[1]


CHECKS: Mapping[str, Check] = {
    "base64Binary": is_base64,
    "boolean": is_boolean,
    "canonical": is_uri,
    "code": is_code,
    "date": is_date,
    "dateTime": is_date_time,
    "decimal": is_decimal,
    "id": is_id,
    "instant": is_instant,
    "integer": is_integer,
    "markdown": is_string,
    "oid": is_oid,
    "positiveInt": is_positive,
    "string": is_string,
    "time": is_time,
    "unsignedInt": is_unsigned,
    "uri": is_uri,
    "url": is_uri,
    "uuid": is_uuid,
}

# What is expected, to complete the sentence "it must be ...".
EXPECTED: Mapping[str, str] = {
    "base64Binary": "text in base64",
    "boolean": "true or false, without quotes",
    "canonical": "a canonical URL without spaces",
    "code": "a code: text without leading, trailing or double spaces",
    "date": "a date that exists, as YYYY, YYYY-MM or YYYY-MM-DD",
    "dateTime": "a date that exists, or one with a time of day, seconds and an offset",
    "decimal": "a number, without quotes",
    "id": "1 to 64 letters, digits, - or .",
    "instant": "a date that exists with a time of day, seconds and an offset",
    "integer": "a whole number of 32 bits, without quotes",
    "markdown": "text that is not blank, of at most 1,048,576 characters",
    "oid": "an OID that begins with urn:oid:",
    "positiveInt": "a whole number from 1 to 2,147,483,647, without quotes",
    "string": "text that is not blank, of at most 1,048,576 characters",
    "time": "a time of day as HH:MM:SS",
    "unsignedInt": "a whole number from 0 to 2,147,483,647, without quotes",
    "uri": "a URI without spaces",
    "url": "a URL without spaces",
    "uuid": "a UUID in small letters that begins with urn:uuid:",
}
