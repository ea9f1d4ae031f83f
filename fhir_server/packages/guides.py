"""The packages that a running server goes by: one immutable snapshot, exchanged as a whole.

https://hl7.org/fhir/packages.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property

from conformance.definitions import load
from conformance.packages import Package, PackageError, Packages
from conformance.profiles import Profiles
from conformance.validator import Validator
from fhir_server.packages.installed import Entry, entries, read_data
from fhir_server.storage.store import Store
from fhir_server.vocabulary import HEAVIEST, State, Vocabulary
from terminology import ucum
from terminology.cache import Recent
from terminology.checks import systems
from terminology.providers import built_in

_BESIDE = 16  # sets of stored definitions that are kept compiled
Heard = Callable[["Current"], None]


class Current:
    """What is installed at one time. Whoever begins with one snapshot ends with it."""

    def __init__(self, packages: Packages) -> None:
        self.packages = packages
        self._beside: Recent[frozenset[State], Profiles] = Recent(_BESIDE, HEAVIEST)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What these packages know of codes."""
        return Vocabulary(self.packages, built_in())

    @cached_property
    def profiles(self) -> Profiles:
        """What resources are held to by these packages."""
        definitions = load()
        return Profiles(
            definitions,
            self.packages,
            self.vocabulary.terminology,
            validator=Validator(definitions, systems()),
            units=ucum,
        )

    def profiles_with(self, states: frozenset[State], make: Callable[[], Profiles]) -> Profiles:
        """The same with stored definitions, remembered by what they say."""
        return self._beside.get(states, make, sum(each.size for each in states))


class Guides:
    """Holds the snapshot that is current. `touch` says that a write may have changed what is
    installed; once that is committed, whoever did it loads. `stale`: something was touched and not
    loaded since; `touched`: how often. `damaged`: packages that are installed and cannot be opened,
    name#version."""

    def __init__(self) -> None:
        self.stale = False
        self.touched = 0
        self.damaged: tuple[str, ...] = ()
        self.current = Current(Packages())
        self._heard: list[Heard] = []
        self._one = asyncio.Lock()

    def tell(self, heard: Heard) -> None:
        """Call `heard` with each snapshot from now on, at once with the one that is current."""
        self._heard.append(heard)
        heard(self.current)

    def touch(self) -> None:
        self.stale = True
        self.touched += 1

    async def load(self, store: Store) -> None:
        """Go by what is installed in a store: packages that are known already are not read again,
        and those that are damaged are left out, so that a server starts without them. StoreError,
        after which they are stale as before."""
        async with self._one:
            self.stale = False
            try:
                await self._load(store)
            except BaseException:
                self.stale = True
                raise

    async def _load(self, store: Store) -> None:
        known = {each.digest: each for each in self.current.packages.packages}
        found: list[Package] = []
        damaged: list[str] = []
        for entry in await store.transaction(entries):
            try:
                package = known.get(entry.digest) or await _opened(store, entry)
            except PackageError:
                damaged.append(entry.label)
            else:
                found.append(package)
        self.damaged = tuple(damaged)
        packages = Packages(found)
        if packages.digest != self.current.packages.digest:
            self.current = Current(packages)
            for heard in self._heard:
                heard(self.current)


async def _opened(store: Store, entry: Entry) -> Package:
    """PackageError for one that is damaged."""
    package = Package(await read_data(store, entry))
    package.check()
    return package
