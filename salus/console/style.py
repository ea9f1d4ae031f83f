"""The one style sheet of the pages.

https://www.w3.org/TR/CSS/
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import Response

STYLE = "/console.css"
_SHEET = (Path(__file__).parent / "console.css").read_bytes()
_HEADERS = {"Cache-Control": "public, max-age=300", "X-Content-Type-Options": "nosniff"}

router = APIRouter(include_in_schema=False)


@router.get(STYLE)
async def style() -> Response:
    """The style sheet."""
    return Response(_SHEET, headers=_HEADERS, media_type="text/css")
