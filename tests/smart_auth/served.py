"""An authorization server to test: the protocol's endpoints on a real store, with a clock that the
test moves, a directory of plain data, and clients and grants made as the operator and the pages do."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import time
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlencode

import httpx
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from fhir_server.storage.keys import FileKeys
from fhir_server.storage.sqlite import SqliteStore
from smart_auth import clients, codes, grants
from smart_auth.assertions import TYPE
from smart_auth.authority import TOKEN, Authority, Happening, Patient, Policy, Site
from smart_auth.endpoints import router
from smart_auth.grant import Scope
from smart_auth.model import (
    ACCOUNTS,
    SECOND,
    SESSIONS,
    SESSIONS_OF_ACCOUNT,
    Account,
    GrantRecord,
    LaunchContext,
    Session,
    Text,
)
from smart_auth.records import digest, new_secret
from smart_auth.registrable import Registrable
from smart_auth.tokens import Tokens
from tests.derived_keys import DerivedKeys

KEY = bytes(range(32))
BASE = "https://salus.example"
CALLBACK = "https://app.example/callback"
VERIFIER = "v" * 43
CHALLENGE = (
    base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
)
STANDALONE = ("openid", "fhirUser", "launch/patient", "offline_access", "patient/Patient.rs")
ACCOUNT = Account(name="anna", who="Practitioner/anna", display="Dr. Anna", created=7)

USUAL = Policy()
IN_CONTEXT = LaunchContext(patient="p1")

RSA = RSAKey.generate_key(2048, parameters={"kid": "rsa-1"})
EC = ECKey.generate_key("P-384", parameters={"kid": "ec-1"})
KEYS = {"RS384": RSA, "ES384": EC}


def jwks(*keys: RSAKey | ECKey) -> dict[str, Any]:
    return {"keys": [{**key.as_dict(private=False), "use": "sig"} for key in keys or (RSA, EC)]}


@dataclass
class Clock:
    """Microseconds since 1970 that pass only when told."""

    now: int = field(default_factory=lambda: int(time.time()) * SECOND)

    def __call__(self) -> int:
        return self.now

    def pass_(self, microseconds: int) -> None:
        self.now += microseconds


@dataclass
class Ward:
    """A Directory of plain data: whom users reach."""

    reached: dict[str | None, frozenset[str] | None] = field(default_factory=dict)
    refused: dict[Scope, str] = field(default_factory=dict)

    async def reach(self, who):
        return self.reached.get(who)

    async def patients(self, who, text, limit):
        return []

    async def patient(self, who, id):
        return Patient(id, "Somebody")

    async def encounters(self, who, patient, limit):
        return []

    def ungrantable(self, scope):
        return self.refused.get(scope)

    def types(self):
        return frozenset(("Patient", "Observation"))


class Http:
    """A plain HTTP client of the application, on the application's own loop."""

    def __init__(self, portal, app, address: str) -> None:
        self._portal = portal
        transport = httpx.ASGITransport(app, client=(address, 1234))
        self.asynchronous = httpx.AsyncClient(transport=transport, base_url=BASE)

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        return self._portal.call(partial(self.asynchronous.request, method, url, **options))

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> httpx.Response:
        return self.request("POST", url, **options)


class Served:
    """Requests go by `http`; `run` runs a coroutine function on the server's own loop."""

    def __init__(self, folder, policy=USUAL, tenant=None) -> None:
        self.clock, self.ward = Clock(), Ward()
        self.heard: list[Happening] = []
        self._folder, self._policy, self._tenant = folder, policy, tenant
        self._numbers = itertools.count()
        self.app = FastAPI()
        self.app.include_router(router)
        self._open = ExitStack()
        self.http: Http
        self.authority: Authority
        self.tokens: Tokens

    @asynccontextmanager
    async def _serving(self):
        store = await SqliteStore.open(self._folder / "data", KEY, DerivedKeys(), clock=self.clock)
        tokens: list[Tokens] = []
        self.authority = Authority(
            keeper=store,
            site=Site(BASE, f"{BASE}/fhir", "Test Clinic", self._tenant),
            directory=self.ward,
            sealer=FileKeys(self._folder / "keys"),
            clock=self.clock,
            audit=self._hear,
            policy=self._policy,
            changed=lambda grant: tokens[0].changed(grant),
        )
        tokens.append(Tokens(self.authority))
        self.tokens = tokens[0]
        self.app.state.authority, self.app.state.tokens = self.authority, self.tokens
        try:
            yield
        finally:
            await store.close()

    async def _hear(self, happening: Happening) -> None:
        self.heard.append(happening)

    def __enter__(self) -> Served:
        self._portal = self._open.enter_context(start_blocking_portal())
        self._open.enter_context(self._portal.wrap_async_context_manager(self._serving()))
        self.http = self.at("192.0.2.1")
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def at(self, address: str) -> Http:
        """A client that calls from another address."""
        return Http(self._portal, self.app, address)

    def run(self, work, *args):
        return self._portal.call(work, *args)

    def transaction(self, work):
        async def write():
            return await self.authority.keeper.transaction(work, write=True)

        return self.run(write)

    # --- clients, accounts, grants ---------------------------------------------------------------

    def client(self, id: str = "app", **fields: Any) -> clients.Registered:
        """A registered client: a public app of users unless told."""
        usual: dict[str, Any] = {"name": "App", "redirect_uris": (CALLBACK,)}
        asked = Registrable(**{**usual, **fields})

        async def register():
            return await clients.register(self.authority, asked, id=id)

        return self.run(register)

    def confidential(self, id: str = "app", **fields: Any) -> clients.Registered:
        return self.client(id, authentication="client_secret", **fields)

    def backend(self, id: str = "service", **fields: Any) -> clients.Registered:
        usual: dict[str, Any] = {
            "name": "Service",
            "profile": "backend",
            "authentication": "private_key_jwt",
            "redirect_uris": (),
            "scopes": ("system/Patient.rs", "system/Observation.rs"),
        }
        keys = {} if "jwks_uri" in fields else {"jwks": jwks()}
        return self.client(id, **{**usual, **keys, **fields})

    def account(self, account: Account = ACCOUNT) -> Account:
        self.transaction(lambda tx: ACCOUNTS.write(tx, account.name, account))
        return account

    def session(self, account: Account = ACCOUNT, until: int | None = None) -> str:
        """The public id of a browser's session."""
        id, cookie, now = new_secret(), digest(new_secret()), self.clock()
        made = Session(
            id=id,
            account=account.name,
            epoch=account.epoch,
            signed_in=now,
            seen=now,
            factors=("pwd",),
            csrf="c",
        )

        async def write(tx):
            await SESSIONS.write(tx, cookie, made, until=until)
            await SESSIONS_OF_ACCOUNT.write(tx, f"{account.name}/{cookie}", Text(), until=until)

        self.transaction(write)
        return id

    def end_sessions(self, account: Account = ACCOUNT) -> None:
        async def write(tx):
            for key, _ in await SESSIONS_OF_ACCOUNT.all(tx, f"{account.name}/"):
                await SESSIONS.take(tx, key.partition("/")[2])
                await SESSIONS_OF_ACCOUNT.take(tx, key)

        self.transaction(write)
        self.authority.changed(None)

    def code(
        self,
        client: str = "app",
        scopes: tuple[str, ...] = STANDALONE,
        context: LaunchContext = IN_CONTEXT,
        challenge: str | None = CHALLENGE,
        redirect_uri: str = CALLBACK,
        **fields: Any,
    ) -> str:
        """A code as the consent page gives it, for the account `anna`."""
        account = self.account()
        record = GrantRecord(
            id=f"g{next(self._numbers)}",
            client=client,
            account=account.name,
            who=account.who,
            scopes=scopes,
            context=context,
            created=self.clock(),
            epoch=account.epoch,
            signed_in=self.clock() - 5 * SECOND,
            factors=("pwd", "otp"),
            **fields,
        )

        async def write(tx):
            await grants.give(tx, record)
            return await codes.issue(self.authority, tx, record, redirect_uri, challenge)

        return self.transaction(write)

    # --- requests --------------------------------------------------------------------------------

    def post(self, path: str, parameters: dict[str, Any], **options: Any) -> httpx.Response:
        """A form; a parameter that is None is left out."""
        sent = urlencode({name: value for name, value in parameters.items() if value is not None})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        headers |= options.pop("headers", {})
        http = options.pop("http", self.http)
        return http.post(path, content=sent, headers=headers, **options)

    def redeem(self, code: str, /, **changes: Any) -> httpx.Response:
        """Exchange a code, as the public client `app` unless told."""
        options = {name: changes.pop(name) for name in ("auth", "headers") if name in changes}
        usual = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "client_id": "app",
            "code_verifier": VERIFIER,
        }
        return self.post(TOKEN, {**usual, **changes}, **options)

    def refresh(self, token: str, /, **changes: Any) -> httpx.Response:
        options = {name: changes.pop(name) for name in ("auth", "headers") if name in changes}
        usual = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "app"}
        return self.post(TOKEN, {**usual, **changes}, **options)

    def granted(self, **code: Any) -> dict[str, Any]:
        """The token response of the public client `app`, which is registered by this."""
        self.client()
        answer = self.redeem(self.code(**code))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def claims(self, client: str = "service", **changes: Any) -> dict[str, Any]:
        """The claims that SMART names, and no others."""
        made = {
            "iss": client,
            "sub": client,
            "aud": f"{BASE}{TOKEN}",
            "exp": self.clock() // SECOND + 300,
            "jti": new_secret(),
        }
        return {name: value for name, value in {**made, **changes}.items() if value is not None}

    def assertion(
        self,
        alg: str = "RS384",
        key: Any = None,
        header: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        key = key or KEYS[alg]
        head = {"alg": alg, "kid": key.kid, **(header or {})}
        head = {name: value for name, value in head.items() if value is not None}
        return jwt.encode(head, self.claims(**claims), key, algorithms=[alg])

    def serve(self, assertion: str, /, **changes: Any) -> httpx.Response:
        """A backend service asks for a token."""
        usual = {
            "grant_type": "client_credentials",
            "scope": "system/Patient.rs",
            "client_assertion_type": TYPE,
            "client_assertion": assertion,
        }
        return self.post(TOKEN, {**usual, **changes})

    def grant(self, token: str):
        """What the FHIR server makes of a token. OAuthError."""
        return self.run(self.tokens.grant, token)


def base64url(content: Any) -> str:
    octets = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
