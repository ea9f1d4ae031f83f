"""The page of validation: a resource is pasted or sent as a file, and what is wrong with it is
shown beside its lines. Nothing of it is kept, and nothing is told to the audit or the log.

https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import NamedTuple

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conformance.outcome import FhirError
from conformance.packages import Packages
from conformance.patience import within
from fhir_server.packages.guides import Current
from salus.console import multipart
from salus.console.page import Visit, render, signed_page
from salus.judging import Judged, Remark, judge
from smart_auth.errors import OAuthError
from smart_auth.sessions import Signed

VALIDATE = "/validate"
BYTES = 1024 * 1024  # of what is sent
_SECONDS = 10.0  # of a validation
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
        work = partial(judge, current.profiles, text.encode(), asked)
        try:
            judged = await asyncio.to_thread(within, _SECONDS, work)
        except FhirError as error:
            raise OAuthError("invalid_request", str(error), status=error.status) from None
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
    return await multipart.fields(request, BYTES)


router.get(VALIDATE)(signed_page(_page, VALIDATE))
router.post(VALIDATE)(signed_page(_page, VALIDATE, fields))
