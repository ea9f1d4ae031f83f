"""Where a running server hears the operator's commands. To everybody else it is not there.

https://www.rfc-editor.org/rfc/rfc9110#section-15.5.5
"""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response

from salus.operator import channel
from salus.operator.acts import perform
from salus.operator.requests import Asked
from salus.problem import Problem
from salus.product import Product
from smart_auth.errors import OAuthError
from smart_auth.forms import body

router = APIRouter()
_ASKED = msgspec.json.Decoder(Asked)
_TYPE = "application/jose"


@router.post(channel.PATH, include_in_schema=False)
async def hear(request: Request) -> Response:
    """Perform what the operator asks."""
    product: Product | None = getattr(request.app.state, "product", None)
    if product is None:
        return Response(status_code=503)
    key, authority = product.operator, product.authority
    try:
        sent = await body(request, channel.LARGEST)
        message = await channel.accepted(authority, key, sent)
    except (OAuthError, channel.NotOurs):
        return Response(status_code=404)
    try:
        answer: object = await perform(product, _ASKED.decode(message.content))
    except (Problem, msgspec.MsgspecError) as problem:
        answer = channel.Failed(str(problem))
    return Response(
        channel.sealed(key, message.id, authority.clock(), answer, answers=True),
        media_type=_TYPE,
        headers={"cache-control": "no-store"},
    )
