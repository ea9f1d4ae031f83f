"""The front door: what this server is and what is where, and the page of an address that leads
nowhere. Programs are answered as before, in JSON.

https://www.rfc-editor.org/rfc/rfc9110#name-accept
"""

from __future__ import annotations

from typing import NamedTuple

from fastapi.exception_handlers import http_exception_handler
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from salus.console.page import Visit, page, render


class Door(NamedTuple):
    """A page that another part of the product adds: its path below the base, its name, and what
    it is for. They are found in `app.state.doors`."""

    path: str
    name: str
    about: str


def for_people(request: Request) -> bool:
    """Whether it is a browser that shows pages who asks, rather than a program."""
    if request.method not in ("GET", "HEAD"):
        return False
    kinds = request.headers.get("accept", "").lower().split(",")
    return any(each.partition(";")[0].strip() == "text/html" for each in kinds)


async def _front(visit: Visit) -> Response:
    return render(visit, "front", doors=getattr(visit.request.app.state, "doors", ()))


async def _nowhere(visit: Visit) -> Response:
    return render(visit, "nowhere", 404)


front = page(_front)
_missing = page(_nowhere)


async def nowhere(request: Request, error: Exception) -> Response:
    """The answer where nothing is, as an exception handler of 404."""
    if for_people(request):
        return await _missing(request)
    if not isinstance(error, HTTPException):
        raise error
    return await http_exception_handler(request, error)
