"""Who was erased stays so: nothing is written any more that is theirs, or is nobody's and names
them. So no queue, device or token brings back what was removed, and nobody who takes the id gets
to see who looked at whoever had it before.

https://gdpr-info.eu/art-17-gdpr/
"""

from __future__ import annotations

from collections.abc import Sequence

from conformance.outcome import FhirError
from fhir_server.storage.store import Entry, Transaction, Version

_PATIENT = "Patient"
_TEXT = "It is about a patient who was erased, of whom nothing is written any more"


async def require_living(tx: Transaction, version: Version, entries: Sequence[Entry]) -> None:
    """FhirError 410 for what is about somebody who was erased."""
    owners = [version.owner] if version.owner is not None else _named(entries)
    if owners and await tx.erased(owners):
        raise FhirError("deleted", _TEXT)


def _named(entries: Sequence[Entry]) -> list[str]:
    """The patients whom what is nobody's refers to."""
    return [
        f"{_PATIENT}/{each.code}"
        for each in entries
        if each.shape == "link" and each.system == _PATIENT
    ]
