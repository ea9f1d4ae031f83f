"""Profiles by their canonical, compiled when they are first asked for.

https://hl7.org/fhir/R4/references.html#canonical
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from conformance.definitions import Definitions
from conformance.patience import look
from conformance.profiles.deltas import Deltas
from conformance.profiles.extensions import Defined, defined
from conformance.profiles.rules import Says
from conformance.profiles.run import Compiled
from conformance.profiles.tree import CORE, Branch, grow
from conformance.snapshot import SnapshotError, with_snapshot
from conformance.validator.nodes import Nodes
from conformance.validator.rules import Rule, Run, Whole

# The StructureDefinition with the snapshot that its differential lacks.
Snapshot: TypeAlias = Callable[[Mapping[str, Any], Callable[[str], Any]], dict[str, Any]]


class Library(Protocol):
    """Where definitions are found: a set of packages is one."""

    def find(self, type: str, canonical: str) -> dict[str, Any] | None:
        """The resource that `url` or `url|version` names."""


# What a definition that is not as it must be raises.
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


def _told(rule: Rule) -> Whole:
    def check(value: dict[str, Any], run: Run) -> None:
        run.add(value, None, rule)

    return check


class Profile:
    """One profile: its snapshot as a tree, and what it adds to its type. The latter is compiled
    when it is first asked for: profiles lead to each other."""

    def __init__(self, structure: Mapping[str, Any], shelf: Shelf) -> None:
        version = structure.get("version")
        self.url = str(structure.get("url", ""))
        self.label = f"{self.url}|{version}" if version else self.url
        self.type = str(structure.get("type", "")).removeprefix(CORE)
        self.own = structure.get("derivation") == "constraint"
        self.tree: Branch | None = grow(structure["snapshot"]["element"]) if self.own else None
        self._shelf = shelf
        self._version = str(version or "")
        self._check: Whole | None = None
        self._compiled = not self.own

    @property
    def check(self) -> Whole | None:
        """What the profile asks of an object beyond its type; None: nothing."""
        if not self._compiled and self.tree is not None:
            look()
            deltas = Deltas(
                self._shelf.definitions, self._shelf.nodes, self._shelf, Says(self.label), self._pin
            )
            try:
                self._check = deltas.root(self.tree, self.type)
            except _UNREADABLE:
                self._check = _told(Says(self.label).unreadable_profile())
            self._compiled = True
        return self._check

    def _pin(self, type: str, canonical: str) -> str:
        """A canonical without a version, as this profile means it: that of its own version where
        its guide publishes that too, so that several versions of a guide stand side by side."""
        guide = self.url.rpartition("/StructureDefinition/")[0]
        if not self._version or not guide or "|" in canonical:
            return canonical
        pinned = f"{canonical}|{self._version}"
        own = canonical.startswith(f"{guide}/{type}/")
        return pinned if own and self._shelf.find(type, pinned) is not None else canonical


class Shelf:
    """The profiles of one library. What is not known is not remembered, since anybody may ask for
    anything."""

    def __init__(
        self,
        definitions: Definitions,
        nodes: Nodes,
        library: Library,
        snapshot: Snapshot = with_snapshot,
    ) -> None:
        self.definitions = definitions
        self.nodes = nodes
        self._library = library
        self._snapshot = snapshot
        self._profiles: dict[str, Profile] = {}
        self._extensions: dict[str, Defined | None] = {}

    def find(self, type: str, canonical: str) -> dict[str, Any] | None:
        """A definition of any type by its canonical, or None where nobody knows it."""
        return self._library.find(type, canonical)

    def compiled(self, canonical: str) -> Compiled | None:
        """The profile, or None where nobody knows it or it cannot be read."""
        found = self._profiles.get(canonical)
        if found is None:
            structure = self._structure(canonical)
            if structure is None:
                return None
            try:
                found = Profile(structure, self)
            except _UNREADABLE:
                return None
            self._profiles[canonical] = found
        return found

    def extension(self, url: str) -> Defined | None:
        """The definition of an extension."""
        found = self._extensions.get(url)
        if found is None:
            profile = self.compiled(url)
            structure = self._structure(url) if profile is not None else None
            if structure is None or profile is None or profile.type != "Extension":
                return None
            found = self._extensions[url] = defined(structure, profile)
        return found

    def is_a(self, type: str, of: str) -> bool:
        """Whether a type is another or specialises it."""
        structures = self.definitions.structures
        at: str | None = type
        while at is not None and at != of:
            at = structures[at].base if at in structures else None
        return at == of

    def _structure(self, canonical: str) -> Mapping[str, Any] | None:
        look()
        found = self._library.find("StructureDefinition", canonical)
        if found is None or found.get("kind") == "logical":
            return None
        if "snapshot" in found or found.get("derivation") != "constraint":
            return found
        try:
            return self._snapshot(found, lambda url: self._library.find("StructureDefinition", url))
        except (SnapshotError, *_UNREADABLE):
            return None
