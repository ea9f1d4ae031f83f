"""The authorization endpoint: a request waits under a handle until its user has signed in, chosen a
patient and consented, and ends in a redirect, exactly once.

https://hl7.org/fhir/smart-app-launch/app-launch.html, https://www.rfc-editor.org/rfc/rfc9207
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import quote, urlencode

from msgspec.msgpack import encode
from msgspec.structs import replace

from smart_auth import clients, codes, consent, grants, requested
from smart_auth.authority import Authority, Happening
from smart_auth.errors import OAuthError
from smart_auth.launches import taken
from smart_auth.model import (
    ACCOUNTS,
    PENDING,
    SECOND,
    Account,
    Client,
    GrantRecord,
    LaunchContext,
    Pending,
)
from smart_auth.records import Transaction, digest, new_secret
from smart_auth.requested import Refused
from smart_auth.scopes import (
    FHIR_USER,
    LAUNCH_ENCOUNTER,
    LAUNCH_PATIENT,
    OFFLINE,
    ONLINE,
    OPENID,
    is_confined,
    read_scopes,
)
from smart_auth.sessions import Signed

_CHARACTERS = 300  # of an error's description
_ENCOUNTERS = 50

# What is to happen next: sign in (again), sign in as somebody else, choose the patient, consent.
Due: TypeAlias = Literal["sign-in", "other-account", "patient", "consent"]


class Begun(NamedTuple):
    """The handle of a request that goes on, or the redirect that ends one."""

    handle: str | None = None
    redirect: str | None = None


class Choices(NamedTuple):
    """What came of a consent page: the names of its ticked fields, the encounter (empty: none), and
    the stamp of what the page showed."""

    ticked: Collection[str]
    stamp: str
    encounter: str = ""


class Over(OAuthError):
    """There is no such request any more: answered, expired, or begun in another browser."""

    def __init__(self) -> None:
        super().__init__(
            "invalid_request",
            "This request was answered already, has expired, or was begun in another browser. "
            "Go back to the app and start again",
            status=410,
        )


class Changed(Exception):
    """What the page showed is not what would be granted any more: show it again."""


# --- beginning -----------------------------------------------------------------------------------


async def begin(authority: Authority, sent: Mapping[str, str]) -> Begun:
    """Validate a request and keep it. OAuthError when the app must not be answered at the address
    that it names; every other refusal is a redirect."""
    client, redirect_uri = await requested.whose(authority, sent)
    handle = new_secret()
    try:
        pending = requested.read(authority, client, sent)

        async def work(tx: Transaction) -> None:
            kept = pending
            if "launch" in sent:
                kept = await taken(authority, tx, pending, sent["launch"])
            await PENDING.write(tx, digest(handle), kept, until=_ends(authority, kept))

        await authority.keeper.transaction(work, write=True)
    except Refused as refusal:
        state = requested.readable_state(sent)
        answer = _answer(authority, redirect_uri, state, _error(refusal))
        told = Happening("consent", success=False, client=client.id, detail=refusal.error)
        await authority.audit(told)
        return Begun(redirect=answer)
    return Begun(handle)


async def pending(authority: Authority, handle: str, browser: str) -> Pending:
    """The request of a handle. The first browser (value of its cookie) that shows the handle is
    the one in which it goes on. Over."""
    key, own = digest(handle), digest(browser)

    async def read(tx: Transaction) -> Pending:
        found = await PENDING.read(tx, key)
        if found is None or authority.clock() >= _ends(authority, found):
            raise Over
        if found.browser not in (None, own):
            raise Over
        return found

    async def bind(tx: Transaction) -> Pending:
        bound = replace(await read(tx), browser=own)
        await PENDING.write(tx, key, bound, until=_ends(authority, bound))
        return bound

    found = await authority.keeper.transaction(read)
    return found if found.browser else await authority.keeper.transaction(bind, write=True)


async def client_of(authority: Authority, waiting: Pending) -> Client:
    """Whose request it is. Over when it was disabled since."""
    found = await clients.client(authority, waiting.client)
    if found is None or found.disabled:
        raise Over
    return found


# --- on the way ----------------------------------------------------------------------------------


def due(waiting: Pending, signed: Signed | None) -> Due:
    """What is to happen next."""
    if signed is None or not signed.complete or not _fresh(waiting, signed.session.signed_in):
        return "sign-in"
    if waiting.account is not None and waiting.account != signed.account.name:
        return "other-account"
    return "patient" if _needs_patient(waiting, signed.account) else "consent"


def _needs_patient(waiting: Pending, account: Account) -> bool:
    """A `patient/` scope has no meaning without a patient, so it asks for one too."""
    wanted = any(
        each.text == LAUNCH_PATIENT or (each.clinical and each.clinical.context == "patient")
        for each in read_scopes(" ".join(offered(waiting, account)))
    )
    return wanted and waiting.context.patient is None


def silent(waiting: Pending) -> bool:
    """Whether nobody may be asked anything: `prompt=none`."""
    return waiting.prompt == "none"


async def may_choose(authority: Authority, account: Account, patient: str) -> bool:
    """Whether this patient is one that the account may put in context."""
    if account.who is None:
        return False
    reach = await authority.directory.reach(account.who)
    if reach is not None and patient not in reach:
        return False
    return await authority.directory.patient(account.who, patient) is not None


async def only_patient(authority: Authority, account: Account) -> str | None:
    """The patient, when the account can see no other."""
    reach = await authority.directory.reach(account.who)
    return next(iter(reach)) if reach is not None and len(reach) == 1 else None


async def choose_patient(
    authority: Authority, handle: str, browser: str, account: Account, patient: str
) -> None:
    """Put a patient in context. OAuthError for one that the account may not choose; Over."""
    waiting = await pending(authority, handle, browser)
    if waiting.context.patient == patient:
        return
    if waiting.launched and waiting.context.patient is not None:
        raise OAuthError("access_denied", "This app was opened for another patient")
    if not await may_choose(authority, account, patient):
        raise OAuthError("access_denied", "There is no such patient among those you may see")

    async def work(tx: Transaction) -> None:
        found = await PENDING.read(tx, digest(handle))
        if found is None or found.browser != digest(browser):
            raise Over
        chosen = replace(found, context=replace(found.context, patient=patient))
        await PENDING.write(tx, digest(handle), chosen, until=_ends(authority, chosen))

    await authority.keeper.transaction(work, write=True)


async def encounters(
    authority: Authority, waiting: Pending, account: Account
) -> list[tuple[str, str]]:
    """Encounters to choose from, when the app asks for one and has none."""
    patient = waiting.context.patient
    asked = LAUNCH_ENCOUNTER in waiting.scopes
    if not asked or waiting.context.encounter or patient is None or account.who is None:
        return []
    return await authority.directory.encounters(account.who, patient, _ENCOUNTERS)


def stamp(waiting: Pending, account: Account) -> str:
    """What stands for all that a consent page shows."""
    return digest(f"{encode(waiting).hex()} {account.name} {account.who}")


def offered(waiting: Pending, account: Account) -> tuple[str, ...]:
    """The scopes that this account can allow: none about data when it is nobody's."""
    if account.who is not None:
        return waiting.scopes
    return tuple(
        each.text
        for each in read_scopes(" ".join(waiting.scopes))
        if each.clinical is None and each.text not in (FHIR_USER, LAUNCH_PATIENT, LAUNCH_ENCOUNTER)
    )


# --- ending --------------------------------------------------------------------------------------


async def finish(
    authority: Authority, handle: str, browser: str, signed: Signed, choices: Choices
) -> str:
    """Grant what was chosen, and where to go with the code. Changed; Over; OAuthError."""
    waiting = await pending(authority, handle, browser)
    client = await client_of(authority, waiting)
    account = signed.account
    if due(waiting, signed) != "consent" or choices.stamp != stamp(waiting, account):
        raise Changed
    context = waiting.context
    if context.patient and not await may_choose(authority, account, context.patient):
        return await refuse(authority, handle, browser, "access_denied", "No such patient")
    if choices.encounter:
        if choices.encounter not in dict(await encounters(authority, waiting, account)):
            raise OAuthError("access_denied", "There is no such visit among those you may see")
        context = replace(context, encounter=choices.encounter)
    scopes = consent.granted(offered(waiting, account), choices.ticked, authority.directory)
    if not any(each.clinical or each.text == OPENID for each in read_scopes(" ".join(scopes))):
        return await refuse(authority, handle, browser, "access_denied", "Nothing was allowed")
    given = _grant(authority, waiting, signed, scopes, context)

    async def work(tx: Transaction) -> str:
        current = await ACCOUNTS.read(tx, account.name)
        if await PENDING.take(tx, digest(handle)) != waiting:
            raise Over
        if current is None or current.disabled or current.epoch != account.epoch:
            raise Over
        await grants.give(tx, given)
        return await codes.issue(authority, tx, given, waiting.redirect_uri, waiting.challenge)

    code = await authority.keeper.transaction(work, write=True)
    await authority.audit(_told(client, account, given))
    return _answer(authority, waiting.redirect_uri, waiting.state, {"code": code})


async def refuse(
    authority: Authority, handle: str, browser: str, error: str, description: str
) -> str:
    """End a request without a grant, and where to go with that. Over."""
    waiting = await pending(authority, handle, browser)

    async def work(tx: Transaction) -> None:
        if await PENDING.take(tx, digest(handle)) is None:
            raise Over

    await authority.keeper.transaction(work, write=True)
    told = Happening("consent", success=False, client=waiting.client, detail=error)
    await authority.audit(told)
    answer = _error(OAuthError(error, description))
    return _answer(authority, waiting.redirect_uri, waiting.state, answer)


def _grant(
    authority: Authority,
    waiting: Pending,
    signed: Signed,
    scopes: tuple[str, ...],
    context: LaunchContext,
) -> GrantRecord:
    session, account = signed
    offline = OFFLINE in scopes
    return GrantRecord(
        id=new_secret(),
        client=waiting.client,
        account=account.name,
        who=account.who,
        scopes=scopes,
        context=context,
        created=authority.clock(),
        epoch=account.epoch,
        session=session.id if ONLINE in scopes and not offline else None,
        nonce=waiting.nonce,
        signed_in=session.signed_in,
        factors=session.factors,
        offline=offline,
        confined=is_confined(waiting.scopes),
    )


def _told(client: Client, account: Account, given: GrantRecord) -> Happening:
    return Happening(
        "consent",
        client=client.id,
        account=account.name,
        who=account.who,
        patient=given.context.patient,
        detail="offline" if given.offline else "",
    )


def _fresh(waiting: Pending, signed_in: int) -> bool:
    """Whether a sign-in is recent enough for the app; one after the request always is."""
    if signed_in >= waiting.created:
        return True
    if {"login", "select_account"} & set(waiting.prompt.split()):
        return False
    return waiting.max_age is None or signed_in >= waiting.created - waiting.max_age * SECOND


def _ends(authority: Authority, waiting: Pending) -> int:
    return waiting.created + authority.policy.pending


def _error(error: OAuthError) -> dict[str, str]:
    """The parameters of a refusal; descriptions have no letters beyond ASCII (RFC 6749 4.1.2.1)."""
    told = error.description[:_CHARACTERS].replace('"', "'").replace("\\", "/")
    plain = told.encode("ascii", "replace").decode()
    return {"error": error.error, "error_description": plain}


def _answer(
    authority: Authority, redirect_uri: str, state: str | None, parameters: Mapping[str, str]
) -> str:
    """The redirect to the app, with the issuer, so that answers of two servers are not mixed up."""
    sent = {**parameters, "iss": authority.site.fhir}
    if state is not None:
        sent["state"] = state
    joint = "&" if "?" in redirect_uri else "?"
    return f"{redirect_uri}{joint}{urlencode(sent, quote_via=quote)}"
