"""One's own account: password, second factor, the apps that are connected, and the end of it all.

https://hl7.org/fhir/smart-app-launch/app-launch.html#revocation, https://www.rfc-editor.org/rfc/rfc6238
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import segno
from fastapi import APIRouter
from markupsafe import Markup
from msgspec.structs import replace
from starlette.responses import Response

from salus.console.page import Visit, go, page, render, to_sign_in
from salus.console.signing import ACCOUNT, SECOND_FACTOR
from salus.console.trail import REACHING
from smart_auth import accounts, clients, consent, grants, throttle, totp
from smart_auth.authority import APPS, SIGN_IN, Happening
from smart_auth.consent import Form
from smart_auth.errors import OAuthError
from smart_auth.factors import named
from smart_auth.model import ACCOUNTS, MINUTE, Account, Client, GrantRecord
from smart_auth.passwords import LEAST, MOST, WeakPassword
from smart_auth.records import Transaction
from smart_auth.sessions import Signed

PASSWORD, EVERYWHERE = "/account/password", "/account/everywhere"
_OFFERED = 10 * MINUTE  # how long a new second factor may be confirmed
_ANEW = "Load the page again and begin anew"

router = APIRouter(include_in_schema=False)


class Connected(NamedTuple):
    """An app with what it was granted. `patients`: names of those in context."""

    client: Client | None
    id: str
    grants: list[GrantRecord]
    form: Form
    patients: list[str]


def _own(show: Callable[[Visit, Signed], Awaitable[Response]], path: str) -> None:
    """Serve a page for whoever is signed in; everybody else signs in first."""

    async def asked(visit: Visit) -> Response:
        signed = visit.signed
        if signed is None or not signed.complete:
            return to_sign_in(visit, path)
        return await show(visit, signed)

    router.get(path)(page(asked))
    router.post(path)(page(asked))


async def _account(visit: Visit, signed: Signed) -> Response:
    reaches = (signed.account.who or "").startswith(REACHING)
    return render(visit, "account", person=signed.account, reaches=reaches)


async def _password(visit: Visit, signed: Signed) -> Response:
    """Another password, by who knows the present one. All other browsers are signed out."""
    sent, wrong = visit.sent, ""
    if visit.request.method == "POST":
        if sent.get("password", "") != sent.get("again", ""):
            wrong = "The two new passwords differ"
        elif not await _proven(visit, signed.account, "pwd", sent.get("current", "")):
            wrong = "The present password is not right"
        else:
            try:
                await accounts.set_password(
                    visit.authority, signed.account.name, sent.get("password", ""), visit.cookie
                )
            except WeakPassword as weak:
                wrong = str(weak)
            else:
                return render(visit, "done", text="Your password is changed.")
    status = 400 if wrong else 200
    return render(visit, "password", status, wrong=wrong, least=LEAST, most=MOST)


async def _everywhere(visit: Visit, signed: Signed) -> Response:
    """Every browser signs in again, and every app is disconnected."""
    if visit.request.method != "POST":
        return render(visit, "everywhere")
    await accounts.sign_out_everywhere(visit.authority, signed.account.name)
    answer = go(visit, SIGN_IN, said="everywhere")
    visit.cookies.drop(answer, visit.cookies.session)
    return answer


# --- second factor -------------------------------------------------------------------------------


async def _second_factor(visit: Visit, signed: Signed) -> Response:
    """Codes of a telephone: on, by who knows the password; off, by a code."""
    if visit.request.method != "POST":
        return _offer(visit, signed.account)
    if visit.sent.get("action") == "off":
        return await _switch_off(visit, signed.account)
    if signed.account.totp is not None:
        return _offer(visit, signed.account, "Switch the present one off first, by a code of it")
    return await _switch_on(visit, signed.account)


class _Offered(NamedTuple):
    """A seed that nobody confirmed yet, and until when it can be, in microseconds."""

    seed: str
    until: int


def _offer(
    visit: Visit, account: Account, wrong: str = "", offered: _Offered | None = None
) -> Response:
    """The form. A new seed is handed out sealed, so nothing is kept until it is confirmed."""
    if account.totp is not None:
        left = len(account.recovery)
        return render(visit, "second-factor-on", 400 if wrong else 200, wrong=wrong, left=left)
    offered = offered or _Offered(totp.new_seed(), visit.authority.clock() + _OFFERED)
    seed = offered.seed
    link = totp.link(seed, account.name, visit.authority.site.name)
    return render(
        visit,
        "second-factor",
        400 if wrong else 200,
        wrong=wrong,
        key=" ".join(seed[i : i + 4] for i in range(0, len(seed), 4)),
        link=link,
        picture=Markup(segno.make(link, micro=False).svg_inline(scale=4, border=4)),
        sealed=_sealed(visit, account, offered),
    )


def _sealed(visit: Visit, account: Account, offered: _Offered) -> str:
    text = f"{offered.seed} {offered.until}"
    sealed = totp.sealed(text, f"new {account.name}", visit.authority.sealer)
    return base64.urlsafe_b64encode(sealed).decode()


def _unsealed(visit: Visit, account: Account) -> _Offered:
    """What the form was made with. OAuthError when that is none of ours, or too old."""
    try:
        sealed = base64.urlsafe_b64decode(visit.sent.get("sealed", "").encode())
        text = totp.unsealed(sealed, f"new {account.name}", visit.authority.sealer)
        seed, until = text.split(" ")
        offered = _Offered(seed, int(until))
    except Exception:
        raise OAuthError("invalid_request", _ANEW) from None
    if visit.authority.clock() >= offered.until:
        raise OAuthError("invalid_request", _ANEW)
    return offered


async def _switch_on(visit: Visit, account: Account) -> Response:
    authority, sent = visit.authority, visit.sent
    offered = _unsealed(visit, account)
    if not await _proven(visit, account, "pwd", sent.get("current", "")):
        return _offer(visit, account, "The password is not right", offered)
    step = totp.step(offered.seed, sent.get("code", ""), authority.clock(), 0)
    if step is None:
        return _offer(visit, account, "That is not the code of now", offered)
    codes = totp.recovery_codes()
    await _keep(
        visit,
        account,
        totp_seed=totp.sealed(offered.seed, account.name, authority.sealer),
        step=step,
        recovery=tuple(map(totp.recovery_digest, codes)),
    )
    return render(visit, "recovery", codes=codes)


async def _switch_off(visit: Visit, account: Account) -> Response:
    if not await _proven(visit, account, "otp", visit.sent.get("code", "")):
        return _offer(visit, account, "That code is not right, or was used before")
    await _keep(visit, account, totp_seed=None, step=0, recovery=())
    return render(visit, "done", text="Signing in takes your password only, from now on.")


async def _keep(
    visit: Visit, account: Account, *, totp_seed: bytes | None, step: int, recovery: tuple[str, ...]
) -> None:
    async def work(tx: Transaction) -> None:
        found = await ACCOUNTS.read(tx, account.name)
        if found is None or found.epoch != account.epoch:
            raise OAuthError("access_denied", "Sign in again")
        if found.totp != account.totp:  # another page was faster
            raise OAuthError("invalid_request", _ANEW)
        kept = replace(
            found, totp=totp_seed, totp_step=step, recovery=recovery, proof=found.proof + 1
        )
        await ACCOUNTS.write(tx, found.name, kept)

    await visit.authority.keeper.transaction(work, write=True)
    detail = "second factor on" if totp_seed else "second factor off"
    told = Happening("account", account=account.name, who=account.who, detail=detail)
    await visit.authority.audit(told)


async def _proven(visit: Visit, account: Account, factor: str, answer: str) -> bool:
    """Whether somebody at a signed-in browser is the person, as often as one may guess. Wait."""
    authority, visitor = visit.authority, visit.visitor
    await throttle.attempt(authority, factor, account.name, visitor)
    if not await named(factor).proven(authority, account, answer):
        return False
    await throttle.forgive(authority, factor, account.name, visitor)
    return True


# --- connected apps ------------------------------------------------------------------------------


async def _apps(visit: Visit, signed: Signed) -> Response:
    """The apps that the user allowed something; each can be disconnected, at once."""
    account = signed.account
    if visit.request.method == "POST":
        await _disconnect(visit, account, visit.sent.get("client", ""))
        return go(visit, APPS)
    found = await visit.authority.keeper.transaction(lambda tx: grants.of_account(tx, account.name))
    by_client: dict[str, list[GrantRecord]] = {}
    for record in found:
        by_client.setdefault(record.client, []).append(record)
    connected = [await _connected(visit, account, id, these) for id, these in by_client.items()]
    connected.sort(key=lambda each: each.client.name.casefold() if each.client else "")
    return render(visit, "apps", connected=connected)


async def _connected(
    visit: Visit, account: Account, id: str, records: list[GrantRecord]
) -> Connected:
    authority = visit.authority
    names: dict[str, None] = {}
    for patient in dict.fromkeys(record.context.patient for record in records):
        shown = (
            await authority.directory.patient(account.who, patient)
            if (patient and account.who)
            else None
        )
        if shown:
            names[shown.name] = None
    scopes = dict.fromkeys(scope for record in records for scope in record.scopes)
    form = consent.form(scopes, authority.directory)
    return Connected(await clients.client(authority, id), id, records, form, list(names))


async def _disconnect(visit: Visit, account: Account, client: str) -> None:
    """End all that an app was granted by this user."""
    authority = visit.authority

    async def work(tx: Transaction) -> list[str]:
        these = [g.id for g in await grants.of_account(tx, account.name) if g.client == client]
        for id in these:
            await grants.end(authority, tx, id)
        return these

    ended = await authority.keeper.transaction(work, write=True)
    for id in ended:
        authority.changed(id)
    if ended:
        told = Happening("revoke", client=client, account=account.name, who=account.who)
        await authority.audit(told)


_own(_account, ACCOUNT)
_own(_password, PASSWORD)
_own(_everywhere, EVERYWHERE)
_own(_second_factor, SECOND_FACTOR)
_own(_apps, APPS)
