"""Verifying the log of a data folder, beside its server or without it, and saying what was found.

https://www.rfc-editor.org/rfc/rfc9162#section-2.1
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from conformance import definitions
from fhir_server import owners
from fhir_server.audit.notices import Told
from fhir_server.audit.proven import Finding, Report, Signed, trusted
from fhir_server.audit.publishing import HOURLY, NEWEST, SPACE, VERIFIER, stamped
from fhir_server.audit.verify import verify
from fhir_server.audit.whose import OwnerOf
from fhir_server.log import note as notes
from fhir_server.log.note import Malformed, Note, Untrusted, Verifier
from fhir_server.search.index import Index
from fhir_server.storage.keydb import KEYS_DB
from fhir_server.storage.keys import page_key
from fhir_server.storage.sqlite.proving import Reading
from fhir_server.storage.store import Kept, StoreError
from fhir_server.storage.vault import Vault
from fhir_server.times import instant
from salus.keyring import key_provider
from salus.log.checking import log_verifier, verifier
from salus.log.own import last_signed, name_of
from salus.operator.running import needs_data
from salus.problem import Problem
from salus.settings import Settings

_ALONE = (
    "All that this was held against lies with the data or its keys. Who has both can make it all "
    "anew: name what others have with --checkpoint, and the log's key with --log"
)

_KINDS = {"checkpoint false": "a checkpoint that does not hold"}


class Asked(NamedTuple):
    """What a verification is to hold the log against besides what the server keeps: files of
    checkpoints, the log's key and those of witnesses, who must have cosigned these files; and the
    first leaf whose record is to be looked at."""

    checkpoints: Sequence[Path] = ()
    log: str | None = None
    witnesses: Sequence[str] = ()
    since: int = 0


class Verified(NamedTuple):
    """What was found; whether nothing was compared that does not lie with the data; sentences about
    files of checkpoints."""

    report: Report
    alone: bool
    notes: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        return self.report.well


@contextmanager
def opened(settings: Settings) -> Iterator[tuple[Reading, Vault]]:
    """The store of the settings and its keys, read beside its server. Problem, StoreError."""
    needs_data(settings)
    if not (settings.keys / KEYS_DB).is_file():
        raise Problem(
            f"There are no keys in {settings.keys}: name their folder with --keys or SALUS_KEYS"
        )
    provider = key_provider(settings)
    with closing(Vault.open(settings.keys, provider)) as vault:
        pages = page_key(settings.data, provider)
        with closing(Reading(settings.data, pages, vault)) as reading:
            yield reading, vault


def verify_data(
    settings: Settings, asked: Asked, progress: Callable[[int, int], None] = lambda done, all: None
) -> Verified:
    """Verify the log of the data folder. `progress(done, all)` hears of records. Problem,
    StoreError."""
    own = last_signed(settings.keys)  # before the store: what is signed later is not in this state
    logs = [log_verifier(asked.log)] if asked.log else []
    witnesses = [verifier(each) for each in asked.witnesses]
    with opened(settings) as (reading, vault):
        kept = reading.kept(SPACE)
        logs = logs or verifiers(kept)
        found, false = _kept(kept, logs)
        if own is not None and own.origin == name_of(kept, vault):
            found.append(Signed(own.checkpoint, "what its key signed last"))
        remarks = list[str]()
        for file in asked.checkpoints:
            states, wrong, more = _of_file(file, logs, witnesses)
            found += states
            false += wrong
            remarks += more
        total = reading.count()
        report = verify(
            reading,
            found,
            lambda: {each.id for each in vault.destroyed()},
            asked.since,
            lambda done: progress(done, total),
            owner_of(settings),
        )
    findings = (*report.findings, *false)
    report = msgspec.structs.replace(report, findings=findings)
    return Verified(report, not asked.checkpoints, tuple(remarks))


def owner_of(settings: Settings) -> OwnerOf:
    """Whose a resource is, as the server that has these settings says."""
    index = Index(definitions.load(), settings.fhir_base, settings.zone)
    return lambda _, resource: owners.owner(resource, index.entries(resource), index)


def verifiers(kept: Sequence[Kept]) -> list[Verifier]:
    """The keys that the log was signed with, as the store has them. StoreError."""
    try:
        return [
            Verifier.parse(each.value.decode()) for each in kept if each.key.startswith(VERIFIER)
        ]
    except (Malformed, UnicodeDecodeError) as error:
        raise StoreError(f"A key of the log is damaged in the store: {error}") from None


def current(settings: Settings) -> list[Verifier]:
    """The keys that the log was signed with, the one of now first. Problem, StoreError."""
    with opened(settings) as (reading, vault):
        kept = reading.kept(SPACE)
        now = name_of(kept, vault)
        signed = next((stamped(each.value) for each in kept if each.key == NEWEST), None)
        last = signed.checkpoint.origin if signed else None
        own = last_signed(settings.keys)
        # A key of the store's own that signed before has given way to a signer elsewhere; one that
        # never did is that of a restored log, which is not signed anew yet.
        first = last if own is not None and own.origin == now else now or last
        return sorted(verifiers(kept), key=lambda each: each.name != first)


def _kept(kept: Sequence[Kept], logs: Sequence[Verifier]) -> tuple[list[Signed], list[Finding]]:
    """The states that the server keeps."""
    found, false = list[Signed](), list[Finding]()
    for each in kept:
        if each.key == NEWEST or each.key.startswith(HOURLY):
            state = stamped(each.value)
            _take(state.note, "kept by the server", state.at, logs, (), found, false)
    return found, false


def _of_file(
    file: Path, logs: Sequence[Verifier], witnesses: Sequence[Verifier]
) -> tuple[list[Signed], list[Finding], list[str]]:
    """The states in a file of notes with an empty line between them, what is wrong with it, and
    what is only worth a sentence: that some are not cosigned, where one is, since witnesses may be
    away. What is no note, as of a write that was cut short, is told. Problem where nothing else is
    there."""
    read, torn = _read(file)
    found, false, lone = list[Signed](), list[Finding](), list[Note]()
    for note in read:
        there = {(each.name, each.id) for each in note.signatures}
        if all((each.name, each.id) in there for each in witnesses):
            _take(note, str(file), None, logs, witnesses, found, false)
        else:
            lone.append(note)
    newest = max((each.checkpoint.size for each in found), default=None)
    known = {each.checkpoint.text for each in found}
    for note in lone:
        _take(note, str(file), None, logs, witnesses if newest is None else (), found, false)
    remarks = []
    if newest is not None and (others := {each.text for each in lone} - known):
        are = "1 checkpoint is" if len(others) == 1 else f"{len(others):,} checkpoints are"
        remarks.append(
            f"In {file} {are} not cosigned by those named; the newest that is has {newest:,}"
            " leaves."
        )
    if torn:
        text = f"Something in {file} is no checkpoint; it was passed over"
        false.append(Finding("checkpoint false", text))
    return found, false, remarks


def _read(file: Path) -> tuple[list[Note], int]:
    """The notes of a file, and how many parts of it are none. Problem."""
    read, torn, at = list[Note](), 0, 0
    parts = file.read_text(errors="replace").strip("\n").split("\n\n")
    while at < len(parts):
        try:
            text = "\n\n".join((*parts[at : at + 2], "")).strip("\n")
            read.append(notes.parse(f"{text}\n".encode()))
        except Malformed:
            at, torn = at + 1, torn + 1
        else:
            at += 2
    if not read:
        raise Problem(f"{file} holds no checkpoints: each is a text and lines of signature")
    return read, torn


def _take(
    note: Note,
    source: str,
    at: int | None,
    logs: Sequence[Verifier],
    witnesses: Sequence[Verifier],
    found: list[Signed],
    false: list[Finding],
) -> None:
    try:
        found.append(trusted(note, source, at, logs, witnesses))
    except (Malformed, Untrusted) as error:
        size = note.text.split("\n")[1:2]
        text = f"A checkpoint of {''.join(size)} leaves ({source}) is not to be trusted: {error}"
        false.append(Finding("checkpoint false", text))


# --- in words ------------------------------------------------------------------------------------


def sentences(verified: Verified) -> Iterator[str]:
    """What was found, without the findings themselves."""
    report = verified.report
    seconds = max(report.seconds, 0.001)
    yield (
        f"{report.size:,} leaves, {report.records:,} records and {report.notices:,} notices; of "
        f"{report.erased:,} leaves the record is gone, as notices say "
        f"({report.seconds:.1f} s, {report.records / seconds:,.0f} records a second)."
    )
    yield from noticed(report)
    if report.stripped:
        yield (
            f"Of {report.stripped:,} events what was asked for is gone, as erasures explain it; "
            "their number should be what you expect."
        )
    if report.since:
        yield f"Of the records before leaf {report.since:,} none was looked at."
    yield standing(report)
    yield from verified.notes
    if verified.alone:
        yield f"{_ALONE}."


def noticed(report: Report) -> Iterator[str]:
    """The notices that speak of leaves: those of one kind and basis together, since who has the
    keys can write any, and only people know whether there was a reason."""
    alike: dict[tuple[str, str], list[Told]] = {}
    for each in report.told:
        alike.setdefault((each.kind, each.basis), []).append(each)
    for (kind, basis), every in alike.items():
        leaves = sum(each.leaves for each in every)
        first, last = (_instant(at([each.at for each in every])) for at in (min, max))
        when = f"at {first}" if len(every) == 1 else f"from {first} to {last}"
        said = "1 leaf" if leaves == 1 else f"{leaves:,} leaves"
        notices = "notice" if len(every) == 1 else "notices"
        yield f"{len(every):,} {notices} {when}: {said} {kind}. Basis: {basis or 'none'}"


def _instant(at: int) -> str:
    try:
        return instant(at)
    except (OverflowError, ValueError):
        return "no time"


def standing(report: Report) -> str:
    """What still is as it was signed."""
    if report.stands is None or report.stands.checkpoint.size == 0:
        return "Nothing of it is proven: no state of it that was signed is known."
    state, at = report.stands.checkpoint, report.stands.at
    last = state.size - 1
    when = f" at {instant(at)}" if at else ""
    by = f", cosigned by {', '.join(report.stands.cosigned)}" if report.stands.cosigned else ""
    named = {each.leaf for each in report.findings if each.leaf is not None}
    but = f", but for the {len(named):,} named" if any(leaf <= last for leaf in named) else ""
    after = report.size - state.size
    rest = f" {after:,} came after it and are not signed yet." if after > 0 else ""
    return f"Leaves 0 to {last:,} stand as {state.origin or 'it was'} signed{when}{by}{but}.{rest}"


def described(finding: Finding) -> str:
    """A finding in a line."""
    what = finding.record or "the log"
    where = f" (leaf {finding.leaf:,})" if finding.leaf is not None else ""
    kind = _KINDS.get(finding.kind, finding.kind)
    return f"{what}{where}, {kind}: {finding.text}"


def as_json(verified: Verified) -> bytes:
    """For programs."""
    report = verified.report
    stands = report.stands
    first = report.first
    said = {
        "well": verified.well,
        "leaves": report.size,
        "since": report.since,
        "records": report.records,
        "notices": report.notices,
        "erased": report.erased,
        "stripped": report.stripped,
        "told": [
            {
                "leaf": each.leaf,
                "kind": each.kind,
                "leaves": each.leaves,
                "at": _instant(each.at),
                "basis": each.basis,
            }
            for each in report.told
        ],
        "seconds": round(report.seconds, 3),
        "compared": report.signed,
        "stands": stands
        and {
            "origin": stands.checkpoint.origin,
            "leaves": stands.checkpoint.size,
            "root": stands.checkpoint.root,
            "at": instant(stands.at) if stands.at else None,
            "source": stands.source,
            "cosigned": stands.cosigned,
        },
        "notes": verified.notes,
        "first": first,
        "findings": report.findings,
    }
    return msgspec.json.format(msgspec.json.encode(said))
