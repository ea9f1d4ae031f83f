"""Current versions in memory, opened and unpacked, for those who read one again.

What is kept is what the newest commit left: a version that is being written is dropped and not
kept again before its commit is over (https://www.sqlite.org/isolation.html).
"""

from __future__ import annotations

from typing import TypeAlias

from fhir_server.storage.sealed import Keys
from fhir_server.storage.store import Version

Key: TypeAlias = tuple[str, str]  # type and id
MOST = 16 * 1024 * 1024  # bytes of bodies in each of two generations
_EACH = 600  # bytes of a version besides its body


class Current:
    """Versions by type and id, each with the id of the key that it is sealed under: one whose key
    is gone, or cannot be had now, is not shown from memory either. `moved` grows when a commit of
    versions begins and when it ends."""

    __slots__ = ("_being_written", "_held", "_keys", "_older", "_recent", "moved")

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._recent: dict[Key, tuple[Version, bytes]] = {}
        self._older: dict[Key, tuple[Version, bytes]] = {}
        self._held = 0
        self._being_written: set[Key] = set()
        self.moved = 0

    def get(self, key: Key) -> Version | None:
        """Erased, Unavailable."""
        found = self._recent.get(key)
        if found is None:
            found = self._older.pop(key, None)
            if found is None:
                return None
            self._keep(key, found)
        version, sealed_by = found
        self._keys.cipher(sealed_by)
        return version

    def add(self, version: Version, sealed_by: bytes, seen: int) -> None:
        """Keep what was read in a transaction that began when `moved` was `seen`."""
        key = version.type, version.id
        if seen == self.moved and key not in self._being_written:
            self._keep(key, (version, sealed_by))

    def written(self, key: Key) -> None:
        """A version is written that is not committed yet."""
        self._being_written.add(key)
        self._recent.pop(key, None)
        self._older.pop(key, None)

    def committing(self) -> None:
        self.moved += 1

    def settled(self) -> None:
        """What was written is committed, or undone."""
        self.moved += 1
        self._being_written.clear()

    def clear(self) -> None:
        """Something is erased."""
        self.moved += 1
        self._recent, self._older, self._held = {}, {}, 0

    def _keep(self, key: Key, found: tuple[Version, bytes]) -> None:
        if self._held >= MOST:
            self._older, self._recent, self._held = self._recent, {}, 0
        self._recent[key] = found
        self._held += _EACH + len(found[0].body)
