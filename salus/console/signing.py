"""Pages for signing in and out, and for choosing a password by a one-time link.

https://www.w3.org/WAI/WCAG22/Understanding/accessible-authentication-minimum
"""

from __future__ import annotations

import re

from fastapi import APIRouter
from starlette.responses import Response

from salus.console.page import Visit, go, page, render, to_consent
from smart_auth import authorize, invitations, sessions, sign_in
from smart_auth.authority import SIGN_IN, SIGN_OUT
from smart_auth.errors import OAuthError
from smart_auth.factors import due
from smart_auth.invitations import WELCOME
from smart_auth.model import Account
from smart_auth.passwords import LEAST, MOST, WeakPassword
from smart_auth.sign_in import Stage, Wrong

ACCOUNT, SECOND_FACTOR = "/account", "/account/second-factor"
_OURS = re.compile(r"(/[a-z0-9][a-z0-9-]*)+", re.ASCII)  # a path, of no other site
_WRONG = {
    "pwd": "That name and password do not go together",
    "otp": "That code is not right, or was used before. Wait for the next one",
}

router = APIRouter(include_in_schema=False)


async def _sign_in_page(visit: Visit) -> Response:
    """Whichever factor is to be shown next."""
    signed = visit.signed
    if visit.handle:
        waiting = await authorize.pending(visit.authority, visit.handle, visit.browser)
        if authorize.due(waiting, signed) != "sign-in":
            return to_consent(visit)
    elif signed and signed.complete:
        return go(visit, _following(visit))
    return await _form(visit)


async def _sign_in(visit: Visit) -> Response:
    """A factor that was shown."""
    sent, signed, authority = visit.sent, visit.signed, visit.authority
    if visit.handle:
        await authorize.pending(authority, visit.handle, visit.browser)
    try:
        if "code" in sent and signed and not signed.complete and visit.cookie:
            stage = await sign_in.go_on(
                authority, signed, sent["code"], visit.visitor, visit.cookie
            )
        else:
            name, password = sent.get("name", ""), sent.get("password", "")
            stage = await sign_in.begin(authority, name, password, visit.visitor, visit.cookie)
    except Wrong:
        return await _form(visit, wrong=True)
    return _at(visit, stage)


async def _form(visit: Visit, wrong: bool = False) -> Response:
    """The form of the next factor; 401 with what is wrong when the last answer was."""
    signed, sent = visit.signed, visit.sent
    factor = due(signed.account, signed.session.factors) if _between(visit) and signed else None
    asked = factor.name if factor else "pwd"
    waiting = client = None
    if visit.handle:
        waiting = await authorize.pending(visit.authority, visit.handle, visit.browser)
        client = await authorize.client_of(visit.authority, waiting)
    return render(
        visit,
        "sign-in",
        401 if wrong else 200,
        goes_to=waiting.redirect_uri if waiting else None,
        factor=asked,
        wrong=_WRONG[asked] if wrong else "",
        name=sent.get("name", "")[:100] if wrong else "",
        client=client,
        following=_following(visit),
    )


def _between(visit: Visit) -> bool:
    """Whether some factors were shown and others are to be."""
    return visit.signed is not None and not visit.signed.complete and "again" not in visit.sent


def _at(visit: Visit, stage: Stage) -> Response:
    """On from a stage of signing in, with its cookies."""
    if stage.due:
        answer = go(visit, SIGN_IN, request=visit.handle, next=visit.sent.get("next", ""))
    else:
        answer = to_consent(visit) if visit.handle else go(visit, _following(visit))
    visit.cookies.set(answer, visit.cookies.session, stage.cookie)
    if stage.device:
        visit.cookies.set(answer, visit.cookies.device, stage.device)
    return answer


def _following(visit: Visit) -> str:
    path = visit.sent.get("next", "")
    return path if _OURS.fullmatch(path) else ACCOUNT


async def _sign_out_page(visit: Visit) -> Response:
    """Ask first: a link may be followed by accident, so only the form signs out."""
    if visit.signed is None:
        return go(visit, SIGN_IN, said="signed-out")
    return render(visit, "sign-out")


async def _sign_out(visit: Visit) -> Response:
    if visit.cookie:
        await sessions.end(visit.authority, visit.cookie, visit.visitor.address)
    answer = go(visit, SIGN_IN, request=visit.handle, said="signed-out")
    visit.cookies.drop(answer, visit.cookies.session)
    return answer


async def _welcome_page(visit: Visit) -> Response:
    """Looking at a link does not use it up, since programs that check mail look at it too."""
    account = await invitations.invited(visit.authority, visit.sent.get("link", ""))
    return _choose(visit, account)


async def _welcome(visit: Visit) -> Response:
    link, password = visit.sent.get("link", ""), visit.sent.get("password", "")
    account = await invitations.invited(visit.authority, link)
    if password != visit.sent.get("again", ""):
        return _choose(visit, account, "The two passwords differ")
    try:
        account = await invitations.accept(visit.authority, link, password)
    except WeakPassword as weak:
        return _choose(visit, account, str(weak))
    if account is None:
        return _choose(visit, None)
    if due(account, ("pwd",)) is not None:
        return go(visit, SIGN_IN, said="saved-half")
    stage = await sign_in.complete(visit.authority, account, ("pwd",), visit.visitor, visit.cookie)
    answer = go(visit, SECOND_FACTOR, said="saved")
    visit.cookies.set(answer, visit.cookies.session, stage.cookie)
    if stage.device:
        visit.cookies.set(answer, visit.cookies.device, stage.device)
    return answer


def _choose(visit: Visit, account: Account | None, wrong: str = "") -> Response:
    if account is None:
        raise OAuthError(
            "invalid_request",
            "This link was used already, has expired, or was replaced by another. Ask whoever "
            "sent it for a new one",
            status=410,
        )
    status = 400 if wrong else 200
    link = visit.sent["link"]
    return render(
        visit, "welcome", status, person=account, link=link, wrong=wrong, least=LEAST, most=MOST
    )


router.get(SIGN_IN)(page(_sign_in_page))
router.post(SIGN_IN)(page(_sign_in))
router.get(SIGN_OUT)(page(_sign_out_page))
router.post(SIGN_OUT)(page(_sign_out))
router.get(WELCOME)(page(_welcome_page))
router.post(WELCOME)(page(_welcome))
