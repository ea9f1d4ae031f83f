"""`salus client`: the apps that may ask for access.

https://hl7.org/fhir/smart-app-launch/app-launch.html#register-app-with-ehr
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from salus.commands.asking import Data, Json, Keys, answered
from salus.commands.keys import key_set, unmade
from salus.operator import requests
from salus.problem import Problem
from salus.terminal import command, err, explained, group, listed_as_json, listing, option, out

app = group("client", "Register apps and backend services, and say what each may see.")

Id = Annotated[str, typer.Argument(help="The client's id.")]


@command(app)
def register(
    id: Annotated[str, typer.Argument(help="The client's id, as the app will send it.")],
    name: Annotated[str | None, option(help="What people read where they consent [ID].")] = None,
    profile: Annotated[str, option(help="smart-2, smart-1 or backend.")] = "smart-2",
    redirect_uri: Annotated[
        list[str] | None, option(help="Where its users are sent back to; repeatable.")
    ] = None,
    launch_uri: Annotated[str | None, option(help="Where it is launched from a record.")] = None,
    scope: Annotated[
        list[str] | None,
        option(help="The most it may be granted, separated by spaces; repeatable."),
    ] = None,
    secret: Annotated[bool, option("--secret", help="It keeps a secret, made here.")] = False,
    jwks: Annotated[
        str | None,
        option(
            help="It signs: a file with its public keys (JWK Set or PEM), or their https address."
        ),
    ] = None,
    make_key: Annotated[
        Path | None,
        option(help="It signs with a key that is made here; its private half goes to this file."),
    ] = None,
    origin: Annotated[
        list[str] | None,
        option(help="From where its pages call, beside its redirects; repeatable."),
    ] = None,
    data: Data = None,
    keys: Keys = None,
) -> None:
    """Register an app. Its secret, if it keeps one, is printed this once.

    [bold]Examples[/]

      salus client register growth --redirect-uri https://growth.example/back --scope "launch/patient patient/*.rs openid fhirUser"

      salus client register nightly --profile backend --scope "system/*.rs" --jwks https://nightly.example/jwks.json
    """  # noqa: E501 (a command is one line)
    with explained():
        if secret + (jwks is not None) + (make_key is not None) > 1:
            raise Problem("Choose one of --secret, --jwks and --make-key")
        if profile == "backend" and jwks is None and make_key is None:
            raise Problem(
                "A backend service proves itself by a key: name its public half with --jwks, or "
                "have one made with --make-key FILE"
            )
        held, address = key_set(jwks, make_key)
        asked = requests.RegisterClient(
            id=id,
            name=name or id,
            profile=profile,
            authentication=_authentication(secret, bool(held or address)),
            redirect_uris=tuple(redirect_uri or ()),
            launch_uri=launch_uri,
            jwks=held,
            jwks_uri=address,
            scopes=tuple(" ".join(scope or ()).split()),
            origins=tuple(origin or ()),
        )
        with unmade(make_key):
            made = answered(data, keys, asked, requests.ClientShown)
        _print(made)


@command(app, "list")
def listed(json: Json = False, data: Data = None, keys: Keys = None) -> None:
    """List every client, with the last time it was given a token."""
    with explained():
        asked = requests.ListClients()
        found = answered(data, keys, asked, requests.Clients)
    if json:
        listed_as_json(found.clients)
        return
    columns = ("Client", "Name", "Profile", "Proves itself by", "Grants", "Last used", "State")
    listing(columns, map(_row, found.clients))


def _row(client: requests.ClientShown) -> tuple[str, ...]:
    state = "disabled" if client.disabled else "enabled"
    shown = (client.id, client.name, client.profile, client.authentication, str(client.grants))
    return (*shown, day(client.used), state)


@command(app)
def show(id: Id, data: Data = None, keys: Keys = None) -> None:
    """Show a client and, in words, what it may see."""
    with explained():
        asked = requests.ShowClient(id)
        _print(answered(data, keys, asked, requests.ClientShown))


@command(app)
def rotate(id: Id, data: Data = None, keys: Keys = None) -> None:
    """Make a client another secret and print it. The one of before still works for a day."""
    with explained():
        asked = requests.RotateSecret(id)
        made = answered(data, keys, asked, requests.Secret)
    err.print(f"The secret of before still works for {made.overlap_hours} hours. The new one:")
    print(made.secret)


@command(app)
def disable(id: Id, data: Data = None, keys: Keys = None) -> None:
    """Let nothing of a client work any more, at once."""
    _change(id, "disabled", data, keys)


@command(app)
def enable(id: Id, data: Data = None, keys: Keys = None) -> None:
    """Let a disabled client work again."""
    _change(id, "enabled", data, keys)


@command(app)
def remove(id: Id, data: Data = None, keys: Keys = None) -> None:
    """Forget a client and everything it was granted."""
    _change(id, "removed", data, keys)


@command(app)
def offer(
    profile: Annotated[
        list[str] | None, option(help="What it may register as; repeatable [smart-2].")
    ] = None,
    scope: Annotated[
        list[str] | None,
        option(help="The most it may be granted, separated by spaces; repeatable."),
    ] = None,
    days: Annotated[int, option(help="How long the token is good.")] = 7,
    data: Data = None,
    keys: Keys = None,
) -> None:
    """Print a token with which one app may register itself (SALUS_REGISTRATION=token)."""
    with explained():
        asked = requests.OfferRegistration(
            profiles=tuple(profile or ("smart-2",)),
            scopes=tuple(" ".join(scope or ()).split()),
            days=days,
        )
        made = answered(data, keys, asked, requests.Offered)
    if made.policy != "token":
        err.print(
            f"[bold yellow]Note:[/] SALUS_REGISTRATION is {made.policy}, so "
            + ("nobody can use it now" if made.policy == "off" else "nobody needs it")
        )
    print(made.token)


def _change(
    id: str, to: Literal["disabled", "enabled", "removed"], data: Path | None, keys: Path | None
) -> None:
    with explained():
        asked = requests.ChangeClient(id, to)
        answered(data, keys, asked, requests.Done)
        out.print(f"The client {escape(id)} is {to}.", highlight=False)


def _authentication(
    secret: bool, signs: bool
) -> Literal["none", "client_secret", "private_key_jwt"]:
    if secret:
        return "client_secret"
    return "private_key_jwt" if signs else "none"


def _print(client: requests.ClientShown) -> None:
    rows = (
        ("name", client.name),
        ("profile", client.profile),
        ("proves itself by", client.authentication),
        ("keys (kid)", "\n".join(client.kids)),
        ("redirects to", "\n".join(client.redirect_uris)),
        ("launched at", client.launch_uri or ""),
        ("registered", f"{day(client.registered)} by {client.registered_by}"),
        ("grants, last used", f"{client.grants}, {day(client.used)}"),
        ("state", "disabled" if client.disabled else "enabled"),
        ("scopes at most", " ".join(client.scopes) or "no limit: no --scope was given"),
        ("may", "\n".join(client.may)),
    )
    said = [(name, line) for name, value in rows for line in value.splitlines()]
    listing(("client", client.id), said)
    if client.secret:
        err.print("Its secret, shown this once:")
        print(client.secret)


def day(microseconds: int | None) -> str:
    """A day, as lists show it."""
    if not microseconds:
        return "never"
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).strftime("%Y-%m-%d")
