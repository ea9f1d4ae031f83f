"""Addresses that clients register: what may be one, and when a redirect goes to one.

https://www.rfc-editor.org/rfc/rfc9700#section-2.1, https://www.rfc-editor.org/rfc/rfc8252#section-7
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from smart_auth.addresses import is_public

_CHARACTERS = 2000
# What RFC 3986 lets stand in a URI, without the fragment's `#`. No backslash, space, or letters
# beyond ASCII, on which browsers and parsers disagree.
_PLAIN = re.compile(r"(?:[A-Za-z0-9\-._~:/?\[\]@!$&'()+,;=]|%[0-9A-Fa-f]{2})+", re.ASCII)
_SCHEME = re.compile(r"[a-z][a-z0-9+\-]*(?:\.[a-z0-9+\-]+)+", re.ASCII)  # reversed domain name
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\]|localhost)(?::\d{1,5})?([/?].*)?", re.ASCII)
_LOCAL = ("localhost", ".localhost", ".local", ".internal")


def redirect_problem(uri: str, native: bool) -> str | None:
    """Why a redirect URI cannot be registered; None when it can. `native`: the app runs on the
    user's device, so it may use loopback addresses and schemes of its own."""
    problem = _problem(uri)
    if problem:
        return problem
    parts = urlsplit(uri)
    if parts.scheme == "https":
        return None if parts.hostname else "names no host"
    if native and _LOOPBACK.fullmatch(uri):
        return None
    if native and _SCHEME.fullmatch(parts.scheme):
        return None
    if parts.scheme == "http":
        return "must be https (http only to 127.0.0.1, [::1] or localhost, for an app on a device)"
    return "needs https, or for an app on a device a scheme that is a reversed domain name"


def web_problem(uri: str) -> str | None:
    """Why an address that users are shown, or apps are launched at, is none; None when it is."""
    problem = _problem(uri)
    if problem:
        return problem
    if _LOOPBACK.fullmatch(uri):
        return None
    parts = urlsplit(uri)
    return None if parts.scheme == "https" and parts.hostname else "must be an https address"


def fetch_problem(uri: str, trusted: frozenset[str]) -> str | None:
    """Why the server would not fetch an address; None when it may try, if its host then resolves
    to a public address. `trusted` hosts (host or host:port) may be private, and without TLS."""
    problem = _problem(uri)
    if problem:
        return problem
    parts = urlsplit(uri)
    if not parts.hostname:
        return "names no host"
    if is_trusted(parts, trusted):
        return None if parts.scheme in ("http", "https") else "must be https"
    if parts.scheme != "https":
        return "must be https"
    return "names a private host" if _is_private(parts.hostname) else None


def is_trusted(parts: SplitResult, trusted: frozenset[str]) -> bool:
    return parts.hostname in trusted or parts.netloc in trusted


def redirect_matches(registered: str, uri: str, native: bool) -> bool:
    """Whether a redirect may go to `uri`: character for character, but on loopback a native app
    listens at whatever port it was given."""
    if registered == uri:
        return True
    one = _LOOPBACK.fullmatch(registered) if native else None
    other = _LOOPBACK.fullmatch(uri) if native else None
    if one is None or other is None or _problem(uri) or _problem(registered):
        return False
    return one.groups() == other.groups()


def origin(uri: str) -> str | None:
    """The origin of a web address, as browsers write it; None for other schemes."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    default = {"http": 80, "https": 443}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port in (None, default) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def is_origin(text: str) -> bool:
    """Whether a text is an origin as browsers send it."""
    return _problem(text) is None and origin(text) == text


def _problem(uri: str) -> str | None:
    if len(uri) > _CHARACTERS:
        return f"has more than {_CHARACTERS} characters"
    if "#" in uri:
        return "has a fragment"
    if not _PLAIN.fullmatch(uri):
        return "has characters that are not allowed in a URI"
    try:
        parts = urlsplit(uri)
        port_is_valid = parts.port is None or 0 < parts.port < 65536
    except ValueError:
        return "is no URI"
    if not parts.scheme or not uri.startswith(f"{parts.scheme}:"):
        return "must be absolute, its scheme in small letters"
    if "@" in parts.netloc or not port_is_valid:
        return "names a user or a port that is none"
    if parts.netloc != parts.netloc.lower():
        return "must have its host in small letters"
    if any(segment in (".", "..") for segment in parts.path.lower().replace("%2e", ".").split("/")):
        return "has a path with dots as a segment"
    return None


def _is_private(host: str) -> bool:
    name = host.rstrip(".")  # the dot of a full name changes nothing of what it means
    try:
        ip_address(name)
    except ValueError:
        # A number that is no address in its usual spelling is one that only some parsers read.
        return "." not in name or name.rpartition(".")[2].isdigit() or name.endswith(_LOCAL)
    return not is_public(name)
