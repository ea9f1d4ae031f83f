"""The cookies of the pages: who is signed in, which browser this is, and which one was here before.

https://www.rfc-editor.org/rfc/rfc6265, https://developer.mozilla.org/docs/Web/HTTP/Headers/Set-Cookie
"""

from __future__ import annotations

from starlette.responses import Response

from smart_auth.authority import Site
from smart_auth.model import SECOND
from smart_auth.throttle import KNOWN_FOR


class Cookies:
    """`session`: the name of the one that stands for who is signed in; `browser`: for a browser in
    which a request goes on, before and after; `device`: for one that signed in before."""

    def __init__(self, site: Site) -> None:
        self._secure = site.secure
        prefix = "__Host-salus" if site.secure else "salus"  # a subdomain cannot set the former
        self.session = prefix
        self.browser = f"{prefix}-browser"
        self.device = f"{prefix}-device"

    def set(self, answer: Response, name: str, value: str) -> None:
        """Hand a cookie out with an answer. It lasts as long as the browser runs; that of a known
        device longer."""
        lasts = KNOWN_FOR // SECOND if name == self.device else None
        answer.set_cookie(
            name, value, lasts, path="/", secure=self._secure, httponly=True, samesite="lax"
        )

    def drop(self, answer: Response, name: str) -> None:
        answer.delete_cookie(name, path="/", secure=self._secure, httponly=True, samesite="lax")
