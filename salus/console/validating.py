"""The page of validation: a resource is pasted or sent as a file, and what is wrong with it is
shown beside its lines. Nothing of it is kept, and nothing is told to the audit or the log.

https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from functools import lru_cache
from typing import NamedTuple

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conformance.packages import Packages
from fhir_server.packages.guides import Current
from salus.console.page import Visit, render, signed_page
from salus.judging import Judged, Remark, judge
from smart_auth import forms
from smart_auth.errors import OAuthError
from smart_auth.sessions import Signed

VALIDATE = "/validate"
BYTES = 1024 * 1024  # of what is sent
_LINES = 20_000  # that are shown
_PROFILE = 1000  # characters of a canonical url
_WORDS = {
    "fatal": "Fatal",
    "error": "Error",
    "warning": "Warning",
    "information": "Information",
}

router = APIRouter(include_in_schema=False)


class Line(NamedTuple):
    """A line of the text, and what is said of it; `number` is its anchor."""

    number: int
    text: str
    remarks: list[Remark]


class Offered(NamedTuple):
    """A profile to choose."""

    canonical: str
    title: str


async def _page(visit: Visit, signed: Signed) -> Response:
    current = _current(visit.request)
    profile = visit.sent.get("profile", "").strip()[:_PROFILE]
    posted = visit.request.method == "POST"
    text = visit.sent.get("file") or visit.sent.get("text", "") if posted else ""
    judged = None
    if text.strip():
        asked = [profile] if profile else []
        judged = await asyncio.to_thread(judge, current.profiles, text.encode(), asked)
    return render(
        visit,
        "validate",
        offered=_offered(current.packages),
        profile=profile,
        text=text,
        judged=judged,
        empty=posted and judged is None,
        lines=list(_lines(judged)) if judged else [],
        words=_WORDS,
        most=BYTES // 1024,
    )


def _current(request: Request) -> Current:
    server = request.app.state.product.server
    current: Current = server.core.guides.current
    return current


@lru_cache(maxsize=2)
def _offered(packages: Packages) -> tuple[Offered, ...]:
    """The profiles of resources in what is installed, by their titles."""
    found = {
        Offered(f"{listed.url}|{listed.version}", listed.title or listed.name)
        for _, listed in packages.each("StructureDefinition")
        if listed.kind == "resource" and listed.derivation == "constraint"
    }
    return tuple(sorted(found, key=lambda each: (each.title, each.canonical)))


def _lines(judged: Judged) -> Iterator[Line]:
    of: dict[int, list[Remark]] = {}
    for each in judged.remarks:
        of.setdefault(each.place.line, []).append(each)
    for number, text in enumerate(judged.lines[:_LINES], 1):
        yield Line(number, text, of.get(number, []))


async def fields(request: Request) -> dict[str, str]:
    """The fields of the form, with the content of its file. OAuthError 413 for more than BYTES."""
    body = await forms.body(request, BYTES)
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data;"):
        raise OAuthError("invalid_request", "Send the form as multipart/form-data")
    parsed = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    parts = parsed.get_payload() if parsed.is_multipart() else []
    found: dict[str, str] = {}
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, Message):
            continue
        name = part.get_param("name", header="content-disposition")
        if isinstance(name, str):
            content = part.get_payload(decode=True)
            found[name] = content.decode("utf-8", "replace") if isinstance(content, bytes) else ""
    return found


router.get(VALIDATE)(signed_page(_page, VALIDATE))
router.post(VALIDATE)(signed_page(_page, VALIDATE, fields))
