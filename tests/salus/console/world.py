"""A small authorization server with its pages and a plain client for them: real store, real
routers, a directory of a few invented people, and a clock that tests set."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlsplit

import httpx
from fastapi import FastAPI

from fhir_server.storage.keys import FileKeys
from fhir_server.storage.sqlite import SqliteStore
from salus.console import front
from salus.console import router as pages
from smart_auth import accounts, clients
from smart_auth.authority import Authority, Happening, Patient, Site
from smart_auth.endpoints import router as endpoints
from smart_auth.grant import Scope
from smart_auth.model import ACCOUNTS, SECOND, Account
from smart_auth.registrable import Registrable
from smart_auth.tokens import Tokens
from tests.derived_keys import DerivedKeys

BASE = "http://salus.test"
FHIR = f"{BASE}/fhir"
APP = "https://app.example.com/after"
PASSWORD = "a short sentence of mine"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode()[:43]
ANN, BOB, CAL = (
    Patient("ann", "Ann Able", "1970-01-01", "female", "MRN 1"),
    Patient("bob", "Bob <b>Bold</b>", "1980-02-02", "male", "MRN 2"),
    Patient("cal", "Cal Calm", "1990-03-03", "male", "MRN 3"),
)
TYPES = frozenset(
    "Patient Observation Condition Device DeviceRequest DeviceMetric Encounter Medication "
    "MedicationRequest Basic Binary Practitioner RelatedPerson Person".split()
)


class Directory:
    """Everybody whom the tests know. A practitioner sees all, a relative Ann and Bob."""

    people = {each.id: each for each in (ANN, BOB, CAL)}

    async def reach(self, who: str | None) -> frozenset[str] | None:
        type, _, id = (who or "").partition("/")
        if type == "Practitioner":
            return None
        if type == "RelatedPerson":
            return frozenset(("ann", "bob"))
        return frozenset((id,)) if type == "Patient" else frozenset()

    async def patients(self, who: str, text: str, limit: int) -> list[Patient]:
        reach = await self.reach(who)
        found = [p for p in self.people.values() if p.name.casefold().startswith(text.casefold())]
        return [p for p in found if reach is None or p.id in reach][:limit]

    async def patient(self, who: str, id: str) -> Patient | None:
        reach = await self.reach(who)
        return self.people.get(id) if reach is None or id in reach else None

    async def encounters(self, who: str, patient: str, limit: int) -> list[tuple[str, str]]:
        return [("e2", "Visit of 2 May"), ("e1", "Visit of 1 May")] if patient == "ann" else []

    def ungrantable(self, scope: Scope) -> str | None:
        if any(name != "category" for name, _ in scope.query):
            return "The scope's parameter cannot be used"
        return None if scope.type == "*" or scope.type in TYPES else "There is no such type"

    def types(self) -> frozenset[str]:
        return TYPES


@dataclass
class Clock:
    """Time that passes when a test says so, in microseconds."""

    now: int = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def goes(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


@dataclass
class World:
    """`told`: every happening that was audited."""

    app: FastAPI
    authority: Authority
    clock: Clock
    told: list[Happening] = field(default_factory=list)

    async def account(
        self, name: str = "dr.may", who: str | None = "Practitioner/may", **more: object
    ) -> Account:
        """Somebody with the password PASSWORD."""
        await self.authority.keeper.transaction(
            lambda tx: accounts.create(self.authority, tx, name, who=who, **more), write=True
        )
        return await accounts.set_password(self.authority, name, PASSWORD)

    async def client(self, id: str = "app", **more: object) -> clients.Registered:
        fields = {"name": "Chart <i>App</i>", "redirect_uris": (APP,), **more}
        return await clients.register(self.authority, Registrable(**fields), id=id)

    async def read(self, name: str) -> Account:
        found = await self.authority.keeper.transaction(lambda tx: ACCOUNTS.read(tx, name))
        assert found is not None
        return found

    def browser(self, address: str = "192.0.2.1") -> Browser:
        return Browser(self, address)

    def happened(self, what: str) -> list[Happening]:
        return [each for each in self.told if each.what == what]


@asynccontextmanager
async def opened(folder, base: str = BASE) -> AsyncIterator[World]:
    clock = Clock()
    store = await SqliteStore.open(folder / "data", bytes(range(32)), DerivedKeys(), clock=clock)
    told: list[Happening] = []

    async def audit(happening: Happening) -> None:
        told.append(happening)

    site = Site(base, f"{base}/fhir")
    sealer = FileKeys(folder / "keys")
    authority = Authority(store, site, Directory(), sealer, clock, audit)
    tokens = Tokens(authority)
    authority = replace(authority, changed=tokens.changed)
    tokens.authority = authority
    app = FastAPI()
    app.state.authority, app.state.tokens = authority, tokens
    app.include_router(endpoints)
    app.include_router(pages)
    app.get("/")(front.front)
    app.add_exception_handler(404, front.nowhere)
    try:
        yield World(app, authority, clock, told)
    finally:
        await store.close()


class Form(HTMLParser):
    """The fields of the forms of a page: what would be sent by each, and its buttons."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[dict[str, str]] = []
        self.buttons: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append({"": found["action"]})
        if tag == "button" and "name" in found:
            self.buttons.append((found["name"], found["value"]))
        if tag != "input" or "name" not in found:
            return
        ticked = found.get("type") not in ("checkbox", "radio") or "checked" in found
        if ticked:
            self.forms[-1][found["name"]] = found.get("value", "")


@dataclass
class Browser:
    """A person at a plain browser: follows our redirects, keeps cookies, sends forms."""

    world: World
    address: str = "192.0.2.1"

    def __post_init__(self) -> None:
        transport = httpx.ASGITransport(self.world.app, client=(self.address, 50000))
        base = self.world.authority.site.base
        self.http = httpx.AsyncClient(transport=transport, base_url=base)
        self.page: httpx.Response | None = None

    def moved(self, world: World) -> Browser:
        """The same browser, with its cookies and its page, when the server was started again."""
        there = Browser(world, self.address)
        there.http.cookies, there.page = self.http.cookies, self.page
        return there

    @property
    def text(self) -> str:
        assert self.page is not None
        return self.page.text

    async def get(self, url: str, **sent: object) -> httpx.Response:
        return await self._follow(await self.http.get(url, **sent))

    async def post(self, url: str, fields: dict[str, str], **sent: object) -> httpx.Response:
        return await self._follow(await self.http.post(url, data=fields, **sent))

    async def _follow(self, answer: httpx.Response) -> httpx.Response:
        for _ in range(10):
            where = answer.headers.get("location", "")
            if answer.status_code != 303 or urlsplit(where).netloc not in ("", "salus.test"):
                break
            answer = await self.http.get(where)
        self.page = answer
        return answer

    def form(self, index: int = 0) -> dict[str, str]:
        return dict(Form(self.text).forms[index])

    async def send(
        self, index: int = 0, without: tuple[str, ...] = (), **fields: str
    ) -> httpx.Response:
        """Send a form of the page as it is, but for what is said."""
        form = self.form(index)
        url = form.pop("")
        names = {name.replace("__", "."): value for name, value in fields.items()}
        sent = {**{k: v for k, v in form.items() if k not in without}, **names}
        return await self.post(url, sent)

    async def sign_in(self, name: str = "dr.may", password: str = PASSWORD) -> httpx.Response:
        """Sign in on the page that is shown, or on that of signing in."""
        if self.page is None or 'name="password"' not in self.text:
            await self.get("/sign-in")
        return await self.send(name=name, password=password)

    async def authorize(self, client: str = "app", **changed: str | None) -> httpx.Response:
        return await self.get("/oauth/authorize", params=request(client, **changed))


def request(client: str = "app", **changed: str | None) -> dict[str, str]:
    """A good authorization request, but for what is changed; None leaves a parameter out."""
    fields = {
        "response_type": "code",
        "client_id": client,
        "redirect_uri": APP,
        "scope": "launch/patient openid fhirUser offline_access patient/Patient.rs "
        "patient/Observation.rs",
        "state": secrets.token_urlsafe(8),
        "aud": FHIR,
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    return {k: v for k, v in {**fields, **changed}.items() if v is not None}


def answered(answer: httpx.Response) -> dict[str, str]:
    """The parameters by which a redirect answers the app."""
    assert answer.status_code == 303, answer.text
    where = answer.headers["location"]
    assert re.match(r"https://app\.example\.com/after\?", where), where
    return dict(parse_qsl(urlsplit(where).query, True))


async def redeem(world: World, code: str, client: str = "app") -> httpx.Response:
    """Exchange a code for a token."""
    fields = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": APP,
        "client_id": client,
        "code_verifier": VERIFIER,
    }
    return await world.browser().http.post("/oauth/token", data=fields)


async def at_consent(world, account="dr.may", patient="ann", **changed):
    """A browser that shows the consent page of a request."""
    browser = world.browser()
    await browser.authorize(**changed)
    await browser.sign_in(account)
    if "Whose record is" in browser.text:
        await browser.send(1, patient=patient)
    assert "Cancel: share nothing" in browser.text, browser.text
    return browser


async def allowed(browser, without=(), **fields):
    """Allow what the page asks; how the app is answered."""
    return answered(await browser.send(without=without, action="allow", **fields))


async def is_in(browser):
    """Whether the browser is signed in."""
    await browser.get("/account")
    return "<h1>Your account</h1>" in browser.text
