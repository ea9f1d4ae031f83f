"""`salus keys`: what wraps the keys, and their rotation, backup and return.

https://csrc.nist.gov/pubs/sp/800/57/pt1/r5/final
"""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from getpass import GetPassWarning
from pathlib import Path
from typing import Annotated, TypeVar, cast, get_args

import typer
from msgspec import Struct
from rich.markup import escape
from rich.progress import Progress

from fhir_server.storage import keydb
from fhir_server.storage.keyservices.choice import Kind, read_secret
from salus.commands.asking import Data, Keys
from salus.operator import requests
from salus.problem import Problem
from salus.settings import Settings, read_settings
from salus.terminal import command, err, explained, group, option, out

T = TypeVar("T", bound=Struct)

app = group("keys", "Rotate, back up and restore the keys that protect the data.")

PassphraseFile = Annotated[
    Path | None, option(help="File with the passphrase of the backup [asked for].")
]


@command(app)
def status(data: Data = None, keys: Keys = None) -> None:
    """Say what wraps the keys, how many there are, and when they were rotated and backed up.

    It asks the key service to open the intermediate keys, as a server does every half minute.

    [bold]Examples[/]

      salus keys status

      salus keys status --data ./data --keys ~/salus-keys
    """
    from fhir_server.storage.rotation import overview
    from salus.keyring import key_provider

    with explained():
        settings = read_settings(data=data, keys=keys)
        found, service = overview(settings.keys), key_provider(settings)
        found.prove(service)
        at = found.happened
        for name, value in (
            ("Key service", service.where),
            ("Its key", _when(at.get(keydb.SERVICE_KEY), "never replaced", "replaced ")),
            ("Wrapped keys", str(settings.keys / keydb.KEYS_DB)),
            ("Made", _when(found.made)),
            ("Intermediate keys", _intermediates(found.intermediates)),
            ("", _when(at.get(keydb.INTERMEDIATE_KEYS), "never replaced", "replaced ")),
            ("Data keys", f"{found.keys:,} (those made ahead included)"),
            ("Destroyed", f"{found.destroyed:,}"),
            ("Last backup", _when(at.get(keydb.BACKUP), "none")),
            ("Backups end", _when(at.get(keydb.BACKUPS_UNTIL), "no backup was made")),
        ):
            out.print(f"{name and name + ':':<19}{escape(value)}", highlight=False, soft_wrap=True)


def _intermediates(rows: list[tuple[int, str, bytes, bool]]) -> str:
    current = sum(row[3] for row in rows)
    former = len(rows) - current
    return f"{len(rows)}, all open" + (f" ({former} of before, for secrets)" if former else "")


def _when(at: int | None, never: str = "", what: str = "") -> str:
    return f"{what}{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC" if at else never


@command(app)
def rotate(
    intermediates: Annotated[
        bool,
        option("--intermediates", help="Make new intermediate keys, and wrap data keys by them."),
    ] = False,
    data_keys: Annotated[
        bool,
        option("--data-keys", help="Let every owner have a new data key at the next write."),
    ] = False,
    former: Annotated[
        str | None,
        option(
            "--from", help="Move the keys here from file, pkcs11, vault or aws-kms, as set before."
        ),
    ] = None,
    data: Data = None,
    keys: Keys = None,
) -> None:
    """Replace keys while the server runs; no data is rewritten. The audit tells it.

    Without an option, the key service's own key is replaced, and what it wraps is wrapped anew: a
    handful of keys. After a move to another key service start the server with the new settings.

    [bold]Examples[/]

      salus keys rotate

      salus keys rotate --intermediates

      salus keys rotate --data-keys

      SALUS_KEY_PROVIDER=vault salus keys rotate --from file
    """
    with explained():
        if intermediates + data_keys + (former is not None) > 1:
            raise Problem("Choose one of --intermediates, --data-keys and --from")
        settings = _settings(data, keys)
        if intermediates:
            _renew_intermediates(settings)
        elif data_keys:
            renewed = _asked(settings, requests.RenewDataKeys(), requests.DataKeysRenewed)
            out.print(
                f"{renewed.owners:,} owners get a new data key at their next write; what is there "
                "stays under the keys that sealed it",
                highlight=False,
                soft_wrap=True,
            )
        else:
            _renew_service_key(settings, former)


def _renew_service_key(settings: Settings, former: str | None) -> None:
    from fhir_server.storage.rotation import renew_service_key
    from salus.keyring import key_provider

    service = key_provider(settings)
    if former is None:
        _note(settings, "key service's key replaced")
        renewed = renew_service_key(settings.keys, settings.data, service)
    else:
        before = _before(settings, former)
        renewed = renew_service_key(
            settings.keys, settings.data, service, key_provider(settings, before)
        )
        _note(settings, "keys moved to another key service")
    out.print(
        f"{renewed.intermediates} intermediate keys are wrapped anew by {escape(service.where)}",
        highlight=False,
        soft_wrap=True,
    )
    if renewed.remaining:
        out.print(escape(renewed.remaining), highlight=False, soft_wrap=True)
    if former == "file":
        out.print(escape(_left(settings)), highlight=False, soft_wrap=True)


def _left(settings: Settings) -> str:
    """What a key file that wraps nothing any more still opens."""
    from fhir_server.storage.keys import KEY_FILE
    from fhir_server.storage.rotation import overview

    until = overview(settings.keys).happened.get(keydb.BACKUPS_UNTIL)
    last = f"when the last key backup of before has ended ({_when(until)})" if until else "then"
    return (
        f"{settings.keys / KEY_FILE} is left there: it opens older copies of {keydb.KEYS_DB}, and "
        f"nothing of today. Start the server with the new settings, and destroy it {last}"
    )


def _before(settings: Settings, former: str) -> Kind:
    """The kind that keys are moved from. A server has only the one that it was started with."""
    from salus.operator.running import holder

    if former not in get_args(Kind) or former == settings.key_provider:
        raise Problem(
            f"--from names what wraps the keys now, one of {', '.join(get_args(Kind))}, and "
            f"SALUS_KEY_PROVIDER ({settings.key_provider}) another, to which they move"
        )
    if found := holder(settings.data):
        raise Problem(
            f"{settings.data} is in use by {found}, which knows the key service of before: stop "
            "it, move the keys, and start it with the new settings"
        )
    return cast(Kind, former)


def _renew_intermediates(settings: Settings) -> None:
    from fhir_server.storage.rotation import renew_intermediates
    from salus.keyring import key_provider

    service = key_provider(settings)
    _note(settings, "intermediate keys replaced")
    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("wrapping data keys anew", total=None)

        def told(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        count = renew_intermediates(settings.keys, service, told)
    out.print(
        f"There are new intermediate keys; {count:,} data keys are wrapped by them",
        highlight=False,
        soft_wrap=True,
    )


@command(app)
def backup(
    file: Annotated[Path, typer.Argument(help="Where the backup goes: not beside the data's.")],
    passphrase_file: PassphraseFile = None,
    data: Data = None,
    keys: Keys = None,
) -> None:
    """Back up the keys, apart from the data, for thirty days; then the file is refused.

    Keys that are in a file are sealed under a passphrase; others stay wrapped by their key
    service. What is erased is beyond return once the last backup of before has ended.

    [bold]Examples[/]

      salus keys backup /media/safe/keys.backup

      salus keys backup keys.backup --passphrase-file /run/secrets/passphrase
    """
    from fhir_server.storage.keybackup import back_up
    from salus.keyring import key_provider

    with explained():
        settings = _settings(data, keys)
        if file.resolve().is_relative_to(settings.data):
            raise Problem("Keys do not lie with the data: name a place outside the data folder")
        if file.exists():
            raise Problem(f"{file} is there already, perhaps a backup that is needed: name another")
        service = key_provider(settings)
        sealed = settings.key_provider == "file"
        passphrase = _passphrase(passphrase_file, confirmed=True) if sealed else ""
        _note(settings, "keys backed up")
        until = back_up(settings.keys, service, file, passphrase)
    out.print(
        f"{escape(str(file))} can be restored until {until:%Y-%m-%d %H:%M} UTC: make the next one "
        "before, and destroy this one then",
        highlight=False,
        soft_wrap=True,
    )


@command(app)
def restore(
    file: Annotated[Path, typer.Argument(help="What `salus keys backup` wrote.")],
    passphrase_file: PassphraseFile = None,
    data: Data = None,
    keys: Keys = None,
) -> None:
    """Bring back keys that are lost or damaged; the server must be stopped.

    What was destroyed since the backup stays destroyed, as far as the folder of keys still knows.

    [bold]Examples[/]

      salus keys restore /media/safe/keys.backup
    """
    from fhir_server.storage import keybackup
    from salus.keyring import key_provider
    from salus.operator.running import holder

    with explained():
        settings = read_settings(data=data, keys=keys)
        if found := holder(settings.data):
            raise Problem(f"{settings.data} is in use by {found}: stop that, then restore")
        sealed = keybackup.needs_passphrase(file)
        passphrase = _passphrase(passphrase_file, confirmed=False) if sealed else ""
        restored = keybackup.restore(file, settings.keys, key_provider(settings), passphrase)
        noted = _noted_afterwards(settings)
    out.print(
        f"{restored.keys:,} data keys are there; {restored.destroyed:,} of the backup stay "
        f"destroyed. {noted}",
        highlight=False,
        soft_wrap=True,
    )


def _noted_afterwards(settings: Settings) -> str:
    """The audit can be written again only when the keys are there, and only where there is data."""
    from salus.operator.running import needs_data

    try:
        needs_data(settings)
    except Problem:
        return f"There is no data in {escape(str(settings.data))} yet, so no audit tells it"
    _note(settings, "keys restored")
    return "The audit tells it"


def _passphrase(file: Path | None, confirmed: bool) -> str:
    from fhir_server.storage.keybackup import LEAST

    given = _typed(confirmed) if file is None else read_secret(file, "passphrase")
    if len(given) < LEAST:
        raise Problem(f"The passphrase protects every key: give at least {LEAST} characters")
    return str(given)


def _typed(confirmed: bool) -> str:
    """What is typed in a terminal. Problem where there is none, or nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GetPassWarning)
        try:
            return str(
                typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirmed, err=True)
            )
        except typer.Abort:
            text = "No passphrase was typed: name a file that has it with --passphrase-file"
            raise Problem(text) from None


def _settings(data: Path | None, keys: Path | None) -> Settings:
    from salus.operator.running import needs_data

    settings = read_settings(data=data, keys=keys)
    needs_data(settings)
    return settings


def _note(settings: Settings, what: requests.KeysHappening) -> None:
    """Problem where the audit cannot be told; nothing happens then."""
    _asked(settings, requests.NoteKeys(what), requests.Done)


def _asked(settings: Settings, asked: requests.Asked, answer: type[T]) -> T:
    from salus.operator.ask import ask

    return ask(settings, asked, answer)
