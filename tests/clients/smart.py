"""A SMART client of a few lines over plain HTTP: what a test asks for, it sends; what comes back, it
shows whole. https://hl7.org/fhir/smart-app-launch/app-launch.html
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from tests.clients.demonstration import Demonstration, Person

REDIRECT = "https://app.example/back"


def launched(
    demo: Demonstration,
    client: str,
    scope: str,
    account: str = "doctor",
    *,
    patient: str | None = None,
    ehr: bool = False,
    encounter: str = "",
    secret: str | None = None,
    untick: tuple[str, ...] = (),
    tick: tuple[str, ...] = (),
    person: Person | None = None,
) -> dict[str, Any]:
    """A launch from its first request to the token response. `ehr`: by the page that plays one, on
    `patient` and `encounter`; else `patient` is chosen when the server asks. In the usual browser of `account`,
    unless it is another `person`."""
    person = person or demo.browser(account)
    verifier = secrets.token_urlsafe(48)
    challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    asked = {
        "response_type": "code",
        "client_id": client,
        "redirect_uri": REDIRECT,
        "scope": scope,
        "state": secrets.token_urlsafe(12),
        "aud": demo.url,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    if ehr:
        asked["launch"] = person.launch(client, patient or "", encounter)["launch"]
    url = f"{demo.base}/oauth/authorize?{urlencode(asked)}"
    back = parse_qs(urlsplit(person.authorize(url, patient, untick, tick)).query)
    assert back["state"] == [asked["state"]]
    assert back["iss"] == [demo.url]
    assert "error" not in back, back
    return exchanged(demo, client, back["code"][0], verifier, secret)


def exchanged(
    demo: Demonstration, client: str, code: str, verifier: str, secret: str | None
) -> dict[str, Any]:
    """The token response of a code; a client that has a secret sends it by Basic."""
    sent = {
        "grant_type": "authorization_code",
        "client_id": client,
        "code": code,
        "redirect_uri": REDIRECT,
        "code_verifier": verifier,
    }
    basic = (client, secret) if secret else None
    answer = httpx.post(f"{demo.base}/oauth/token", data=sent, auth=basic)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
