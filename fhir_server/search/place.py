"""What a writer of entries is told of the element whose values it writes.

https://hl7.org/fhir/R4/search.html#combining
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import tzinfo
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from fhir_server.storage.store import Entry

_new = tuple.__new__  # what Entry(...) does, at half its price


def token_entry(param: str, system: str | None, code: str | None) -> Entry:
    """A token; one without a code is found by its system alone."""
    return _new(Entry, ("token", param, system, code, None, None, None))


# Codes recur in resource after resource; what is about one patient does not come through here.
known_token = lru_cache(maxsize=16_384)(token_entry)


def link_entry(param: str, type: str, id: str, low: float | None = None) -> Entry:
    """A link, perhaps with the date that it carries."""
    return _new(Entry, ("link", param, type, id, None, low, None))


def range_entry(
    param: str, low: float, high: float, system: str | None = None, code: str | None = None
) -> Entry:
    """A range, of a quantity with its unit."""
    return _new(Entry, ("range", param, system, code, None, low, high))


Add: TypeAlias = Callable[[Entry], None]
Writer: TypeAlias = Callable[[Any, Add], None]  # one value of one datatype -> its entries


class Place(NamedTuple):
    """Where the values come from. `systems` has the code system that the element's required
    binding implies for each bare code, or one for all; the rest is the same for the whole index."""

    systems: Mapping[str, str] | str | None
    timezone: tzinfo
    base_url: str
    types: frozenset[str]


PRESENT = ":present"  # what follows a param's code where a value gives no entry to search


def add_present(param: str, add: Add) -> None:
    """An entry that only says that there is a value, so that :missing is right about it."""
    add(known_token(param + PRESENT, None, "true"))


Factory: TypeAlias = Callable[[str, Place], Writer]  # the writer for entries of one param


def presence(param: str, _: Place) -> Writer:
    """The writer of datatypes that the param's type cannot search."""
    return lambda _, add: add_present(param, add)
