"""Verification of a store: every record against its leaf, every leaf against the tiles, and these
against what was signed, kept by the server or elsewhere.

https://www.rfc-editor.org/rfc/rfc9162#section-2.1, https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Collection, Sequence
from hashlib import sha256
from time import monotonic

import apsw
import msgspec

from fhir_server.audit.proven import Finding, Kind, Report, Signed
from fhir_server.audit.trees import Tiles
from fhir_server.log.merkle import salted_leaf
from fhir_server.log.tombstone import Tombstone, parse
from fhir_server.storage.sqlite.proving import Reading, Recorded, said
from fhir_server.storage.store import EVENTS, Erased, Notice, StoreError
from fhir_server.times import instant

EACH = 2_000  # records between two words about how far one is
MOST = 10_000  # findings of records; what is beyond is not told one by one


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
    destroyed: Collection[bytes] | None = None,
    since: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Report:
    """Compare everything that a store has with its log, and that with what was signed. `destroyed`:
    the ids of data keys that are no more, where that is known; records before the leaf `since` are
    left out. StoreError when the store cannot be read at all, Unavailable when its keys cannot be
    had now."""
    begun = monotonic()
    damaged = [Finding("page damaged", text) for text in reading.damaged_pages()]
    try:
        walk = _Verification(reading, signed, destroyed, since, progress)
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
    )


class _Verification:
    """One walk through a store."""

    def __init__(
        self,
        reading: Reading,
        signed: Sequence[Signed],
        destroyed: Collection[bytes] | None,
        since: int,
        progress: Callable[[int], None],
    ) -> None:
        self._reading, self._destroyed = reading, destroyed
        self._since, self._progress = since, progress
        self._signed = sorted(signed, key=lambda each: (each.checkpoint.size, each.at is not None))
        self.findings: list[Finding] = []
        most = max((each.checkpoint.size for each in signed), default=0)
        self.tiles = Tiles(reading, most)
        self.stands: Signed | None = None
        self.records = self.noticed = self.erased = 0
        self._seen = bytearray(
            self.tiles.size
        )  # of each leaf, whether a record or notice stands for it
        self._gone: dict[int, Tombstone] = {}
        self._rewritten: dict[int, bytes] = {}  # leaf hashes of what was redacted, as they are now
        self._differ: dict[int, tuple[bytes, str]] = {}  # hash and record that a tile contradicts
        self._last = {True: (-1, -1), False: (-1, -1)}  # leaf and order, of events and of others

    def found(self, kind: Kind, text: str, leaf: int | None = None, record: str = "") -> None:
        if len(self.findings) < MOST:
            self.findings.append(Finding(kind, text, leaf, record))

    def run(self) -> None:
        self._read_notices()
        for record in self._reading.records(self._since):
            self._record(record)
            self.records += 1
            if self.records % EACH == 0:
                self._progress(self.records)
        self._progress(self.records)
        self._find_missing()
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
        if any(not 0 <= first <= last < notice.leaf for first, last in tombstone.leaves):
            text = "A notice names leaves as erased that are not before it"
            self.found("altered", text, notice.leaf, "a notice of the log")
            return
        for key in tombstone.keys:
            if self._destroyed is not None and key not in self._destroyed:
                text = (
                    f"The notice at leaf {notice.leaf} says that the data key {key.hex()} was "
                    "destroyed, but the keys do not say so: the erasure is not finished"
                )
                self.found("still there", text, notice.leaf, "a notice of the log")
        for first, last in tombstone.leaves:
            for leaf in range(first, last + 1):
                self._rewritten.pop(leaf, None)  # the newest word counts
                self._gone[leaf] = tombstone
        for leaf, hash in tombstone.now.items():
            self._gone.pop(leaf, None)
            self._rewritten[leaf] = hash

    # --- records ---------------------------------------------------------------------------------

    def _record(self, record: Recorded) -> None:
        leaf = record.leaf
        if not self._stands_alone(leaf, record.name) or leaf is None:
            return
        self._order(record, leaf)
        if isinstance(record.unreadable, Erased) and leaf not in self._gone:
            text = "Its key was destroyed, and no notice of the log says why"
            self.found("erased without a notice", text, leaf, record.name)
        elif record.unreadable is not None and leaf not in self._gone:
            self.found("cannot be opened", f"{record.unreadable}", leaf, record.name)
        elif record.unreadable is None:
            self._compare(record, leaf)

    def _compare(self, record: Recorded, leaf: int) -> None:
        """A record that can be read, with its leaf and with what its row says."""
        hash = salted_leaf(record.salt, record.content)
        redacted = self._rewritten.get(leaf)
        if redacted is not None:
            if hash != redacted:
                text = "It is not what it became when something was removed from it"
                self.found("altered", text, leaf, record.name)
            return
        if leaf in self._gone:
            text = f"A notice says that it was {self._gone[leaf].kind}, but it can be read"
            self.found("still there", text, leaf, record.name)
        elif hash != self.tiles.leaf(leaf):
            self._differ[leaf] = (hash, record.name)
        elif contradiction := _contradicts(record):
            self.found("altered", contradiction, leaf, record.name)

    def _order(self, record: Recorded, leaf: int) -> None:
        """Versions and events each stand in the order of the log."""
        events = record.type == EVENTS
        last, order = self._last[events]
        if leaf <= last or record.order <= order:
            text = f"It stands for leaf {leaf}, but in its table after what stands for leaf {last}"
            self.found("reordered", text, leaf, record.name)
        self._last[events] = (max(leaf, last), max(order, record.order))

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
            if at in self._gone or at in self._rewritten:
                self.erased += 1
            elif at >= stored:
                text = f"The log had {self.tiles.size} leaves when it was signed, and has {stored}"
                self.found("truncated", text, at)
                return
            else:
                self.found("deleted", f"No record stands for leaf {at}, and no notice says why", at)
            at += 1

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
