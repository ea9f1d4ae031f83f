"""The fields of a form that has a file: its parts, each with a name, and none inside another.

https://www.rfc-editor.org/rfc/rfc7578
"""

from __future__ import annotations

import re

from starlette.requests import Request

from smart_auth import forms
from smart_auth.errors import OAuthError

_PARTS = 10
_HEAD = 1024  # bytes of the header of a part
_BOUNDARY = re.compile(
    r"multipart/form-data; ?boundary=(?:\"([\w'()+,./:=? -]{1,70})\"|([\w'+.-]{1,70}))",
    re.ASCII | re.IGNORECASE,
)
NO_TEXT = "\0"  # what a part is that is no text in UTF-8
_NAMED = re.compile(
    rb'^content-disposition: ?form-data; ?name="([^"\r\n]{1,100})"', re.IGNORECASE | re.MULTILINE
)


async def fields(request: Request, limit: int) -> dict[str, str]:
    """The fields of a form by their names. OAuthError for another media type, more than 10 parts,
    a part without a name, a field that comes twice, and more than `limit` bytes (413)."""
    found = _BOUNDARY.fullmatch(request.headers.get("content-type", ""))
    if found is None:
        raise OAuthError("invalid_request", "Send the form as multipart/form-data")
    return parsed(await forms.body(request, limit), (found[1] or found[2]).encode())


def parsed(body: bytes, boundary: bytes) -> dict[str, str]:
    """The parts of a body between its boundaries, as texts: NO_TEXT for what is none. OAuthError,
    as above."""
    _, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary, _PARTS + 1)
    if not parts or not parts[-1].startswith(b"--"):
        raise OAuthError("invalid_request", f"A form has at most {_PARTS} parts, and ends")
    kept: dict[str, str] = {}
    for part in parts[:-1]:
        end = part.find(b"\r\n\r\n", 0, _HEAD)
        named = _NAMED.search(part[:end]) if end >= 0 else None
        if named is None:
            raise OAuthError("invalid_request", "A part of the form has no name")
        name = named[1].decode("utf-8", "replace")
        if name in kept:
            raise OAuthError("invalid_request", "A field of the form comes twice")
        kept[name] = _text(part[end + 4 :])
    return kept


def _text(part: bytes) -> str:
    try:
        text = part.decode()
    except UnicodeDecodeError:
        return NO_TEXT
    return NO_TEXT if "\0" in text else text
