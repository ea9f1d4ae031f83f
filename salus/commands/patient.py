"""`salus patient`: what ends of patients: their erasure, and the holds that forbid it.

https://gdpr-info.eu/art-17-gdpr/
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from fhir_server.times import instant
from salus.commands.asking import Data, Json, Keys, answered
from salus.operator import requests
from salus.problem import Problem
from salus.terminal import command, err, explained, group, listing, option

app = group("patient", "Erase patients for good, and put legal holds on them.")

Id = Annotated[str, typer.Argument(help="The patient's id, as in Patient/ID.")]


@command(app)
def erase(
    id: Id,
    basis: Annotated[
        str, option(help="Why, without a word about the patient: it stands in the log.")
    ] = "",
    yes: Annotated[bool, option("--yes", help="Without being asked to type the id.")] = False,
    dry_run: Annotated[bool, option("--dry-run", help="Show what would go; do nothing.")] = False,
    json: Json = False,
    data: Data = None,
    keys: Keys = None,
) -> None:
    """Erase a patient for good: every version of everything that is theirs, what others say of
    them, and the keys under which it was sealed. Nothing brings it back.

    [bold]Examples[/]

      salus patient erase ada --dry-run

      salus patient erase ada --basis "Request of 2026-11-22, GDPR article 17"
    """
    with explained():
        shown = answered(data, keys, requests.ErasePatient(id=id, dry=True), requests.Erased)
        if not dry_run:
            if not basis:
                raise Problem("--basis says why, as in --basis 'GDPR article 17, request 12'")
            if shown.held:
                raise Problem("A legal hold stands in the way: `salus patient release` ends one")
            if not yes:
                _confirm(shown)
            asked = requests.ErasePatient(id=id, basis=basis)
            shown = answered(data, keys, asked, requests.Erased)
    if json:
        print(msgspec.json.format(msgspec.json.encode(shown)).decode())
    else:
        _print(shown)


def _confirm(shown: requests.Erased) -> None:
    """Have the id typed. Problem when another is."""
    _print(shown)
    typed = typer.prompt("Type the id of the patient to erase all of it", err=True)
    if typed.strip() != shown.id:
        raise Problem("That is not the id: nothing was erased")


@command(app)
def hold(
    id: Id,
    reason: Annotated[str, option(help="Why, as in a claim's reference.")],
    data: Data = None,
    keys: Keys = None,
) -> None:
    """Put a legal hold on a patient: nothing of theirs is erased while it lasts."""
    with explained():
        answered(data, keys, requests.HoldPatient(id, reason), requests.Done)
    err.print(escape(f"Patient/{id} is on hold."), highlight=False, soft_wrap=True)


@command(app)
def release(id: Id, data: Data = None, keys: Keys = None) -> None:
    """End the legal hold on a patient."""
    with explained():
        answered(data, keys, requests.HoldPatient(id, None), requests.Done)
    err.print(escape(f"Patient/{id} is on hold no more."), highlight=False, soft_wrap=True)


@command(app)
def holds(data: Data = None, keys: Keys = None) -> None:
    """List every legal hold."""
    with explained():
        found = answered(data, keys, requests.ListHolds(), requests.Holds)
    listing(
        ("Patient", "Since", "Reason"),
        ((id, instant(at), reason) for id, reason, at in found.holds),
    )


def _print(shown: requests.Erased) -> None:
    head = "Would be erased" if shown.dry else "Erased"
    resources = sum(count for _, count in shown.types)
    lines = [f"{head}: Patient/{shown.id}, {resources} resources in {shown.versions} versions"]
    lines += [f"  {count:>6} {type}" for type, count in shown.types]
    if shown.held:
        lines.append("A legal hold stands in the way, so nothing would be erased.")
    lines += _others(shown) if shown.dry else _done(shown)
    for line in lines:
        err.print(escape(line), highlight=False, soft_wrap=True)


def _others(shown: requests.Erased) -> list[str]:
    """What others would lose."""
    if not shown.foreseen:
        return ["What others would lose is not known: there is too much to look at it now."]
    if not (shown.cut or shown.gone or shown.redacted):
        return ["Others would lose nothing."]
    lines = [f"Others would lose what names the patient ({shown.redacted} versions rewritten):"]
    lines += [f"  {count:>6} {type}" for type, count in shown.cut]
    if shown.gone:
        lines.append("And these would be removed, which are about nothing else:")
        lines += [f"  {count:>6} {type}" for type, count in shown.gone]
    return lines


def _done(shown: requests.Erased) -> list[str]:
    """What else was done, and what remains."""
    if not shown.finished:
        lines = ["What others keep of the patient is being removed; the server goes on with it."]
    else:
        lines = [
            f"Others: {shown.changed} resources do not name the patient any more, "
            f"{shown.redacted} old versions of such are redacted, {shown.removed} that were about "
            f"nothing else are removed, {shown.results} remembered answers are forgotten."
        ]
    lines.append("What remains, and why:")
    lines += [f"  - {each}" for each in shown.remains]
    lines.append(f"The last copy of the destroyed keys, in a key backup, ends by {shown.final}.")
    return lines
