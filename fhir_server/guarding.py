"""The headers that guard every answer of the API: what a browser may do with it, and that nobody
keeps it.

https://cheatsheetseries.owasp.org/cheatsheets/REST_Security_Cheat_Sheet.html#security-headers
"""

from __future__ import annotations

Header = tuple[bytes, bytes]

CSP = b"content-security-policy"
STRICT_TRANSPORT = "max-age=31536000"
# Data is no page: it shows nothing, frames nowhere, and no page of another site embeds it.
_ALWAYS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (CSP, b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_SECURE: Header = (b"strict-transport-security", STRICT_TRANSPORT.encode())


def guards(secure: bool) -> tuple[Header, ...]:
    """The headers of an answer that is data. `secure`: the server is reached by https only."""
    return (*_ALWAYS, _SECURE) if secure else _ALWAYS
