"""Which server is asked, and as whom.

https://hl7.org/fhir/R4/http.html#root
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from conformance.testscript import Target
from salus.problem import Problem
from salus.selftest.backend import backend_token
from salus.selftest.scratch import scratch
from salus.tls import distrust, trusting


class Asked(NamedTuple):
    """The options of the command that say where to go."""

    url: str | None
    token: str | None = None
    client: str | None = None
    key: Path | None = None
    scope: str = ""
    headers: Sequence[str] = ()
    destinations: Sequence[str] = ()
    ca: Path | None = None


@contextmanager
def target(asked: Asked) -> Iterator[Target]:
    """The servers under test; without an address a scratch server, while it is needed. Problem."""
    headers = tuple(map(_header, asked.headers))
    if asked.url is None:
        _alone(asked)
        with scratch() as ready:
            yield Target({1: ready.url}, ready.token, headers)
        return
    base = _address(asked.url)
    verify = trusting(asked.ca)
    token = asked.token or ""
    if asked.client is not None:
        if asked.key is None:
            raise Problem("--client needs its private key: --key FILE")
        token = backend_token(base, asked.client, asked.key, asked.scope, verify)
    _there(base, verify)
    yield Target({1: base, **dict(map(_destination, asked.destinations))}, token, headers, verify)


def _alone(asked: Asked) -> None:
    if asked.client or asked.destinations:
        raise Problem("--client and --destination are about another server: name it with --url")


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Problem(f"{url} is no address of a FHIR server: it begins with http(s)://")
    if parts.username or parts.password:
        raise Problem("A password in an address would stand in every report: use --token")
    return url.rstrip("/")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not value.strip():
        raise Problem("--header takes NAME: VALUE")
    return name.strip(), value.strip()


def _destination(text: str) -> tuple[int, str]:
    number, equals, url = text.partition("=")
    if not equals or not number.isdecimal() or not 0 < int(number) < 100:
        raise Problem(f"--destination takes N=URL, not {text}")
    return int(number), _address(url)


def _there(base: str, verify: ssl.SSLContext) -> None:
    """Problem where nobody answers, or only below: better said once than for every test."""
    try:
        with httpx.Client(verify=verify, trust_env=False, timeout=30) as client:
            if _is_nothing(client, base) and not _is_nothing(client, f"{base}/fhir"):
                raise Problem(f"There is no FHIR server at {base}, but one at {base}/fhir")
    except httpx.HTTPError as error:
        why = distrust(base, error) or f"No server answers at {base} ({error})"
        raise Problem(why) from None


def _is_nothing(client: httpx.Client, base: str) -> bool:
    """Whether a server has nothing to tell of a FHIR base."""
    answer = client.get(f"{base}/metadata", headers={"Accept": "application/fhir+json"})
    return answer.status_code == 404
