"""Pages of administrators: who can sign in, and which apps are registered.

https://hl7.org/fhir/smart-app-launch/app-launch.html#register-app-with-ehr
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from fastapi import APIRouter
from starlette.responses import Response

from salus.console.page import Visit, go, page, render, to_sign_in
from salus.operator.tokens import OWN
from salus.operator.users import note_of
from salus.product import Product
from smart_auth import accounts, clients, consent, invitations
from smart_auth.accounts import BadAccount
from smart_auth.authority import Authority, Happening
from smart_auth.clients import Registered
from smart_auth.errors import OAuthError
from smart_auth.invitations import Purpose
from smart_auth.model import ACCOUNTS, Account, Client
from smart_auth.profiles import PROFILES
from smart_auth.records import Transaction
from smart_auth.registrable import Authentication, Registrable
from smart_auth.scopes import BadScope, read_scopes

ADMIN, PEOPLE, CLIENTS = "/admin", "/admin/people", "/admin/apps"
_KINDS: Mapping[str, Authentication] = {"public": "none", "secret": "client_secret"}
_LINKS: Mapping[str, Purpose] = {"link": "password", "lost": "factors"}

_DISABLED = {  # what disabling brings about
    PEOPLE: "They are signed out everywhere and cannot sign in, and every app that they connected "
    "is disconnected at once. You can enable the account again; the apps stay disconnected.",
    CLIENTS: "At once nobody can use it, and what it was allowed opens nothing, until you enable "
    "it again.",
}

router = APIRouter(include_in_schema=False)


def _administrators(show: Callable[[Visit, Account], Awaitable[Response]], path: str) -> None:
    """Serve a page for administrators; everybody else signs in, or is told that they are none."""

    async def asked(visit: Visit) -> Response:
        signed = visit.signed
        if signed is None or not signed.complete:
            return to_sign_in(visit, path)
        if not signed.account.administrator:
            raise OAuthError("access_denied", "This page is for administrators")
        return await show(visit, signed.account)

    router.get(path)(page(asked))
    router.post(path)(page(asked))


async def _start(visit: Visit, own: Account) -> Response:
    return go(visit, PEOPLE)


# --- people --------------------------------------------------------------------------------------


async def _people(visit: Visit, own: Account) -> Response:
    """Everybody who can sign in. A link is shown once, to be handed to whom it is for."""
    if visit.request.method != "POST":
        return await _list_people(visit, own)
    act = _PEOPLE_ACTS.get(visit.sent.get("action", ""), _nothing)
    try:
        return await act(visit, own)
    except BadAccount as error:
        return await _list_people(visit, own, wrong=str(error))


async def _list_people(
    visit: Visit, own: Account, wrong: str = "", link: str = "", whose: str = "", note: str = ""
) -> Response:
    found = await accounts.all_accounts(visit.authority)
    return render(
        visit,
        "people",
        400 if wrong else 200,
        people=found,
        own=own.name,
        wrong=wrong,
        link=link,
        whose=whose,
        note=note,
        sent=visit.sent if wrong else {},
    )


async def _nothing(visit: Visit, own: Account) -> Response:
    return go(visit, PEOPLE)


async def _invite(visit: Visit, own: Account) -> Response:
    """A new account, with a link by which it gets its password."""
    authority, sent = visit.authority, visit.sent

    async def work(tx: Transaction) -> tuple[Account, str]:
        made = await accounts.create(
            authority,
            tx,
            sent.get("name", ""),
            who=sent.get("who"),
            display=sent.get("display", ""),
            administrator=sent.get("administrator") == "on",
        )
        return made, await invitations.invite(authority, tx, made)

    made, secret = await authority.keeper.transaction(work, write=True)
    await _told(authority, made, f"created by {own.name}")
    return await _list_people(
        visit,
        own,
        link=invitations.address(authority, secret),
        whose=made.name,
        note=await _note(visit, made.who),
    )


async def _note(visit: Visit, who: str | None) -> str:
    """What to know of the resource that an account is linked to."""
    product: Product | None = getattr(visit.request.app.state, "product", None)
    return (await note_of(product, who) or "") if product else ""


async def _link(visit: Visit, own: Account) -> Response:
    """A link for another password; what there is works until it is used."""
    authority, name = visit.authority, accounts.folded(visit.sent.get("name", ""))
    purpose = _LINKS[visit.sent["action"]]

    async def work(tx: Transaction) -> tuple[Account, str]:
        found = await ACCOUNTS.read(tx, name)
        if found is None:
            raise BadAccount("There is no account with that name")
        return found, await invitations.invite(authority, tx, found, purpose)

    found, secret = await authority.keeper.transaction(work, write=True)
    await _told(authority, found, f"link for another password by {own.name}")
    return await _list_people(
        visit, own, link=invitations.address(authority, secret), whose=found.name
    )


async def _sure(visit: Visit, own: Account) -> Response:
    """Ask before somebody is thrown out."""
    found = await accounts.read(visit.authority, visit.sent.get("name", ""))
    if found is None:
        raise BadAccount("There is no account with that name")
    return _ask(visit, PEOPLE, "name", found.name, found.display or found.name)


async def _disable(visit: Visit, own: Account) -> Response:
    name = accounts.folded(visit.sent.get("name", ""))
    if name == own.name:
        raise BadAccount("Another administrator can disable your account, not you")
    await accounts.disable(visit.authority, name)
    return go(visit, PEOPLE)


async def _enable(visit: Visit, own: Account) -> Response:
    await accounts.enable(visit.authority, visit.sent.get("name", ""))
    return go(visit, PEOPLE)


_PEOPLE_ACTS: Mapping[str, Callable[[Visit, Account], Awaitable[Response]]] = {
    "add": _invite,
    "link": _link,
    "lost": _link,
    "sure": _sure,
    "disable": _disable,
    "enable": _enable,
}


def _ask(visit: Visit, path: str, field: str, id: str, name: str) -> Response:
    return render(visit, "sure", path=path, field=field, id=id, name=name, about=_DISABLED[path])


async def _told(authority: Authority, account: Account, detail: str) -> None:
    told = Happening("account", account=account.name, who=account.who, detail=detail)
    await authority.audit(told)


# --- apps ----------------------------------------------------------------------------------------


async def _apps(visit: Visit, own: Account) -> Response:
    """Every registered app. A secret is shown once."""
    if visit.request.method != "POST":
        return await _list_apps(visit)
    action = visit.sent.get("action", "")
    if action == "add":
        return await _register(visit, own)
    if action == "rotate":
        return await _rotate(visit, own)
    id = visit.sent.get("client", "")
    if action in ("sure", "disable") and id == OWN:
        return await _list_apps(visit, wrong="The operator's own client cannot be disabled here")
    if action == "sure" and (found := await clients.client(visit.authority, id)) is not None:
        return _ask(visit, CLIENTS, "client", id, found.name)
    change = {"disable": clients.disable, "enable": clients.enable}.get(action)
    if change is not None:
        changed = await change(visit.authority, id)
        if changed is not None:
            await _registered(visit, own, changed, f"{action}d")
    return go(visit, CLIENTS)


async def _list_apps(
    visit: Visit, wrong: str = "", made: Client | None = None, secret: str | None = None
) -> Response:
    found = await clients.all_clients(visit.authority)
    known = visit.authority.directory
    return render(
        visit,
        "clients",
        400 if wrong else 200,
        clients=found,
        forms={each.id: consent.form(each.scopes, known) for each in found},
        operators=OWN,
        profiles=[each.name for each in PROFILES.values() if not each.backend],
        wrong=wrong,
        made=made,
        secret=secret,
        sent=visit.sent if wrong else {},
    )


async def _register(visit: Visit, own: Account) -> Response:
    try:
        made = await _asked(visit, own)
    except (OAuthError, BadScope, ValueError) as error:
        said = error.description if isinstance(error, OAuthError) else str(error)
        return await _list_apps(visit, wrong=said)
    await _registered(visit, own, made.client, "registered")
    return await _list_apps(visit, made=made.client, secret=made.secret)


async def _asked(visit: Visit, own: Account) -> Registered:
    """Register what the form says. OAuthError, BadScope; ValueError for an id that is taken."""
    sent, directory = visit.sent, visit.authority.directory
    scopes = tuple(sent.get("scopes", "").split())
    for each in read_scopes(" ".join(scopes)):
        reason = directory.ungrantable(each.clinical) if each.clinical else None
        if reason:
            raise BadScope(reason)
    kind = sent.get("kind", "public")
    wanted = Registrable(
        name=sent.get("name", "").strip(),
        profile=sent.get("profile", "smart-2"),
        authentication=_KINDS.get(kind, "none"),
        redirect_uris=tuple(sent.get("redirect_uris", "").split()),
        launch_uri=sent.get("launch_uri"),
        scopes=scopes,
        native=kind == "public",
    )
    return await clients.register(
        visit.authority, wanted, id=sent.get("client"), by=f"account {own.name}"
    )


async def _rotate(visit: Visit, own: Account) -> Response:
    """Another secret; the one of before is taken a while longer, so that the app can be told."""
    id = visit.sent.get("client", "")
    secret = await clients.rotate_secret(visit.authority, id)
    if secret is None:
        return await _list_apps(visit, wrong="There is no such app with a secret")
    found = cast(Client, await clients.client(visit.authority, id))
    await _registered(visit, own, found, "secret rotated")
    return await _list_apps(visit, made=found, secret=secret)


async def _registered(visit: Visit, own: Account, client: Client, detail: str) -> None:
    told = Happening("register", client=client.id, account=own.name, who=own.who, detail=detail)
    await visit.authority.audit(told)


_administrators(_start, ADMIN)
_administrators(_people, PEOPLE)
_administrators(_apps, CLIENTS)
