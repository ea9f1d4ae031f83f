"""What every step needs besides its transaction, made once when the server opens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, Literal

from msgspec import Struct

from conformance.definitions import Definitions
from conformance.validator import Validator
from fhir_server.apart import Apart
from fhir_server.bulk import job
from fhir_server.bulk.state import Bulk
from fhir_server.erasure.beyond import Beyond
from fhir_server.ids import new_id
from fhir_server.interaction import Interaction, Result
from fhir_server.limits import Limits
from fhir_server.links import Links
from fhir_server.packages import Current, Guides
from fhir_server.search.index import Index
from fhir_server.storage.store import Transaction
from fhir_server.times import now
from fhir_server.writing import Writing
from smart_auth.grant import Grant


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation: its code, where it is offered (system, type, instance), on which types (none:
    all), whether it writes, the canonical url of its OperationDefinition, what it does, and the
    letters of a scope that it needs on its type, or on all types where it names none. Without
    letters it is for nobody but callers who may do everything, or, where it is its `own` judge,
    for whom it says. `prepare`: what can be done before its transaction, which `run` is then
    handed; `media`: types of raw bodies that it takes; `definitions`: the canonical urls on types
    where it is defined otherwise."""

    code: str
    levels: frozenset[str]
    types: frozenset[str]
    writes: bool
    definition: str
    run: Callable[..., Awaitable[Result]]
    letters: str = ""
    own: bool = False
    prepare: Callable[[Core, Grant, Interaction], Any] | None = None
    media: frozenset[str] = frozenset()
    definitions: Mapping[str, str] = field(default_factory=dict)


def _beyond() -> Beyond:
    """With those that keep records of their own wherever there is a Core: what an erasure does at
    the start, before anything else runs, must reach them."""
    made = Beyond()
    made.forgets.append(job.forget)
    return made


@dataclass(frozen=True, slots=True)
class Core:
    """`capability`: the CapabilityStatement's bytes, by the guides that are installed; `base_url`:
    the FHIR base without a slash at its end; `references`: whether a literal reference of this
    server that resolves to nothing is accepted or refused; `clock`: microseconds since 1970;
    `beyond`: what else takes part in an erasure; `guides`: the packages that are installed, which
    change while the server runs; `writing`: what is made of profiles on a write."""

    definitions: Definitions
    validator: Validator
    index: Index
    links: Links
    limits: Limits
    base_url: str
    timezone: tzinfo
    capability: Callable[[Current], bytes]
    operations: Mapping[str, Operation]
    references: Literal["accept", "check"] = "accept"
    new_id: Callable[[], str] = new_id
    clock: Callable[[], int] = now
    beyond: Beyond = field(default_factory=_beyond)
    bulk: Bulk = field(default_factory=Bulk)  # what all bulk jobs share
    apart: Apart = field(default_factory=Apart)  # where what may take long is done
    guides: Guides = field(default_factory=Guides)
    writing: Writing = field(default_factory=Writing)


class Step(Struct, frozen=True):
    """One interaction inside one transaction. `written` collects what is to be looked at again
    when all interactions of a transaction Bundle are done; alone, an interaction looks itself."""

    tx: Transaction
    grant: Grant
    core: Core
    written: list[Any] | None = None  # changes.Written, which is made of Steps itself


class Later(Exception):
    """What was asked for can be answered once a checkpoint of the log covers this leaf, in another
    transaction."""

    def __init__(self, leaf: int) -> None:
        super().__init__(f"No checkpoint covers leaf {leaf} yet")
        self.leaf = leaf
