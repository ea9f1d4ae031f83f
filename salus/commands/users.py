"""`salus user`: the people who may sign in.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#scopes-for-requesting-identity-data
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from salus.commands.asking import Data, Json, Keys, answered
from salus.operator import requests
from salus.terminal import command, err, explained, group, listed_as_json, listing, option

app = group("user", "Add the people who may sign in, and change what their accounts are.")

Name = Annotated[str, typer.Argument(help="The name that the user types to sign in.")]
Yes = Annotated[bool, option("--yes", help="Also where no administrator is left.")]


@command(app)
def add(
    name: Name,
    who: Annotated[
        str | None,
        option(help="The user's own resource: Practitioner/ID, Patient/, RelatedPerson/, Person/."),
    ] = None,
    display: Annotated[str, option(help="The name to show.")] = "",
    admin: Annotated[bool, option("--admin", help="May administer this server.")] = False,
    password_file: Annotated[
        Path | None, option(help="A file whose first line is the password; - for standard input.")
    ] = None,
    data: Data = None,
    keys: Keys = None,
) -> None:
    """Add a user, and print a link by which they choose a password; it works once, for a week.

    [bold]Examples[/]

      salus user add maria --who Practitioner/maria --display "Dr. Maria Weiss"

      salus user add ada --who Patient/ada
    """
    with explained():
        asked = requests.AddUser(
            name=name,
            who=who,
            display=display,
            administrator=admin,
            password=_first_line(password_file),
        )
        _print(answered(data, keys, asked, requests.UserShown), "added")


@command(app, "list")
def listed(json: Json = False, data: Data = None, keys: Keys = None) -> None:
    """List every user."""
    with explained():
        asked = requests.ListUsers()
        found = answered(data, keys, asked, requests.Users)
    if json:
        listed_as_json(found.users)
        return
    columns = ("User", "Name", "Is", "Password", "Second factor", "State")
    listing(columns, map(_row, found.users))


def _row(user: requests.UserShown) -> tuple[str, ...]:
    return (
        user.name,
        user.display,
        user.who or ("administrator" if user.administrator else "nobody"),
        "chosen" if user.password else "not yet",
        "yes" if user.second_factor else "no",
        "disabled" if user.disabled else "enabled",
    )


@command(app)
def disable(name: Name, yes: Yes = False, data: Data = None, keys: Keys = None) -> None:
    """End every session and token of a user, who cannot sign in any more."""
    _change(name, "disabled", data, keys, yes)


@command(app)
def enable(name: Name, data: Data = None, keys: Keys = None) -> None:
    """Let a disabled user sign in again."""
    _change(name, "enabled", data, keys)


@command(app)
def remove(name: Name, yes: Yes = False, data: Data = None, keys: Keys = None) -> None:
    """Forget a user, with every session and token."""
    _change(name, "removed", data, keys, yes)


@command(app)
def reset(
    name: Name,
    factors: Annotated[
        bool, option("--factors", help="The second factor too, when its telephone is lost.")
    ] = False,
    data: Data = None,
    keys: Keys = None,
) -> None:
    """Print a link by which a user chooses another password, which ends all sessions and tokens."""
    with explained():
        asked = requests.ResetUser(name, factors)
        _print(answered(data, keys, asked, requests.UserShown), "unchanged yet")


@command(app)
def link(
    name: Name,
    who: Annotated[str, typer.Argument(help="Practitioner/ID and the like; - for none.")],
    data: Data = None,
    keys: Keys = None,
) -> None:
    """Say which resource a user is. What was granted before ends."""
    with explained():
        asked = requests.LinkUser(name, None if who == "-" else who)
        _print(answered(data, keys, asked, requests.UserShown), "linked")


def _change(
    name: str,
    to: Literal["disabled", "enabled", "removed"],
    data: Path | None,
    keys: Path | None,
    alone: bool = False,
) -> None:
    with explained():
        asked = requests.ChangeUser(name, to, alone)
        _print(answered(data, keys, asked, requests.UserShown), to)


def _first_line(file: Path | None) -> str | None:
    if file is None:
        return None
    text = sys.stdin.read() if str(file) == "-" else file.read_text()
    return text.partition("\n")[0]


def _print(user: requests.UserShown, became: str) -> None:
    role = f" ({user.who})" if user.who else ""
    said = f"The user {user.name}{role} is {became}."
    err.print(escape(said), highlight=False, soft_wrap=True)
    if user.note:
        err.print(f"[bold yellow]Note:[/] {escape(user.note)}", highlight=False, soft_wrap=True)
    if user.link:
        err.print("This link, good for once, is for that user alone:")
        print(user.link)
