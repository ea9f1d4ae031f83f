"""The one path of every request: open a transaction, check access, act, audit.

Nobody else opens transactions for interactions or writes their audit events.
https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from conformance.outcome import FhirError
from fhir_server import access
from fhir_server.audit.event import Caller, events, failure
from fhir_server.batch import batch
from fhir_server.bundle import Act
from fhir_server.core import Core, Step
from fhir_server.handlers import HANDLERS, check_references
from fhir_server.interaction import (
    CONDITIONAL,
    WRITES,
    Interaction,
    Result,
    require_offered,
)
from fhir_server.patch import read_patch
from fhir_server.prepare import prepare
from fhir_server.storage.store import Conflict, Event, Store, TooCostly, Transaction, Unavailable
from fhir_server.transaction import transaction

_ONCE = "once"
_ONCE_MICROSECONDS = 30 * 24 * 3600 * 1_000_000
_BUNDLES = {"batch": batch, "transaction": transaction}
_encode = msgspec.msgpack.encode


class _Kept(NamedTuple):
    """What is remembered of a Result under its `once` key."""

    status: int
    body: bytes
    etag: int | None
    updated: int | None
    location: str | None
    touched: tuple[tuple[str, str, int | None], ...]
    patients: tuple[str, ...]

    @classmethod
    def of(cls, result: Result) -> _Kept:
        return cls(
            result.status,
            result.body,
            result.etag,
            result.updated,
            result.location,
            result.touched,
            result.patients,
        )

    def result(self) -> Result:
        return Result(
            self.status,
            self.body,
            etag=self.etag,
            updated=self.updated,
            location=self.location,
            touched=self.touched,
            patients=self.patients,
        )


_decode = msgspec.msgpack.Decoder(_Kept).decode


class Server:
    """Performs interactions on a store."""

    def __init__(self, store: Store, core: Core) -> None:
        self.store = store
        self.core = core

    async def perform(self, asked: Interaction, caller: Caller) -> Result:
        """The result, once it and its audit are durable. FhirError for every refusal, which is
        audited too."""
        try:
            if asked.once is not None:
                before = await self.store.transaction(partial(_before, asked.once))
                if before is not None:
                    await self.store.record(self._audited(asked, caller, before))
                    return before
            if asked.code in _BUNDLES:
                return await _BUNDLES[asked.code](self, asked, caller)
            plan = self.prepared(asked, caller)
            act = partial(self._acting, asked, caller, plan)
            return await self.commit(asked, caller, act, self.writes(asked))
        except Exception as error:
            refusal = _refusal(error)
            await self.refuse(asked, caller, refusal)
            if refusal is error:
                raise
            raise refusal from error

    async def refuse(self, asked: Interaction, caller: Caller, error: FhirError) -> None:
        """Audit what was asked and refused. FhirError 503."""
        at, issue = self.core.clock(), error.issues[0].code
        await self.record(failure(asked, caller, error.status, issue, at))

    async def record(self, *event: Event) -> None:
        """Append audit events. FhirError 503 when that is not possible."""
        try:
            await self.store.record(event)
        except Unavailable as error:
            raise _refusal(error) from error

    def prepared(self, asked: Interaction, caller: Caller) -> Any:
        """Check that an interaction is offered and allowed, and do what can be done for it before
        its transaction. FhirError."""
        _offered(self.core, asked)
        access.check(caller.grant, asked.code, asked.type)
        if asked.code in ("create", "update"):
            told = asked.prefer.returns == "OperationOutcome"
            return prepare(self.core, _checked(asked), told)
        if asked.code == "patch":
            return read_patch(self.core, asked.content)
        return None

    def writes(self, asked: Interaction) -> bool:
        """Whether an interaction changes something."""
        if asked.code == "operation":
            return self.core.operations[asked.operation or ""].writes
        return asked.code in WRITES

    def act(
        self,
        tx: Transaction,
        asked: Interaction,
        caller: Caller,
        plan: Any,
        written: list[Any] | None = None,
    ) -> Awaitable[Result]:
        """An interaction inside a transaction, without its audit."""
        return HANDLERS[asked.code](Step(tx, caller.grant, self.core, written), asked, plan)

    async def checked(self, step: Step, written: Sequence[Any]) -> None:
        """Look at what a transaction Bundle has written once all of it is there. FhirError."""
        if self.core.references == "check":
            for each in written:
                await check_references(step, each)

    def _acting(
        self, asked: Interaction, caller: Caller, plan: Any, tx: Transaction
    ) -> Awaitable[Result]:
        return self.act(tx, asked, caller, plan)

    async def commit(self, asked: Interaction, caller: Caller, act: Act, writes: bool) -> Result:
        """A transaction around `act`. A write's audit is in the same transaction, a read's durable
        before the answer; a repeated `once` key gets the Result of the first time."""
        if not writes and asked.once is None:
            result = await self.store.transaction(act)
            await self.store.record(self._audited(asked, caller, result))
            return result

        async def work(tx: Transaction) -> Result:
            before = await _before(asked.once, tx) if asked.once else None
            result = before or await act(tx)
            for each in self._audited(asked, caller, result):
                await tx.record(each)
            if asked.once and before is None:
                until = tx.now + _ONCE_MICROSECONDS
                await tx.keep(_ONCE, asked.once, _encode(_Kept.of(result)), until=until)
            return result

        return await self.store.transaction(work, write=True)

    def _audited(self, asked: Interaction, caller: Caller, result: Result) -> Sequence[Event]:
        """The events of an interaction that succeeded."""
        at, entities = self.core.clock(), self.core.limits.audit_entities
        return events(asked, caller, result, at, entities)


async def _before(once: str, tx: Transaction) -> Result | None:
    """The Result that was kept under this key."""
    kept = await tx.kept(_ONCE, once)
    return _decode(kept.value).result() if kept else None


def _offered(core: Core, asked: Interaction) -> None:
    """FhirError 404, 405, 412 for what this server does not do."""
    if asked.type:
        require_offered(asked.type, asked.code)
    if asked.code in CONDITIONAL and asked.id is None and not asked.condition:
        raise FhirError(
            "invalid", f"A conditional {asked.code} needs search parameters", status=412
        )
    if asked.code != "operation":
        return
    known = core.operations.get(asked.operation or "")
    level = "instance" if asked.id else "type" if asked.type else "system"
    if (
        known is None
        or level not in known.levels
        or (known.types and asked.type not in known.types)
    ):
        raise FhirError("not-found", f"There is no such operation on {asked.type or 'the server'}")


def _checked(asked: Interaction) -> dict[str, Any]:
    """The resource of a create or update, when it fits where it was sent. FhirError 400."""
    resource = asked.resource
    if resource is None:
        raise FhirError("required", "The request needs a resource in its body", status=400)
    if resource.get("resourceType") != asked.type:
        raise FhirError("invalid", f"The body's resourceType is not {asked.type}, as the URL says")
    if asked.code == "update" and asked.id is not None and resource.get("id") != asked.id:
        raise FhirError(
            "value", "The body's id is not the one in the URL", f"{asked.type}.id", status=400
        )
    return resource


def _refusal(error: Exception) -> FhirError:
    """How what went wrong is told to a client."""
    match error:
        case FhirError():
            return error
        case Conflict():
            return FhirError(
                "conflict", f"{error.type} was changed by somebody else meanwhile; read it again"
            )
        case TooCostly():
            return FhirError(
                "too-costly",
                "The search took longer than this server allows; add a more selective parameter",
                status=422,
            )
        case Unavailable():
            return FhirError("transient", "The store cannot be written now; try again", status=503)
        case RecursionError():
            return FhirError("too-long", "The resource is nested too deeply", status=400)
    return FhirError("exception", "Something went wrong here; the operator's log has the details")
