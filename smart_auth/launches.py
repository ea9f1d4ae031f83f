"""Launches by an EHR: a handle that stands for who opened the app, and on whom.

https://hl7.org/fhir/smart-app-launch/app-launch.html#launch-app-ehr-launch
"""

from __future__ import annotations

from urllib.parse import quote, urlencode

from msgspec.structs import replace

from smart_auth.authority import Authority, Happening
from smart_auth.errors import OAuthError
from smart_auth.model import LAUNCHES, Account, Client, Launch, LaunchContext, Pending
from smart_auth.records import Transaction, digest, new_secret
from smart_auth.requested import Refused


async def launch(
    authority: Authority, client: Client, account: Account, context: LaunchContext
) -> str:
    """A handle by which `client` gets `context`, once, in a browser where `account` signs in.
    OAuthError access_denied for a patient that the account may not see."""
    patient = context.patient
    if patient is not None:
        who = account.who
        reach = await authority.directory.reach(who)
        seen = who is not None and await authority.directory.patient(who, patient) is not None
        if not seen or (reach is not None and patient not in reach):
            raise OAuthError("access_denied", "There is no such patient among those you may see")
    if context.need_patient_banner is None:
        context = replace(context, need_patient_banner=True)
    handle = new_secret()
    kept = Launch(client=client.id, account=account.name, context=context)
    until = authority.clock() + authority.policy.launch
    await authority.keeper.transaction(
        lambda tx: LAUNCHES.write(tx, digest(handle), kept, until=until), write=True
    )
    told = Happening(
        "launch", client=client.id, account=account.name, who=account.who, patient=patient
    )
    await authority.audit(told)
    return handle


def address(authority: Authority, client: Client, handle: str) -> str:
    """Where the EHR opens the app. OAuthError when it registered no such address."""
    if client.launch_uri is None:
        raise OAuthError("invalid_request", f"{client.name} registered no address to launch it at")
    sent = urlencode({"iss": authority.site.fhir, "launch": handle}, quote_via=quote)
    return f"{client.launch_uri}{'&' if '?' in client.launch_uri else '?'}{sent}"


async def taken(authority: Authority, tx: Transaction, waiting: Pending, handle: str) -> Pending:
    """A request with the context that its launch stands for, which is used up. Refused."""
    key = digest(handle)
    kept = await tx.kept(LAUNCHES.name, key)
    found = await LAUNCHES.read(tx, key)
    over = kept is None or (kept.until is not None and kept.until <= authority.clock())
    if found is None or over or found.client != waiting.client:
        raise Refused("invalid_request", "`launch` is unknown, used already, or has expired")
    await LAUNCHES.take(tx, key)
    return replace(waiting, context=found.context, account=found.account, launched=True)
