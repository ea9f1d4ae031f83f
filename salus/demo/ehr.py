"""A page that plays the EHR, and the sample app that it launches: what `salus demo` adds.

Choosing who works is all there is to signing in here, by a route that exists in the demo only; what
follows is the launch of any app by any EHR.
https://hl7.org/fhir/smart-app-launch/app-launch.html#launch-app-ehr-launch
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from salus.console.cookies import Cookies
from salus.console.front import Door
from salus.demo.clinic import CLINIC
from salus.demo.people import APP, APP_PATH, PEOPLE, Person
from smart_auth import accounts, clients, launches, sessions
from smart_auth.authority import Authority, Patient
from smart_auth.errors import OAuthError
from smart_auth.forms import form, query
from smart_auth.model import Account, Client, LaunchContext

EHR_PATH, LAUNCH_PATH = "/demo/ehr", "/demo/ehr/launch"
_HERE = Path(__file__).parent
_PATIENTS, _ENCOUNTERS = 50, 20  # that the page offers
_PAGES = Environment(
    loader=FileSystemLoader(_HERE),
    autoescape=select_autoescape(),
    undefined=StrictUndefined,
    auto_reload=False,
)
_MEDIA = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_FILES = {
    "" if path.name == "index.html" else path.name: (path.read_bytes(), _MEDIA[path.suffix])
    for path in sorted((_HERE / "app").iterdir())
    if path.suffix in _MEDIA
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

router = APIRouter(include_in_schema=False)


class Shown(NamedTuple):
    """Somebody whom the page lets you be."""

    account: str
    password: str
    role: str
    display: str
    who: str


class Chart(NamedTuple):
    """What the page has open: who works, and on whom."""

    people: list[Shown]
    user: Shown
    patients: list[Patient]
    patient: Patient
    encounters: list[tuple[str, str]]
    apps: list[Client]


def add(app: FastAPI) -> None:
    """Let an application play the EHR too. Only for `salus demo`, on a loopback address."""
    app.include_router(router)
    app.state.doors = (
        Door(EHR_PATH, "Demo EHR", "Launch the sample app for an invented patient."),
        Door(APP_PATH, "Sample app", "Started by itself, without an EHR."),
    )


@router.get(APP_PATH + "{name:path}")
async def sample_app(name: str) -> Response:
    """A file of the sample app."""
    if name not in _FILES:
        return _said(404, "The sample app has no such file")
    content, media = _FILES[name]
    return Response(content, 200, _HEADERS, media)


@router.get(EHR_PATH)
async def ehr(request: Request) -> Response:
    """The page: who works, the patients whom they may see, and a launch."""
    authority: Authority = request.app.state.authority
    if request.url.netloc != authority.site.base.partition("://")[2]:
        return RedirectResponse(authority.site.at(EHR_PATH), 303)  # where its cookies count
    chart = await _chart(authority, query(request))
    if chart is None:
        return _said(404, "Nobody works here, or there is no such patient")
    page = _PAGES.get_template("ehr.html")
    text = page.render(chart._asdict(), site=authority.site, clinic=CLINIC, launch=LAUNCH_PATH)
    return HTMLResponse(text, 200, _HEADERS)


@router.post(LAUNCH_PATH)
async def launch(request: Request) -> Response:
    """Sign the chosen demo account in, and open the app with a handle for what was chosen."""
    authority: Authority = request.app.state.authority
    if request.headers.get("origin") != authority.site.base:  # no other page plays the EHR
        return _said(403, f"Launch from {authority.site.at(EHR_PATH)}")
    chosen = await form(request)
    account = await _account(authority, chosen.get("user"))
    client = await clients.client(authority, chosen.get("app", APP))
    context = await _context(authority, account, chosen) if account else None
    if account is None or context is None or client is None or not _launchable(client):
        return _said(400, "Choose again: that is not there")
    try:
        handle = await launches.launch(authority, client, account, context)
    except OAuthError as error:
        return _said(error.status, error.description)
    cookies = Cookies(authority.site)
    before = request.cookies.get(cookies.session)
    cookie = await sessions.begin(authority, account, ("pwd",), True, before)
    answer = RedirectResponse(launches.address(authority, client, handle), 303, _HEADERS)
    cookies.set(answer, cookies.session, cookie)
    return answer


async def _chart(authority: Authority, asked: Mapping[str, str]) -> Chart | None:
    people = [shown for each in PEOPLE if (shown := await _shown(authority, each))]
    user = next((each for each in people if each.account == asked.get("user")), None)
    user = user or next(iter(people), None)
    if user is None:
        return None
    patients = await authority.directory.patients(user.who, "", _PATIENTS)
    wanted = asked.get("patient") or next(
        (id for each in people for type, _, id in [each.who.partition("/")] if type == "Patient"),
        None,
    )
    patient = next((each for each in patients if each.id == wanted), None)
    if patient is None:
        return None
    encounters = await authority.directory.encounters(user.who, patient.id, _ENCOUNTERS)
    apps = [each for each in await clients.all_clients(authority) if _launchable(each)]
    apps.sort(key=lambda each: (each.id != APP, each.name))
    return Chart(people, user, patients, patient, encounters, apps)


def _launchable(client: Client) -> bool:
    return client.launch_uri is not None and not client.disabled


async def _shown(authority: Authority, person: Person) -> Shown | None:
    account = await _account(authority, person.account)
    if account is None or account.who is None:
        return None
    return Shown(person.account, person.password, person.role, account.display, account.who)


async def _account(authority: Authority, name: str | None) -> Account | None:
    """A demo account, and no other, while it can be used."""
    if name not in {each.account for each in PEOPLE}:
        return None
    account = await accounts.read(authority, name or "")
    return None if account is None or account.disabled else account


async def _context(
    authority: Authority, account: Account, chosen: Mapping[str, str]
) -> LaunchContext | None:
    """What was chosen, when the visit is the patient's. `launch` asks whether the user may see the
    patient."""
    patient, encounter = chosen.get("patient", ""), chosen.get("encounter")
    if encounter is not None:
        seen = await authority.directory.encounters(account.who or "", patient, _ENCOUNTERS)
        if encounter not in dict(seen):
            return None
    return LaunchContext(patient=patient, encounter=encounter, need_patient_banner=True)


def _said(status: int, text: str) -> Response:
    return PlainTextResponse(text, status, _HEADERS)
