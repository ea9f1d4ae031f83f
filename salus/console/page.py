"""What every page does: who looks at it, its headers, its forms' secrets, and what goes wrong.

https://owasp.org/www-project-secure-headers/, https://www.w3.org/TR/CSP3/
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)

from fhir_server.guarding import STRICT_TRANSPORT
from salus.console import words
from salus.console.cookies import Cookies
from smart_auth import forms, sessions
from smart_auth.authority import CONSENT, SIGN_IN, Authority, Site
from smart_auth.errors import OAuthError
from smart_auth.records import digest, new_secret
from smart_auth.sessions import Signed
from smart_auth.throttle import Visitor, Wait

_HERE = Path(__file__).parent / "templates"
_TEMPLATES = Environment(
    loader=FileSystemLoader(_HERE),
    autoescape=select_autoescape(),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_TEMPLATES.filters.update(words.FILTERS)
_SECRET = 100  # characters of a cookie's value
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True, slots=True)
class Visit:
    """One request for a page. `browser`: value of the cookie of the browser, which is made when it
    has none; `signed`: who is signed in, or about to be; `sent`: the fields of its form, or of its
    query."""

    request: Request
    authority: Authority
    cookies: Cookies
    browser: str
    signed: Signed | None
    sent: dict[str, str]

    @property
    def cookie(self) -> str | None:
        """The value of the session's cookie."""
        return _cookie(self.request, self.cookies.session)

    @property
    def visitor(self) -> Visitor:
        client = self.request.client
        return Visitor(client.host if client else "", _cookie(self.request, self.cookies.device))

    @property
    def csrf(self) -> str:
        """What the forms of this browser carry, and no other page knows."""
        if self.signed is not None:
            return self.signed.session.csrf
        return digest(f"csrf {self.browser}")

    @property
    def handle(self) -> str:
        """Of the authorization request that this is about; empty: none."""
        return self.sent.get("request", "")


# The fields of a posted form.
Fields = Callable[[Request], Awaitable[dict[str, str]]]
_Page = Callable[[Visit], Awaitable[Response]]
_Endpoint = Callable[[Request], Awaitable[Response]]


class Forged(Exception):
    """A form that does not come from a page of ours in this browser, or from an old one: somebody
    signed in or out since. `handle`: of the request that it is about."""

    def __init__(self, handle: str = "") -> None:
        super().__init__("forged")
        self.handle = handle


def page(show: _Page, fields: Fields = forms.form) -> _Endpoint:
    """An endpoint that shows a page, or takes its form when it is posted to."""
    return _endpoint(show, _meeting(fields), remembered=True)


def open_page(show: _Page) -> _Endpoint:
    """An endpoint that pages of other sites send browsers to: it neither reads nor sets cookies."""
    return _endpoint(show, lambda visit: _sent(visit, forms.form), remembered=False)


def _endpoint(
    show: _Page, meet: Callable[[Visit], Awaitable[Visit]], *, remembered: bool
) -> _Endpoint:
    async def endpoint(request: Request) -> Response:
        authority: Authority | None = getattr(request.app.state, "authority", None)
        if authority is None:
            return PlainTextResponse("Starting: try again in a moment", 503, {"Retry-After": "2"})
        cookies = Cookies(authority.site)
        known = _cookie(request, cookies.browser)
        visit = Visit(request, authority, cookies, known or new_secret(), None, {})
        try:
            visit = await meet(visit)
            answer = await show(visit)
        except (OAuthError, Forged, Wait) as error:
            answer = _wrong(visit, error)
        if known is None and remembered:
            cookies.set(answer, cookies.browser, visit.browser)
        return answer

    return endpoint


async def _sent(visit: Visit, fields: Fields) -> Visit:
    request = visit.request
    posted = request.method == "POST"
    return replace(visit, sent=await fields(request) if posted else forms.query(request))


def _meeting(fields: Fields) -> Callable[[Visit], Awaitable[Visit]]:
    """Who looks at a page; a form must have been sent from one of ours, in the same browser."""

    async def met(visit: Visit) -> Visit:
        signed = await sessions.current(visit.authority, visit.cookie)
        known = signed is not None and signed.complete
        if fields is not forms.form and not known and visit.request.method == "POST":
            return replace(visit, signed=signed)  # nothing long is read of who is not signed in
        met = replace(await _sent(visit, fields), signed=signed)
        if visit.request.method == "POST":
            shown = met.sent.get("csrf", "")
            if not hmac.compare_digest(shown.encode(), met.csrf.encode()):
                raise Forged(met.handle)
        return met

    return met


def render(
    visit: Visit, template: str, status: int = 200, goes_to: str | None = None, **values: Any
) -> Response:
    """A page. `goes_to`: redirect URI of the app that answering its form leads to."""
    site, signed = visit.authority.site, visit.signed
    text = _TEMPLATES.get_template(f"{template}.html").render(
        site=site,
        root=root(visit.authority),
        csrf=visit.csrf,
        handle=visit.handle,
        said=words.SAID.get(visit.sent.get("said", ""), ""),
        account=signed.account if signed and signed.complete else None,
        **values,
    )
    headers = {**_HEADERS, "Content-Security-Policy": _policy(goes_to)}
    if site.secure:
        headers["Strict-Transport-Security"] = STRICT_TRANSPORT
    return HTMLResponse(text, status, headers)


def download(content: bytes | AsyncIterator[bytes], name: str, media_type: str) -> Response:
    """A file to keep. `content` may come piece by piece."""
    headers = {**_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    if isinstance(content, bytes):
        return Response(content, 200, headers, media_type)
    return StreamingResponse(content, 200, headers, media_type)


def busy(site: Site, seconds: int) -> Response:
    """The page of a visitor whose address asked too much; nothing is looked up for it."""
    text = _TEMPLATES.get_template("busy.html").render(
        site=site, root=urlsplit(site.base).path.rstrip("/"), said="", account=None, seconds=seconds
    )
    return HTMLResponse(text, 429, {**_HEADERS, "Content-Security-Policy": _policy(None)})


def go(visit: Visit, path: str, **sent: str) -> Response:
    """On to another page of ours. 303: what was posted is not posted again."""
    asked = {name: value for name, value in sent.items() if value}
    query = f"?{urlencode(asked)}" if asked else ""
    return RedirectResponse(root(visit.authority) + path + query, 303, _HEADERS)


def root(authority: Authority) -> str:
    """What paths of ours begin with, so that a browser stays at the host that it called."""
    return urlsplit(authority.site.base).path.rstrip("/")


def leave(url: str) -> Response:
    """On to an app."""
    return RedirectResponse(url, 303, _HEADERS)


def signed_page(
    show: Callable[[Visit, Signed], Awaitable[Response]],
    first: str,
    fields: Fields = forms.form,
) -> Callable[[Request], Awaitable[Response]]:
    """A page for whoever is signed in; everybody else signs in, and then comes to `first`."""

    async def asked(visit: Visit) -> Response:
        signed = visit.signed
        if signed is None or not signed.complete:
            return to_sign_in(visit, first)
        return await show(visit, signed)

    return page(asked, fields)


def to_sign_in(visit: Visit, following: str) -> Response:
    """Whoever is not signed in does that first and then sees `following`."""
    return go(visit, SIGN_IN, next=following)


def to_consent(visit: Visit) -> Response:
    return go(visit, CONSENT, request=visit.handle)


def _wrong(visit: Visit, error: Exception) -> Response:
    """The page of what is wrong; how it is said depends on nothing that is secret."""
    if isinstance(error, OAuthError):
        return render(
            visit, "wrong", error.status, text=error.description, error=error.error, go_on=""
        )
    if isinstance(error, Wait):
        answer = render(visit, "wait", 429, seconds=error.seconds)
        answer.headers["Retry-After"] = str(error.seconds)
        return answer
    text = (
        "This form was not sent from a page that is open in this browser now. Go back, load the "
        "page again, and send the form once more"
    )
    go_on = error.handle if isinstance(error, Forged) else ""
    return render(visit, "wrong", 403, text=text, error="forbidden", go_on=go_on)


def _policy(goes_to: str | None) -> str:
    """Nothing but our own style sheet. Chromium holds `form-action` against every redirect that
    follows a form too, so an app's answer, and wherever the app then goes, must be in it."""
    return (
        "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; "
        f"frame-ancestors 'none'; form-action 'self'{_beyond(goes_to)}"
    )


def _beyond(goes_to: str | None) -> str:
    if goes_to is None:
        return ""
    parts = urlsplit(goes_to)
    if parts.scheme == "http":  # an app on this device; a policy can name no IPv6 address
        local = "http:" if parts.hostname == "::1" else "http://localhost:* http://127.0.0.1:*"
        return f" https: {local}"
    return " https:" if parts.scheme == "https" else f" https: {parts.scheme}:"


def _cookie(request: Request, name: str) -> str | None:
    value = request.cookies.get(name)
    return value if value and len(value) <= _SECRET and value.isascii() else None
