"""What weakens a server that works: certificates near their end, apps that nobody uses, accounts
that one factor opens.

https://www.rfc-editor.org/rfc/rfc9700
"""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator

from salus import tls
from salus.folders import Finding, options
from salus.operator.ask import ask
from salus.operator.requests import Clients, ClientShown, ListClients, ListUsers, Users, UserShown
from salus.problem import Problem
from salus.program import called
from salus.settings import Settings

RENEW_DAYS = 14  # before its end a certificate should have been renewed
UNUSED_DAYS = 90
NOT_ADMINISTERED = "Nobody administers this server: no administrator may sign in"
_DAY = 86_400_000_000  # microseconds


def urgent(settings: Settings) -> Iterator[Finding]:
    """What is wrong with the certificate: it breaks the service now or soon."""
    if settings.tls is None:
        return
    cert, key = settings.tls
    try:
        tls.check((cert, key))
        left = tls.days_left(cert)
    except (Problem, ValueError) as problem:
        yield Finding(str(problem), "name a certificate and its key, both in PEM")
        return
    if left < 0:
        yield Finding(f"The certificate {cert} expired", "renew it: it is read again by itself")
    elif left < RENEW_DAYS:
        yield Finding(
            f"The certificate {cert} expires in {left} days",
            "renew it: it is read again by itself",
        )
    if stat.S_IMODE(key.stat().st_mode) & 0o077:
        yield Finding(f"Other users of this machine can read {key}", f"chmod 600 {key}")


def advice(settings: Settings) -> Iterator[Finding]:
    """What could be tightened, in the settings and in what the store holds. Problem, StoreError."""
    yield from _of_settings(settings)
    now = time.time_ns() // 1000
    for client in ask(settings, ListClients(), Clients).clients:
        yield from _of_client(client, now)
    users = ask(settings, ListUsers(), Users).users
    if users and not any(each.administrator and not each.disabled for each in users):
        yield Finding(NOT_ADMINISTERED, f"{called()} user add NAME --admin{options(settings)}")
    for user in users:
        yield from _of_user(user)


def _of_settings(settings: Settings) -> Iterator[Finding]:
    if settings.open:
        yield Finding("SALUS_OPEN turns authorization off", "unset it where there is patient data")
    yield from nameless_proxy(settings)
    if settings.registration == "open":
        yield Finding(
            "Any app may register itself", "set SALUS_REGISTRATION to token, or off, unless meant"
        )
    if settings.jwks_hosts:
        yield Finding(
            f"Keys are fetched from private addresses: {', '.join(settings.jwks_hosts)}",
            "keep SALUS_JWKS_HOSTS to what is needed",
        )


def nameless_proxy(settings: Settings) -> Iterator[Finding]:
    """A proxy before the server whose word does not count, so that its visitors are one."""
    if settings.behind_proxy and not settings.trusted_proxy:
        yield Finding(
            "Behind a proxy that is not named, everybody seems to come from one address: the audit "
            "tells nobody from another, and who guesses passwords uses up the attempts of all",
            "name its address with --trusted-proxy or SALUS_TRUSTED_PROXY",
        )


def weakened(settings: Settings) -> Iterator[Finding]:
    """Choices of the operator that make the trail of reads weaker than it is by itself."""
    if settings.audit_reads == "buffered":
        yield Finding(
            "Reads are answered before their audit is on disk: a crash loses the trace of some",
            "leave SALUS_AUDIT_READS away, unless that is meant",
        )
    if settings.break_glass_log is not None:
        yield Finding(
            "Break-glass is on: if the store cannot be written, reads are answered and their audit "
            f"goes to {settings.break_glass_log}",
            "end it by a start without --break-glass-log once the disk is well again",
        )


def _of_client(client: ClientShown, now: int) -> Iterator[Finding]:
    since = now - (client.used or client.registered)
    if not client.disabled and since > UNUSED_DAYS * _DAY:
        yield Finding(
            f"Nobody has used the client {client.id} for {since // _DAY} days",
            f"salus client disable {client.id}, if it is not needed",
        )
    if client.profile == "smart-1" and not client.disabled:
        yield Finding(
            f"The client {client.id} may do without PKCE (profile smart-1)",
            "register it as smart-2 when it can",
        )


def _of_user(user: UserShown) -> Iterator[Finding]:
    if user.administrator and user.password and not user.second_factor and not user.disabled:
        yield Finding(
            f"The administrator {user.name} signs in with a password alone",
            "add a second factor in the account's page",
        )
