"""The keys of a server, as its settings choose them; and whether they may lie where they do.

https://www.law.cornell.edu/cfr/text/45/164.312 (a)(2)(iv)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from fhir_server.storage.keydb import BACKUP, KEYS_DB
from fhir_server.storage.keys import KeyProvider
from fhir_server.storage.keyservices.choice import Kind, provider
from fhir_server.storage.rotation import overview
from fhir_server.storage.store import StoreError
from fhir_server.storage.vault import Vault
from salus.folders import Finding
from salus.program import called
from salus.settings import Settings, SettingsError, is_loopback

OLD_DAYS = 365  # after which the key that wraps all others should be replaced
SAVED_DAYS = 7  # after which the keys should be backed up once more
_DAY = 86_400


def key_provider(settings: Settings, kind: Kind | None = None) -> KeyProvider:
    """What wraps this server's keys; or what the same settings say of another kind. StoreError
    where a setting is missing."""
    service = settings.key_service
    return provider(service if kind is None else replace(service, provider=kind), settings.keys)


def open_vault(settings: Settings) -> Vault:
    """The data keys of this server. StoreError where they do not open, Unavailable."""
    return Vault.open(
        settings.keys, key_provider(settings), cache_seconds=settings.key_cache_seconds
    )


def keys_allowed(settings: Settings) -> bool:
    """Whether the server starts only because the operator said --keys-on-this-machine, which
    belongs into the audit. SettingsError where the key file lies on a machine that serves others
    and nobody said so."""
    if settings.key_provider != "file" or is_loopback(settings.host):
        return False
    if not settings.keys_on_this_machine:
        raise SettingsError(
            f"beyond this machine ({settings.host}) whoever takes the machine has the data and the "
            "key that opens it: name a key service with SALUS_KEY_PROVIDER (pkcs11, vault or "
            "aws-kms), or say --keys-on-this-machine, which the audit tells at each start"
        )
    return True


def unopened(settings: Settings) -> StoreError | None:
    """Why the keys do not open, asked of the key service itself; None when they do."""
    if not (settings.keys / KEYS_DB).is_file():
        return None
    try:
        overview(settings.keys).prove(key_provider(settings))
    except StoreError as error:
        return error
    return None


def protection(settings: Settings) -> Iterator[tuple[str, str]]:
    """What wraps the keys that are there, and when they were last backed up, by name."""
    if not (settings.keys / KEYS_DB).is_file():
        return
    with suppress(StoreError):  # others say what is wrong
        yield "wrapped by", key_provider(settings).where
        at = overview(settings.keys).happened.get(BACKUP)
        yield (
            "key backup",
            f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC" if at else "none",
        )


def tighter(settings: Settings, now: float) -> Iterator[Finding]:
    """What could be better about keys that open; `now` in seconds since 1970. StoreError."""
    if settings.keys_on_this_machine and not is_loopback(settings.host):
        yield Finding(
            "Whoever takes this machine has the data and the key that opens it",
            "name a key service with SALUS_KEY_PROVIDER, and `salus keys rotate --from file`",
        )
    if not (settings.keys / KEYS_DB).is_file():
        return
    found = overview(settings.keys)
    yield from _unsaved(found.happened.get(BACKUP), now)
    days = int(now - found.renewed) // _DAY
    if days > OLD_DAYS:
        yield Finding(
            f"The key that wraps all others was last replaced {days} days ago",
            f"{called()} keys rotate, at any time",
        )


def _unsaved(at: int | None, now: float) -> Iterator[Finding]:
    """Keys of which there is no recent backup; `at` and `now` in seconds since 1970."""
    days = SAVED_DAYS + 1 if at is None else int(now - at) // _DAY
    if days > SAVED_DAYS:
        told = "No backup of the keys was ever made" if at is None else None
        yield Finding(
            told or f"The last backup of the keys is of {days} days ago",
            f"`{called()} keys backup FILE` each day, apart from the data's: without its keys the "
            "data is lost",
        )
