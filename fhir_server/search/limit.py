"""How many entries one resource may have.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from conformance.outcome import FhirError
from fhir_server.storage.store import Entry

# Each entry costs some microseconds here and a row in the store's one writer, during which no other
# request is served: this many are a fraction of a second. The standard's own examples have a third
# of them at most (a value set with all of its codes), and mostly a hundredth. Equal entries count
# each time, since what is bounded is the work.
ENTRIES = 20_000

Items = TypeVar("Items", bound=Collection[object])


def bounded(items: Items, param: str) -> Items:
    """What one value of `param` consists of, before an entry is made of each. FhirError
    (too-costly, 422) when there are too many of them."""
    if len(items) > ENTRIES:
        raise too_many(param)
    return items


def room(found: Sequence[Entry], count: int, param: str) -> None:
    """See to it that `count` more entries of `param` may be written beside those found. FhirError
    (too-costly, 422)."""
    if len(found) + count > ENTRIES:
        raise too_many(param)


def too_many(param: str) -> FhirError:
    """The refusal of a resource whose entries of `param` are too many."""
    code = param.partition("=")[0].partition(":")[0].partition("|")[0]
    return FhirError(
        "too-costly",
        f"The resource has more than {ENTRIES:,} values to search by, of `{code}` and other"
        " parameters: divide it into several resources",
        status=422,
    )
