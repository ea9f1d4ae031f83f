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
from salus.judging import Judged, Remark, is_ndjson, judge
from smart_auth.errors import OAuthError
from smart_auth.sessions import Signed

VALIDATE = "/validate"
BYTES = 1024 * 1024  # of what is sent
_MOST = "1 MB"  # BYTES, as people read it
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

    @property
    def is_wrong(self) -> bool:
        return any(each.is_wrong for each in self.remarks)


class Offered(NamedTuple):
    """A profile to choose."""

    canonical: str
    title: str


async def _page(visit: Visit, signed: Signed) -> Response:
    current = _current(visit.request)
    profile = visit.sent.get("profile", "").strip()[:_PROFILE]
    posted = visit.request.method == "POST"
    file, typed = visit.sent.get("file", ""), visit.sent.get("text", "")
    text = file or typed if posted else ""
    problem = await asyncio.to_thread(_problem, text) if posted else ""
    judged, unknown = None, False
    if posted and not problem:
        work = partial(_judged, current, text, profile)
        try:
            judged, unknown = await asyncio.to_thread(within, _SECONDS, work)
        except FhirError as error:
            raise OAuthError("invalid_request", str(error), status=error.status) from None
    return render(
        visit,
        "validate",
        offered=_offered(current.packages),
        profile=profile,
        unknown=unknown,
        text="" if problem else text,
        judged=judged,
        both=bool(file and typed.strip() and file != typed),
        problem=problem,
        lines=list(_lines(judged)) if judged else [],
        words=_WORDS,
        most=_MOST,
    )


def _problem(text: str) -> str:
    """Why something that was sent is not looked at; empty when it is."""
    if not text.strip():
        return "There is nothing to validate: paste a resource, or choose a file."
    if text == multipart.NO_TEXT:
        return (
            "This file is no text in UTF-8, so it is no resource in JSON. An archive has to be"
            " unpacked first."
        )
    if is_ndjson(text.encode()):
        return (
            "This is a resource a line (NDJSON), and the page looks at one resource: choose one"
            " line, or run `salus validate FILE`, which looks at all of them."
        )
    return ""


def _judged(current: Current, text: str, profile: str) -> tuple[Judged, bool]:
    """What is said of a text, and whether nobody knows the profile that it is to be held to."""
    asked = [profile] if profile else []
    unknown = any(current.profiles.shelf.compiled(each) is None for each in asked)
    return judge(current.profiles, text.encode(), asked), unknown


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
    try:
        return await multipart.fields(request, BYTES)
    except OAuthError as error:
        if error.status != 413:
            raise
        text = (
            f"A resource may have at most {_MOST} here. Go back and send less, or run"
            " salus validate FILE, which takes any size"
        )
        raise OAuthError("invalid_request", text, status=413) from None


router.get(VALIDATE)(signed_page(_page, VALIDATE))
router.post(VALIDATE)(signed_page(_page, VALIDATE, fields))
