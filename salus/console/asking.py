"""The pages of an app's request: which patient, what it may see, and the answer.

https://hl7.org/fhir/smart-app-launch/app-launch.html#obtain-authorization-code
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.responses import Response

from salus.console.page import (
    Forged,
    Visit,
    go,
    leave,
    open_page,
    page,
    render,
    to_consent,
)
from smart_auth import authorize, consent, sessions, throttle
from smart_auth.authority import AUTHORIZE, CONSENT, SIGN_IN, Directory, Patient
from smart_auth.authorize import Changed, Choices
from smart_auth.consent import Form
from smart_auth.errors import OAuthError
from smart_auth.model import Client, Pending
from smart_auth.scopes import is_confined
from smart_auth.sessions import Signed

_PATIENTS = 50  # that a search shows
_NAME = 100  # characters of what is searched
_DENIED = "The user did not allow it"

router = APIRouter(include_in_schema=False)


async def _authorize(visit: Visit) -> Response:
    """The endpoint that apps send browsers to. A form that another site's page posts comes without
    our cookies, so the request is kept and goes on in a page that is asked for from here."""
    await throttle.request(visit.authority, visit.visitor.address)
    begun = await authorize.begin(visit.authority, visit.sent)
    if begun.redirect is not None:
        return leave(begun.redirect)
    return go(visit, CONSENT, request=begun.handle or "")


async def _consent_page(visit: Visit) -> Response:
    """Whatever is to be asked next."""
    authority, signed = visit.authority, visit.signed
    waiting = await authorize.pending(authority, visit.handle, visit.browser)
    client = await authorize.client_of(authority, waiting)
    due = authorize.due(waiting, signed)
    if authorize.silent(waiting):
        asleep = due in ("sign-in", "other-account")
        return await _refuse(visit, "login_required" if asleep else "consent_required")
    if due == "sign-in" or signed is None:
        return go(visit, SIGN_IN, request=visit.handle)
    if due == "other-account":
        return render(visit, "other-account", 403, waiting.redirect_uri, client=client)
    if due == "patient":
        return await _pick(visit, signed, waiting, client)
    return await _ask(visit, signed, waiting, client)


async def _answered(visit: Visit) -> Response:
    """What somebody chose on one of these pages."""
    if not visit.handle:
        raise Forged
    action = visit.sent.get("action", "")
    if action == "cancel":
        return await _refuse(visit, "access_denied")
    if action == "switch":
        return await _switch(visit)
    waiting = await authorize.pending(visit.authority, visit.handle, visit.browser)
    signed = visit.signed
    due = authorize.due(waiting, signed)
    if signed is None or due in ("sign-in", "other-account"):
        return to_consent(visit)
    if action in ("search", "another") and (due == "patient" or _changeable(waiting)):
        client = await authorize.client_of(visit.authority, waiting)
        return await _pick(visit, signed, waiting, client)
    if "patient" in visit.sent:
        await authorize.choose_patient(
            visit.authority, visit.handle, visit.browser, signed.account, visit.sent["patient"]
        )
        return to_consent(visit)
    if action != "allow":
        return to_consent(visit)
    return await _allow(visit, signed)


async def _allow(visit: Visit, signed: Signed) -> Response:
    sent = visit.sent
    ticked = {name for name, value in sent.items() if value == "on"}
    choices = Choices(ticked, sent.get("stamp", ""), sent.get("encounter", ""))
    try:
        answer = await authorize.finish(
            visit.authority, visit.handle, visit.browser, signed, choices
        )
    except Changed:
        return to_consent(visit)
    return leave(answer)


async def _refuse(visit: Visit, error: str) -> Response:
    said = _DENIED if error == "access_denied" else "The user would have to be asked"
    answer = await authorize.refuse(visit.authority, visit.handle, visit.browser, error, said)
    return leave(answer)


async def _switch(visit: Visit) -> Response:
    """Sign in as somebody else and come back."""
    if visit.cookie:
        await sessions.end(visit.authority, visit.cookie, visit.visitor.address)
    answer = go(visit, SIGN_IN, request=visit.handle)
    visit.cookies.drop(answer, visit.cookies.session)
    return answer


async def _pick(visit: Visit, signed: Signed, waiting: Pending, client: Client) -> Response:
    """The patient: chosen by itself when there is no other, else from a list, which a user who
    sees many patients searches by name. What is searched never stands in an address."""
    authority, account = visit.authority, signed.account
    only = await authorize.only_patient(authority, account)
    if only is not None:
        await authorize.choose_patient(authority, visit.handle, visit.browser, account, only)
        return to_consent(visit)
    text = visit.sent.get("name", "")[:_NAME].strip() if visit.request.method == "POST" else ""
    found: list[Patient] = []
    if account.who is not None:
        found = await authority.directory.patients(account.who, text, _PATIENTS)
    return render(
        visit,
        "patient",
        goes_to=waiting.redirect_uri,
        client=client,
        person=account,
        patients=found,
        text=text,
        most=_PATIENTS,
    )


def _changeable(waiting: Pending) -> bool:
    """Whether the patient is one that the user chose here."""
    return waiting.context.patient is not None and not waiting.launched


async def _ask(visit: Visit, signed: Signed, waiting: Pending, client: Client) -> Response:
    """The page that asks for consent."""
    authority, account = visit.authority, signed.account
    context = waiting.context
    patient = None
    if context.patient is not None and account.who is not None:
        if not await authorize.may_choose(authority, account, context.patient):
            raise OAuthError("access_denied", "You may not see the patient of this launch")
        patient = await authority.directory.patient(account.who, context.patient)
    scopes = authorize.offered(waiting, account)
    form = consent.form(scopes, authority.directory)
    return render(
        visit,
        "consent",
        goes_to=waiting.redirect_uri,
        client=client,
        host=urlsplit(waiting.redirect_uri).netloc or waiting.redirect_uri.partition(":")[0],
        person=account,
        patient=patient,
        own=patient is not None and account.who == f"Patient/{patient.id}",
        form=form,
        left_out=_left_out(waiting.scopes, scopes, authority.directory),
        something=bool(form.see or form.change or "identity" in form.plain),
        others=not is_confined(waiting.scopes)
        and any(scope.startswith("user/") for scope in scopes),
        changeable=_changeable(waiting) and not await authorize.only_patient(authority, account),
        encounters=await authorize.encounters(authority, waiting, account),
        policy=authority.policy,
        stamp=authorize.stamp(waiting, account),
    )


def _left_out(asked: tuple[str, ...], offered: tuple[str, ...], known: Directory) -> Form | None:
    """What of a request the account cannot allow, whatever it ticks; None: nothing."""
    form = consent.form([each for each in asked if each not in offered], known)
    return form if any(form) else None


router.get(AUTHORIZE)(open_page(_authorize))
router.post(AUTHORIZE)(open_page(_authorize))
router.get(CONSENT)(page(_consent_page))
router.post(CONSENT)(page(_answered))
