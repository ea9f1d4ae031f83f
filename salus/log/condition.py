"""How the log of a data folder is: how far it is signed, and what of that is wrong, for doctor.

https://c2sp.org/tlog-checkpoint
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import httpx

from fhir_server.audit.publishing import NEWEST, SPACE, Newest, stamped
from fhir_server.log.note import WITNESS
from fhir_server.times import instant
from salus.folders import Finding
from salus.log.own import last_signed, name_of
from salus.log.publishing import TROUBLE
from salus.log.verifying import current, opened
from salus.operator.running import address, holder
from salus.program import called
from salus.settings import Settings

LATE_SECONDS = 300  # after which what came should have been signed
SECONDS = 1.0  # for the server to answer
_TROUBLE = re.compile(rf'^{TROUBLE}\{{kind="(\w+)",name="([^"]*)"\}} (\S+)$', re.MULTILINE)
_WRONG = {
    "witness": "The witness {} does not cosign",
    "place": "Checkpoints cannot be published",
    "signer": "The log is not signed",
    "log": "The log is not as it was signed",
    "store": "The log's state cannot be kept",
}
_REMEDY = "see why in the server's own log; who or what was away is asked again by itself"


def condition(settings: Settings) -> tuple[str, list[Finding]]:
    """In a sentence, and what is wrong. Problem, StoreError."""
    own = last_signed(settings.keys)
    with opened(settings) as (reading, vault):
        size, records = reading.size(), reading.kept(SPACE)
        name = name_of(records, vault)
    kept = next((each for each in records if each.key == NEWEST), None)
    if kept is None:
        return f"{size:,} leaves, not signed yet", []
    newest, keys = stamped(kept.value), current(settings)
    state = newest.checkpoint
    others = [each for each in newest.note.signatures if each.name != state.origin]
    seen = f", cosigned by {', '.join(each.name for each in others)}" if others else ""
    told = f"{size:,} leaves, {state.size:,} signed at {instant(newest.at)}{seen}"
    key = f"; key {keys[0]}" if keys and keys[0].type != WITNESS else ""
    at_least = max(state.size, own.size if own and own.origin == name else 0)
    wrong = [*_wrong(settings, size, at_least, newest), *_troubles(settings)]
    return f"{told}{key}", wrong


def _troubles(settings: Settings) -> Iterator[Finding]:
    """What the running server says of signer, witnesses and places for checkpoints."""
    base = address(settings.data)
    if base is None:
        return
    try:
        told = httpx.get(f"{base}/metrics", timeout=SECONDS, trust_env=False, verify=False).text
    except httpx.HTTPError:
        return
    for kind, name, since in _TROUBLE.findall(told):
        wrong = _WRONG.get(kind, "Something is wrong with the log").format(name)
        yield Finding(f"{wrong} since {instant(round(float(since) * 1_000_000))}", _REMEDY)


def _wrong(settings: Settings, size: int, at_least: int, newest: Newest) -> Iterator[Finding]:
    if size < at_least:
        yield Finding(
            f"The log has {size:,} leaves, and {at_least:,} were signed: it was cut, or the data "
            "folder is an older one",
            f"`{called()} audit verify` says what still stands; restore the newest backup",
        )
    late = time.time() - newest.at / 1_000_000 > LATE_SECONDS
    if size > newest.checkpoint.size and late and holder(settings.data):
        yield Finding(
            f"The log was last signed at {instant(newest.at)}, and "
            f"{size - newest.checkpoint.size:,} leaves came since",
            "see why in the server's own log: the signer may be away, or refuse",
        )
