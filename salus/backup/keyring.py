"""The keys of the settings, opened for a command.

https://csrc.nist.gov/pubs/sp/800/57/pt1/r5/final
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from fhir_server.storage.keydb import KEYS_DB
from fhir_server.storage.keys import KeyProvider
from fhir_server.storage.vault import Vault
from salus.keyring import key_provider
from salus.problem import Problem
from salus.program import called
from salus.settings import Settings


class Keyring(NamedTuple):
    provider: KeyProvider
    vault: Vault


@contextmanager
def keyring(settings: Settings) -> Iterator[Keyring]:
    """The keys that are there: none are made. Problem, StoreError."""
    if not (settings.keys / KEYS_DB).is_file():
        raise Problem(
            f"There are no keys in {settings.keys}: name their folder with --keys or SALUS_KEYS, "
            f"or restore a key backup with `{called()} keys restore`"
        )
    provider = key_provider(settings)
    vault = Vault.open(settings.keys, provider)
    try:
        yield Keyring(provider, vault)
    finally:
        vault.close()
