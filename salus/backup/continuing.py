"""The log of a restored folder: held against what was signed of it, and given another name where
more was signed than the backup has.

https://c2sp.org/tlog-checkpoint: a log signs no state that is inconsistent with an earlier one.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from urllib.parse import urlsplit

from fhir_server.audit.proven import Signed, trusted
from fhir_server.audit.publishing import HOURLY, NEWEST, SPACE, VERIFIER, stamped
from fhir_server.log import merkle
from fhir_server.log.checkpoint import Checkpoint
from fhir_server.log.note import Malformed, Untrusted, Verifier
from fhir_server.storage.sqlite.proving import Reading
from fhir_server.storage.store import Store, Transaction
from fhir_server.storage.vault import Vault
from salus.backup.manifest import Manifest
from salus.log.own import KEY, begin_anew, last_signed, name_of
from salus.settings import Settings

_MANIFEST = "the backup"
_AFTER = "\x7f"


def signed(reading: Reading, about: Manifest) -> tuple[list[Signed], list[str]]:
    """The states that the log signed as the store keeps them, with the one that was backed up; and
    a sentence for each that no key of the log signed."""
    kept = {each.key: each.value for each in reading.kept(SPACE)}
    logs = [Verifier.parse(value.decode()) for key, value in kept.items() if _named(key, VERIFIER)]
    found, wrong = list(_backed_up(about)), []
    for key, value in kept.items():
        if key == NEWEST or _named(key, HOURLY):
            state = stamped(value)
            try:
                found.append(trusted(state.note, f"kept as {key}", state.at, logs, ()))
            except (Malformed, Untrusted) as error:
                wrong.append(f"The checkpoint that is kept as {key} is false: {error}")
    return found, wrong


def _named(key: str, prefix: str) -> bool:
    return key.startswith(prefix)


def _backed_up(about: Manifest) -> Iterator[Signed]:
    if about.leaves:
        state = Checkpoint("", about.leaves, base64.b64decode(about.root))
        yield Signed(state, _MANIFEST, about.made * 1_000_000)


async def continued(store: Store, settings: Settings, vault: Vault) -> str | None:
    """Give the log of a store another name and key when its own key may have signed what is not in
    it, for that key signs no older state; the new name."""
    if settings.log_signer or await _begins_with_signed(store, settings, vault):
        return None
    return await begin_anew(store, vault, urlsplit(settings.base_url).netloc)


async def _begins_with_signed(store: Store, settings: Settings, vault: Vault) -> bool:
    """Whether the log begins with what its key signed last, which the key folder remembers."""
    state = last_signed(settings.keys)

    async def work(tx: Transaction) -> bool:
        kept = await tx.range(SPACE, "", _AFTER)
        if not any(each.key == KEY for each in kept):
            return True  # it was never signed here
        if state is None or state.origin != name_of(kept, vault) or await tx.size() < state.size:
            return False
        return await merkle.root(state.size, tx.tile) == state.root

    return await store.transaction(work)
