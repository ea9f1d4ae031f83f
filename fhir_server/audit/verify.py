"""Verification of a store: every record against its leaf, every leaf against the tiles, and these
against what was signed, kept by the server or elsewhere.

https://www.rfc-editor.org/rfc/rfc9162#section-2.1, https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from hashlib import sha256
from time import monotonic
from typing import TypeAlias

import apsw
import msgspec

from fhir_server.audit.notices import Buried
from fhir_server.audit.proven import Finding, Kind, Report, Signed
from fhir_server.audit.trees import Tiles
from fhir_server.audit.whose import OwnerOf, is_misplaced
from fhir_server.log.merkle import salted_leaf
from fhir_server.log.tombstone import Kind as Notices
from fhir_server.log.tombstone import Tombstone, parse
from fhir_server.storage.sqlite.proving import Reading, Recorded, said
from fhir_server.storage.store import EVENTS, Erased, Notice, StoreError
from fhir_server.times import instant

EACH = 2_000  # records between two words about how far one is
MOST = 10_000  # findings of records; what is beyond is not told one by one

_MONTHS = "audit/"  # begins the owner of a month's events
_PATIENTS = "Patient/"
_APART = b'"urn:salus:audit:sha-256"'  # names what an event has apart
_LABEL = b'"REDACTED"'
_REFERENCE = re.compile(rb'"reference":"([A-Z]\w+)/([A-Za-z0-9\-.]{1,64})')
# By which notices records go: events with their month, versions one by one.
_ENDS: dict[bool, frozenset[Notices]] = {
    True: frozenset({"expired"}),
    False: frozenset({"erased", "purged", "redacted"}),
}


Destroyed: TypeAlias = Collection[bytes] | Callable[[], Collection[bytes]] | None


class _Meta(msgspec.Struct):
    versionId: str | None = None
    lastUpdated: str | None = None


class _Told(msgspec.Struct):
    """What a body says about itself."""

    resourceType: str | None = None
    id: str | None = None
    meta: _Meta | None = None


_told = msgspec.json.Decoder(_Told).decode


def verify(
    reading: Reading,
    signed: Sequence[Signed] = (),
    destroyed: Destroyed = None,
    since: int = 0,
    progress: Callable[[int], None] = lambda done: None,
    owner_of: OwnerOf | None = None,
) -> Report:
    """Compare everything that a store has with its log, and that with what was signed. `destroyed`:
    the ids of data keys that are no more, where that is known, or what tells them at the end;
    records before the leaf `since` are left out. `owner_of` says whose a resource is, by its type.
    StoreError when the store cannot be read at all, Unavailable when its keys cannot be had now."""
    begun = monotonic()
    damaged = [Finding("page damaged", text) for text in reading.damaged_pages()]
    try:
        walk = _Verification(reading, signed, destroyed, since, progress, owner_of)
    except apsw.Error as error:  # not even the tiles can be read
        raise StoreError(said(error)) from error
    try:
        walk.run()
    except apsw.Error as error:
        if not damaged:
            walk.found("page damaged", said(error))
    findings = [*walk.findings, *damaged]
    findings.sort(key=lambda each: (each.leaf is None, each.leaf or 0))
    return Report(
        walk.tiles.size,
        since,
        walk.records,
        walk.noticed,
        walk.erased,
        tuple(findings),
        walk.stands,
        len(signed),
        monotonic() - begun,
        tuple(walk.buried.told),
        walk.stripped,
    )


class _Verification:
    """One walk through a store."""

    def __init__(
        self,
        reading: Reading,
        signed: Sequence[Signed],
        destroyed: Destroyed,
        since: int,
        progress: Callable[[int], None],
        owner_of: OwnerOf | None,
    ) -> None:
        self._reading, self._destroyed = reading, destroyed
        self._since, self._progress, self._owner_of = since, progress, owner_of
        self._signed = sorted(signed, key=lambda each: (each.checkpoint.size, each.at is not None))
        self.findings: list[Finding] = []
        most = max((each.checkpoint.size for each in signed), default=0)
        self.tiles = Tiles(reading, most)
        self.stands: Signed | None = None
        self.records = self.noticed = self.erased = self.stripped = 0
        self._seen = bytearray(
            self.tiles.size
        )  # of each leaf, whether a record or notice stands for it
        self.buried = Buried(self.tiles.size)
        self._sealers: dict[bytes, set[str]] = {}  # whose each data key is
        self._unlisted: set[bytes] = set()  # keys that were told
        self._ended: dict[bytes, int] = {}  # keys that are no more, and the notices that say so
        self._unexplained: list[Finding] = []  # of what was erased; perhaps by now
        self._differ: dict[int, tuple[bytes, str]] = {}  # hash and record that a tile contradicts
        self._last: dict[bool, Recorded | None] = {True: None, False: None}  # events, and others

    def found(self, kind: Kind, text: str, leaf: int | None = None, record: str = "") -> None:
        if len(self.findings) < MOST:
            self.findings.append(Finding(kind, text, leaf, record))

    def run(self) -> None:
        self._read_notices()
        self._read_sealers()
        for record in self._reading.records(self._since):
            self._record(record)
            self.records += 1
            if self.records % EACH == 0:
                self._progress(self.records)
        self._progress(self.records)
        self._find_missing()
        self._explain()
        self._hold_destroyed()
        self._hold_together()
        self._judge()

    # --- notices ---------------------------------------------------------------------------------

    def _read_notices(self) -> None:
        for notice in self._reading.notices():
            self.noticed += 1
            if not self._stands_alone(notice.leaf, f"the notice at leaf {notice.leaf}"):
                continue
            hash = salted_leaf(b"", notice.content)
            if hash != self.tiles.leaf(notice.leaf):
                self._differ[notice.leaf] = (hash, "a notice of the log")
            elif (tombstone := parse(notice.content)) is not None:
                self._bury(notice, tombstone)

    def _bury(self, notice: Notice, tombstone: Tombstone) -> None:
        """Take a tombstone at its word, which is the log's."""
        if not self.buried.take(notice.leaf, tombstone):
            text = "A notice names leaves that are not before it, or not as they became"
            self.found("altered", text, notice.leaf, "a notice of the log")
            return
        self._ended |= dict.fromkeys(tombstone.keys, notice.leaf)

    # --- keys ------------------------------------------------------------------------------------

    def _read_sealers(self) -> None:
        for owner, id in self._reading.sealers():
            self._sealers.setdefault(id, set()).add(owner)
        for id, owners in self._sealers.items():
            if len(owners) > 1:
                text = f"The data key {id.hex()} is listed under {len(owners)} owners"
                self.found("key not listed", text)
        for space, owner, id in self._reading.keepers():
            if owner not in self._sealers.get(id, ()):
                self._tell_unlisted(id, None, f"a record that is kept ({space})")

    def _hold_destroyed(self) -> None:
        """Keys are destroyed after the notice that says so: they are asked for last."""
        if self._destroyed is None:
            return
        destroyed = self._destroyed() if callable(self._destroyed) else self._destroyed
        for key, leaf in self._ended.items():
            if key not in destroyed:
                text = (
                    f"The notice at leaf {leaf} says that the data key {key.hex()} was destroyed, "
                    "but the keys do not say so: the erasure is not finished"
                )
                self.found("still there", text, leaf, "a notice of the log")

    def _hold_keys(self, record: Recorded, leaf: int) -> None:
        """The keys of what can be read are those of its owner, so that they end with it."""
        owners = self._sealers.get(record.key, ())
        if record.type != EVENTS:
            listed = (record.owner or "") in owners
        else:
            listed = any(each.startswith(_MONTHS) for each in owners)
        if not listed:
            self._tell_unlisted(record.key, leaf, record.name)
        if record.apart is not None:
            owners = self._sealers.get(record.apart_key, ())
            if not any(each == "" or each.startswith(_PATIENTS) for each in owners):
                self._tell_unlisted(record.apart_key, leaf, record.name)

    def _tell_unlisted(self, id: bytes, leaf: int | None, name: str) -> None:
        if id not in self._unlisted:
            self._unlisted.add(id)
            text = f"Its data key {id.hex()} is not listed as its owner's, and would outlive it"
            self.found("key not listed", text, leaf, name)

    # --- records ---------------------------------------------------------------------------------

    def _record(self, record: Recorded) -> None:
        leaf = record.leaf
        if not self._stands_alone(leaf, record.name) or leaf is None:
            return
        self._order(record, leaf)
        kind = self.buried.kind(leaf)
        if kind is not None and kind not in _ENDS[record.type == EVENTS]:
            text = f"A notice says that it was {kind}, which is not how such a record ends"
            self.found("altered", text, leaf, record.name)
        gone = self.buried.is_gone(leaf)
        if record.unreadable is None:
            self._compare(record, leaf)
        elif isinstance(record.unreadable, Erased) and not gone:
            text = "Its key was destroyed, and no notice of the log says why"
            self._unexplained.append(Finding("erased without a notice", text, leaf, record.name))
        elif not gone:
            self.found("cannot be opened", f"{record.unreadable}", leaf, record.name)

    def _compare(self, record: Recorded, leaf: int) -> None:
        """A record that can be read, with its leaf and with what its row says."""
        hash = salted_leaf(record.salt, record.content)
        redacted = self.buried.rewritten.get(leaf)
        if redacted is not None and (hash != redacted or _LABEL not in record.content):
            text = "It is not what it became when something was removed from it"
            self.found("altered", text, leaf, record.name)
        elif self.buried.is_gone(leaf):
            text = f"A notice says that it was {self.buried.kind(leaf)}, but it can be read"
            self.found("still there", text, leaf, record.name)
        elif redacted is None and hash != self.tiles.leaf(leaf):
            self._differ[leaf] = (hash, record.name)
        elif contradiction := _contradicts(record):
            self.found("altered", contradiction, leaf, record.name)
        else:
            self._hold_keys(record, leaf)
            self._hold_apart(record, leaf)
            self._hold_owner(record, leaf, redacted is not None)

    def _hold_owner(self, record: Recorded, leaf: int, redacted: bool) -> None:
        if self._owner_of is None or record.type == EVENTS or record.deleted:
            return
        if is_misplaced(record, redacted, self._owner_of):
            text = "It stands under another patient, or none, than the one whose data it is"
            self.found("misplaced", text, leaf, record.name)

    def _hold_apart(self, record: Recorded, leaf: int) -> None:
        """What an event has apart goes with an erasure: of something that it names, or of whom
        somebody asked for, which only the event's age tells."""
        if record.apart is not None or record.type != EVENTS or _APART not in record.content:
            return
        self.stripped += 1
        if leaf > self.buried.erased and not self._names_gone(record.content, leaf):
            text = "What was asked for is gone from it, and no erasure explains that"
            self._unexplained.append(Finding("altered", text, leaf, record.name))

    def _names_gone(self, content: bytes, leaf: int) -> bool:
        """Whether an event names something that is no more, or was not yet there as it is now."""
        for type, id in _REFERENCE.findall(content):
            first = self._reading.first_leaf(type.decode(), id.decode())
            if first is None or first > leaf:
                return True
        return False

    def _order(self, record: Recorded, leaf: int) -> None:
        """Versions and events each stand in the order of the log."""
        events = record.type == EVENTS
        last = self._last[events]
        if last is None:
            self._last[events] = record
            return
        before = -1 if last.leaf is None else last.leaf
        if leaf > before and record.order > last.order:
            if leaf > before + 1:
                (self._hold_events if events else self._hold_versions)(last, record, before, leaf)
            self._last[events] = record
            return
        text = f"It stands for leaf {leaf}, but in its table after what stands for leaf {before}"
        self.found("reordered", text, leaf, record.name)
        order = max(last.order, record.order)
        self._last[events] = last._replace(leaf=max(leaf, before), order=order)

    def _hold_events(self, last: Recorded, record: Recorded, before: int, leaf: int) -> None:
        """Between two events, those are gone whose month has ended. What is missing without a
        notice, or cannot be read, is told by itself, and may be what stood there."""
        count, gap = self.buried.count, record.order - last.order - 1
        expired = count(before, leaf, "expired")
        others = count(before, leaf, "erased") + count(before, leaf, "purged")
        told = last.unreadable or record.unreadable or self._is_lost(before, leaf)
        if gap > expired and others and not told:
            kind: Notices = "erased" if count(before, leaf, "erased") else "purged"
            text = (
                f"An event is gone between the leaves {before} and {leaf}, and notices say only "
                f"that a record was {kind}: events are not"
            )
            self.found("deleted", text, self.buried.first(before, leaf, kind))
        elif expired and self._month(last) & self._month(record):
            text = "An event is gone whose month has not ended: others of it are there"
            self.found("deleted", text, self.buried.first(before, leaf, "expired"))

    def _is_lost(self, before: int, leaf: int) -> bool:
        """Whether, between two leaves, one has neither a record nor a notice."""
        between = range(before + 1, leaf)
        return any(not self._seen[each] and not self.buried.is_gone(each) for each in between)

    def _hold_versions(self, last: Recorded, record: Recorded, before: int, leaf: int) -> None:
        """Between two versions, as many are gone as there were."""
        count, gap = self.buried.count, record.order - last.order - 1
        others = count(before, leaf, "erased") + count(before, leaf, "purged")
        if gap > others and count(before, leaf, "expired"):
            text = "A version is gone, and a notice says that it expired: versions do not"
            self.found("deleted", text, self.buried.first(before, leaf, "expired"))
        elif others > gap:
            kind: Notices = "erased" if count(before, leaf, "erased") else "purged"
            text = f"A notice says that a version was {kind} where there was none"
            self.found("deleted", text, self.buried.first(before, leaf, kind))

    def _month(self, record: Recorded) -> set[str]:
        return {each for each in self._sealers.get(record.key, ()) if each.startswith(_MONTHS)}

    def _stands_alone(self, leaf: int | None, name: str) -> bool:
        """Whether a leaf is there, for which nothing else stands."""
        if leaf is None or not 0 <= leaf < self.tiles.size:
            said = "no leaf" if leaf is None else f"leaf {leaf}, which the log does not have"
            self.found("inserted", f"It stands for {said}: it was never logged", leaf, name)
            return False
        if self._seen[leaf]:
            text = f"It stands for leaf {leaf}, for which another record stands"
            self.found("inserted", text, leaf, name)
            return False
        self._seen[leaf] = 1
        return True

    def _find_missing(self) -> None:
        """Leaves for which nothing stands; of those that were cut off, the first is enough."""
        at = self._since
        stored = self.tiles.stored
        while (at := self._seen.find(0, at)) != -1:
            if self.buried.is_gone(at):
                self.erased += 1
            elif at >= stored:
                text = f"The log had {self.tiles.size} leaves when it was signed, and has {stored}"
                self.found("truncated", text, at)
                return
            else:
                self.found("deleted", f"No record stands for leaf {at}, and no notice says why", at)
            at += 1

    def _explain(self) -> None:
        """Of what is gone without a notice in this state of the store, tell what has none by now:
        keys are destroyed while one looks."""
        if not self._unexplained:
            return
        try:
            with closing(self._reading.again()) as now:
                since = _Verification(now, (), None, 0, lambda done: None, None)
                since._read_notices()
        except StoreError:
            since = self
        for each in self._unexplained:
            leaf = each.leaf or 0
            said = since.buried
            explained = leaf < said.erased if each.kind == "altered" else said.is_gone(leaf)
            if not explained:
                self.found(each.kind, each.text, each.leaf, each.record)

    def _hold_together(self) -> None:
        """What each record for itself does not tell."""
        for leaf, name, later in self._reading.superseded():
            text = f"It stands as the current version, but version {later} is there too"
            self.found("reordered", text, leaf, name)
        for leaf, name in self._reading.handed_over():
            text = "It stands under another patient, or none, than what was deleted"
            self.found("misplaced", text, leaf, name)
        for text in self._reading.foreign():
            self.found("schema altered", text)

    # --- judgement -------------------------------------------------------------------------------

    def _judge(self) -> None:
        """Who is right where records and tiles differ: what was signed, else the tiles above."""
        tiles = self.tiles
        tiles.mend({leaf: hash for leaf, (hash, _) in self._differ.items()}, self._signed)
        for leaf, (hash, name) in sorted(self._differ.items()):
            if tiles.leaf(leaf) == hash:
                text = (
                    "The tile has another hash than the record, and the record is what was signed"
                )
                self.found("tile damaged", text, leaf, name)
            else:
                self.found(*self._differing(hash), leaf, name)
        for level, number, first in tiles.damaged():
            text = f"Tile {number} of level {level} does not agree with the tiles beneath it"
            self.found("tile damaged", text, first if 0 <= first < tiles.size else None)
        for text in tiles.strays:
            self.found("tile damaged", text)
        self._compare_signed()

    def _differing(self, hash: bytes) -> tuple[Kind, str]:
        """How a record is told whose leaf is another."""
        where = self.tiles.find(hash)
        if where is None:
            return "altered", "It is not what was logged"
        return "reordered", f"It stands where another should: it was logged as leaf {where}"

    def _compare_signed(self) -> None:
        """The newest signed state that the log begins with; the first that it does not."""
        good = 0
        roots = self.tiles.roots([each.checkpoint.size for each in self._signed])
        for each, root in zip(self._signed, roots, strict=True):
            state = each.checkpoint
            if root == state.root:
                self.stands, good = each, state.size
                continue
            when = f" at {instant(each.at)}" if each.at else ""
            text = (
                f"The log of {state.size} leaves that was signed{when} ({each.source}) is another: "
                f"from leaf {good} on something differs"
            )
            explained = any(f.leaf is not None and f.leaf < state.size for f in self.findings)
            self.found("rewritten", text, None if explained else good)
            return


def _contradicts(record: Recorded) -> str | None:
    """What a row says of a genuine record that this does not say itself."""
    if record.apart is not None:
        named = b64encode(sha256(record.apart).digest())
        if named not in record.content:
            return "What is kept apart of it is not what it names"
    try:
        told = _told(record.content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # a deletion, whose content is made of the row
    if told.resourceType not in (None, record.type) or told.id not in (None, record.id):
        return "Its row gives it another name than it has"
    meta = told.meta or _Meta()
    if meta.versionId not in (None, str(record.number)):
        return "Its row gives it another version than it has"
    if meta.lastUpdated is not None and meta.lastUpdated != _instant(record.updated):
        return "Its row gives it another time than it has"
    return None


def _instant(at: int) -> str:
    try:
        return instant(at)
    except (OverflowError, ValueError):
        return "no time"
