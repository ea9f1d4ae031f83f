"""Current versions in memory, opened and unpacked, for those who read or find one again.

What is kept is what the newest commit left: of what is being written the version before is
dropped, and the new one kept once its commit is over (https://www.sqlite.org/isolation.html).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from fhir_server.storage.sealed import Keys
from fhir_server.storage.store import Version

Key: TypeAlias = tuple[str, str]  # type and id
Held: TypeAlias = tuple[Version, bytes]  # with the id of the key that it is sealed under
MOST = 32 * 1024 * 1024  # bytes of bodies in each of two generations
LARGE = 512 * 1024  # bytes of a body that is not kept: it would push out hundreds
PAGE = 100  # versions of a page; who reads larger ones goes through everything, and does it once
_EACH = 700  # bytes of a version besides its body


class Current:
    """Versions by type and id, and by sequence, each with the id of the key that it is sealed
    under: one whose key is gone, or cannot be had now, is not shown from memory either. `moved`
    grows when a commit of versions begins and when it ends."""

    __slots__ = (
        "_being_written",
        "_held",
        "_keys",
        "_older",
        "_older_found",
        "_recent",
        "_recent_found",
        "moved",
    )

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._recent: dict[Key, Held] = {}
        self._older: dict[Key, Held] = {}
        self._recent_found: dict[int, Held] = {}  # the same by sequence
        self._older_found: dict[int, Held] = {}
        self._held = 0
        self._being_written: dict[Key, Held | None] = {}
        self.moved = 0

    def get(self, key: Key) -> Version | None:
        """Erased, Unavailable."""
        found = self._recent.get(key)
        if found is None:
            found = self._older.get(key)
            if found is None:
                return None
            self._keep(key, found)
        version, sealed_by = found
        self._keys.cipher(sealed_by)
        return version

    def numbered(
        self, sequences: Iterable[int], again: list[Held]
    ) -> tuple[dict[int, Version], list[int]]:
        """The versions with these sequences, and the places of those that are not here; what is to
        be kept anew is added to `again`. A version with a sequence is the same in every state of
        the store, so any reader may ask, in any thread: nothing is changed. Erased, Unavailable."""
        recent, older = self._recent_found, self._older_found
        known: dict[int, Version] = {}
        missing: list[int] = []
        asked: bytes | None = None
        for place, sequence in enumerate(sequences):
            held = recent.get(sequence)
            if held is None:
                held = older.get(sequence)
                if held is None:
                    missing.append(place)
                    continue
                again.append(held)
            version, sealed_by = held
            if sealed_by != asked:  # the versions of a page are often one owner's
                self._keys.cipher(sealed_by)
                asked = sealed_by
            known[sequence] = version
        return known, missing

    def add(self, version: Version, sealed_by: bytes, seen: int) -> None:
        """Keep what was read in a transaction that began when `moved` was `seen`."""
        key = version.type, version.id
        if seen == self.moved and key not in self._being_written and len(version.body) <= LARGE:
            self._keep(key, (version, sealed_by))

    def add_page(self, found: Sequence[Held], seen: int) -> None:
        """Keep what a search has read, as `add` does, unless it is a lot."""
        if len(found) <= PAGE:
            for version, sealed_by in found:
                self.add(version, sealed_by, seen)

    def written(self, key: Key, held: Held | None = None) -> None:
        """A version is written that is not committed yet; None: what it will be is not known."""
        self._being_written[key] = held
        for named, found in (
            (self._recent, self._recent_found),
            (self._older, self._older_found),
        ):
            before = named.pop(key, None)
            if before is not None:
                found.pop(before[0].sequence, None)

    def undone(self) -> None:
        """Something that was written may not be committed."""
        self._being_written = dict.fromkeys(self._being_written)

    def committing(self) -> None:
        self.moved += 1

    def settled(self, committed: bool = False) -> None:
        """What was written is committed, or undone. Of many versions, which are loaded rather than
        worked with, none is kept."""
        self.moved += 1
        written, self._being_written = self._being_written, {}
        if committed and len(written) <= PAGE:
            for key, held in written.items():
                if held is not None and len(held[0].body) <= LARGE:
                    self._keep(key, held)

    def clear(self) -> None:
        """Something is erased."""
        self.moved += 1
        self._recent, self._older, self._held = {}, {}, 0
        self._recent_found, self._older_found = {}, {}
        self.undone()

    def _keep(self, key: Key, held: Held) -> None:
        if self._held >= MOST:
            self._older, self._recent, self._held = self._recent, {}, 0
            self._older_found, self._recent_found = self._recent_found, {}
        version = held[0]
        self._recent[key] = self._recent_found[version.sequence] = held
        self._held += _EACH + len(version.body)
