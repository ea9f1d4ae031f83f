"""A server that asks who calls, with clients, users and tokens made as an operator makes them."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from re import DOTALL, findall, search
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from salus.operator import requests
from salus.operator.ask import ask
from salus.settings import Settings
from tests.living import Living

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
REDIRECT = "https://app.example/back"
PASSWORD = "violet harbour seventeen"


class Backend(NamedTuple):
    """A backend service and the private key by which it proves itself."""

    id: str
    key: RSAKey | ECKey
    algorithm: str

    def assertion(self, audience: str, **changed: Any) -> str:
        """A fresh client assertion; `changed` replaces claims."""
        now = int(time.time())
        claims = {
            "iss": self.id,
            "sub": self.id,
            "aud": audience,
            "exp": now + 240,
            "iat": now,
            "jti": secrets.token_urlsafe(12),
        }
        header = {"alg": self.algorithm, "kid": self.key.kid, "typ": "JWT"}
        return jwt.encode(header, claims | changed, self.key, algorithms=[self.algorithm])


class Secured(Living):
    """`salus serve` on folders of its own. `operator` does what the commands do."""

    def __init__(self, folder: Path, **environment: str) -> None:
        super().__init__(folder, **environment)
        self.arguments = ()

    @property
    def base(self) -> str:
        return self.url.removesuffix("/fhir")

    @property
    def settings(self) -> Settings:
        return Settings(data=self.data, keys=self.keys, port=self.port)

    @property
    def token_url(self) -> str:
        return f"{self.base}/oauth/token"

    def operator(self, asked: requests.Asked, answer: type[Any] = requests.Done) -> Any:
        """Over the operator's channel while the server runs, otherwise in its folder."""
        return ask(self.settings, asked, answer)

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command of the operator's, run to its end on this server's folders."""
        own = {
            "SALUS_DATA": str(self.data),
            "SALUS_KEYS": str(self.keys),
            "SALUS_PORT": str(self.port),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }
        return subprocess.run(
            [sys.executable, "-m", "salus", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**self.environment, **own, **environment},
            cwd=self.data.parent,
        )

    # --- who is there -----------------------------------------------------------------------------

    def client(self, token: str | None = None, address: str = "127.0.0.1") -> httpx.Client:
        """Of the FHIR base, with a token or without. Strangers are counted by address: whoever
        looks for what one of them did comes from an `address` of its own (127.0.0.0/8)."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        transport = httpx.HTTPTransport(local_address=address, verify=self.trusted())
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, transport=transport)

    def app(self, id: str, scopes: str = "", **fields: Any) -> requests.ClientShown:
        """A public app of profile smart-2, unless told otherwise."""
        known = {
            "name": id,
            "profile": "smart-2",
            "authentication": "none",
            "redirect_uris": (REDIRECT,),
        }
        asked = requests.RegisterClient(id=id, scopes=tuple(scopes.split()), **(known | fields))
        return self.operator(asked, requests.ClientShown)

    def backend(self, id: str, scopes: str, algorithm: str = "ES384") -> Backend:
        """A backend service with a key of its own."""
        made = (
            ECKey.generate_key("P-384", private=True)
            if algorithm == "ES384"
            else RSAKey.generate_key(2048, private=True)
        )
        about = {"kid": made.thumbprint(), "alg": algorithm, "use": "sig"}
        kind = type(made)
        key = kind.import_key({**made.as_dict(private=True), **about})
        self.app(
            id,
            scopes,
            profile="backend",
            authentication="private_key_jwt",
            redirect_uris=(),
            jwks={"keys": [key.as_dict(private=False)]},
        )
        return Backend(id, key, algorithm)

    def user(
        self, name: str, who: str | None = None, password: str = PASSWORD, **fields: Any
    ) -> requests.UserShown:
        """Somebody who can sign in with a password."""
        asked = requests.AddUser(name=name, who=who, password=password, **fields)
        return self.operator(asked, requests.UserShown)

    # --- tokens -----------------------------------------------------------------------------------

    def token(
        self,
        scope: str = "system/*.cruds",
        client: str | None = None,
        user: str | None = None,
        patient: str | None = None,
        minutes: int = 60,
    ) -> str:
        """A token as `salus token` gives it."""
        asked = requests.IssueToken(
            client=client, scope=scope, user=user, patient=patient, minutes=minutes
        )
        return self.operator(asked, requests.Token).token

    def backend_token(self, backend: Backend, scope: str) -> httpx.Response:
        """What the token endpoint answers to a backend service."""
        return httpx.post(
            self.token_url,
            data={
                "grant_type": "client_credentials",
                "scope": scope,
                "client_assertion_type": ASSERTION,
                "client_assertion": backend.assertion(self.token_url),
            },
            trust_env=False,
        )

    @contextmanager
    def browser(self, name: str | None = None, password: str = PASSWORD) -> Iterator[Browser]:
        """A browser without scripts, in which somebody is signed in, or nobody."""
        with httpx.Client(
            base_url=self.base, trust_env=False, timeout=60, verify=self.trusted()
        ) as client:
            browser = Browser(client)
            if name is not None:
                browser.sign_in(name, password)
            yield browser


class Page(NamedTuple):
    """A page that a browser shows."""

    response: httpx.Response

    @property
    def url(self) -> str:
        return str(self.response.url)

    @property
    def text(self) -> str:
        return self.response.text

    def fields(self) -> tuple[str, list[tuple[str, str]]]:
        """Where the first form that is posted goes, and what it sends unchanged."""
        forms = [
            (opening, inside)
            for opening, inside in findall(r"<form([^>]*)>(.*?)</form>", self.text, DOTALL)
            if 'method="post"' in opening.lower()
        ]
        assert forms, f"{self.response.status_code} {self.url} has no form:\n{self.text[:2000]}"
        opening, inside = forms[0]
        action = search(r'action="([^"]*)"', opening)
        target = urljoin(self.url, unescape(action.group(1)) if action else self.url)
        return target, [pair for pair in map(_sent, findall(r"<input([^>]*)>", inside)) if pair]


def _sent(attributes: str) -> tuple[str, str] | None:
    """What an input sends without being touched."""
    found = {name: unescape(value) for name, value in findall(r'([\w-]+)="([^"]*)"', attributes)}
    kind = found.get("type", "text")
    untouched = kind in ("checkbox", "radio") and not search(r"\bchecked\b", attributes)
    if "name" not in found or untouched or kind in ("submit", "button"):
        return None
    return found["name"], found.get("value", "on" if kind == "checkbox" else "")


class Browser:
    """Follows links and posts forms, and stops at addresses of other servers."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def get(self, url: str) -> Page:
        return self._followed(self.client.get(url))

    def submit(self, page: Page, without: tuple[str, ...] = (), **filled: str) -> Page:
        """Post a page's form with some fields filled in, and some left out."""
        target, fields = page.fields()
        sent = [(n, v) for n, v in fields if n not in filled and n not in without]
        return self._followed(
            self.client.post(
                target,
                content=urlencode([*sent, *filled.items()]),
                headers={
                    "content-type": "application/x-www-form-urlencoded",
                    "origin": _origin(target),
                },
            )
        )

    def sign_in(self, name: str, password: str = PASSWORD) -> Page:
        return self.submit(self.get("/sign-in"), name=name, password=password)

    def _followed(self, response: httpx.Response) -> Page:
        here = _origin(str(response.url))
        for _ in range(10):
            if not response.is_redirect:
                break
            target = urljoin(str(response.url), response.headers["location"])
            if _origin(target) != here:
                break
            response = self.client.get(target)
        return Page(response)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


class Launch(NamedTuple):
    """One authorization request of a standalone app."""

    url: str
    verifier: str
    state: str

    @classmethod
    def of(cls, server: Secured, client: str, scope: str, **changed: str) -> Launch:
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(12)
        hashed = hashlib.sha256(verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": client,
            "redirect_uri": REDIRECT,
            "scope": scope,
            "state": state,
            "aud": server.url,
            "code_challenge": base64.urlsafe_b64encode(hashed).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return cls(f"/oauth/authorize?{urlencode(asked | changed)}", verifier, state)


def answer(page: Page) -> dict[str, str]:
    """What an app is told by the redirect that a browser stopped at."""
    location = page.response.headers["location"]
    assert location.startswith(REDIRECT), location
    return dict(parse_qsl(urlsplit(location).query))


def patient(id: str, **fields: Any) -> bytes:
    """A patient, as it is sent."""
    made = {"resourceType": "Patient", "id": id, "name": [{"family": id.title()}], **fields}
    return json.dumps(made).encode()
