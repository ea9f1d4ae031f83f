"""The one path of every request: open a transaction, check access, act, audit.

Nobody else opens transactions for interactions or writes their audit events.
https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

from conformance.outcome import FhirError
from fhir_server import access, once
from fhir_server.audit.event import Caller, events, failure
from fhir_server.audit.recording import Recording
from fhir_server.audit.strangers import Strangers
from fhir_server.batch import batch
from fhir_server.bundle import Act
from fhir_server.changes import Written
from fhir_server.core import Core, Later, Operation, Step
from fhir_server.handlers import HANDLERS
from fhir_server.indexing.registry import SearchParameters
from fhir_server.interaction import (
    CONDITIONAL,
    WRITES,
    Interaction,
    Result,
    require_offered,
)
from fhir_server.patching import read_patch
from fhir_server.prepare import prepare
from fhir_server.storage.store import (
    Conflict,
    Erased,
    Event,
    Store,
    StoreError,
    TooCostly,
    Transaction,
    Unavailable,
)
from fhir_server.transaction import transaction
from smart_auth.grant import NOBODY

_BUNDLES = {"batch": batch, "transaction": transaction}
HEAVY = 256 * 1024  # bytes of a body that is prepared in a thread of its own


class Log(Protocol):
    """The log of a store as it is signed."""

    async def covered(self, leaf: int) -> None:
        """Wait, not for long, until a leaf is in a checkpoint."""
        ...


class Server:
    """Performs interactions on a store. `log`: where it is signed, while it is; `parameters`: where
    search parameters are taken up that R4 does not have."""

    log: Log | None = None
    parameters: SearchParameters | None = None

    def __init__(self, store: Store, core: Core, recording: Recording | None = None) -> None:
        self.store = store
        self.core = core
        self._recording = recording or Recording(store)
        self._strangers = Strangers(self.record, core.clock)

    async def close(self) -> None:
        """Tell the audit what it is not told yet; the store is closed by who opened it."""
        try:
            await self._strangers.close()
        finally:
            await self._recording.close()

    async def perform(self, asked: Interaction, caller: Caller) -> Result:
        """The result, once it and its audit are durable. FhirError for every refusal, which is
        audited too; what nobody foresaw is audited and raised as it is."""
        try:
            if asked.code in _BUNDLES:
                return await _BUNDLES[asked.code](self, asked, caller)
            heavy = self._is_heavy(asked)
            plan = await self.plan(asked, caller) if heavy else self.prepared(asked, caller)
            return await self.commit(
                asked,
                caller,
                lambda tx: self.act(tx, asked, caller, plan),
                self.writes(asked),
            )
        except Exception as error:
            refusal = refusal_of(error)
            await self.refuse(asked, caller, refusal or UNFORESEEN)
            if refusal is None or refusal is error:
                raise
            raise refusal from error

    async def refuse(self, asked: Interaction, caller: Caller, error: FhirError) -> None:
        """Audit what was asked and refused; of strangers one by one only as long as they are few.
        FhirError 503."""
        if caller.grant is NOBODY and not self._strangers.single(caller):
            return
        at, issue = self.core.clock(), error.issues[0].code
        await self.record(failure(asked, caller, error.status, issue, at))

    async def record(self, *event: Event) -> None:
        """Append audit events. FhirError 503 when that is not possible."""
        try:
            await self._recording.record(event)
        except Unavailable as error:
            raise (refusal_of(error) or error) from error

    async def plan(self, asked: Interaction, caller: Caller) -> Any:
        """`prepared`, in a thread of its own when it is heavy, so that others are answered."""
        if not self._is_heavy(asked):
            return self.prepared(asked, caller)
        return await asyncio.to_thread(self.prepared, asked, caller)

    def _is_heavy(self, asked: Interaction) -> bool:
        """Whether preparing takes long: a large body, or one that may be packed small."""
        if asked.code == "operation":
            known = self.core.operations.get(asked.operation or "")
            if known is not None and known.media:
                return True
        return asked.weight >= HEAVY

    def allow(self, asked: Interaction, caller: Caller) -> None:
        """Check that an interaction is offered and allowed. FhirError 403, 404, 405, 412."""
        _offered(self.core, asked)
        access.check(self.core, caller.grant, asked)

    def prepared(self, asked: Interaction, caller: Caller) -> Any:
        """Check that an interaction is offered and allowed, and do what can be done for it before
        its transaction. FhirError."""
        self.allow(asked, caller)
        if asked.code in ("create", "update"):
            told = asked.prefer.returns == "OperationOutcome"
            return prepare(self.core, _checked(asked), told)
        if asked.code == "patch":
            patch = read_patch(self.core, asked.type or "", asked.content, asked.resource)
            if patch.tests or self.core.writing.enforces:
                access.check_read(caller.grant, asked)
            return patch
        if asked.code == "operation":
            known = self.core.operations[asked.operation or ""]
            if known.prepare is not None:
                return known.prepare(self.core, caller.grant, asked)
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
        written: list[Written] | None = None,
    ) -> Awaitable[Result]:
        """An interaction inside a transaction, without its audit."""
        return HANDLERS[asked.code](Step(tx, caller.grant, self.core, written), asked, plan)

    async def commit(
        self,
        asked: Interaction,
        caller: Caller,
        act: Act,
        writes: bool,
        digest: bytes | None = None,
    ) -> Result:
        """A transaction around `act`. A write's audit is in the same transaction, a read's durable
        before the answer; a write with a repeated `once` key gets the Result of the first time.
        `digest`: of the request, where it was taken already. FhirError 422 when that key belongs to
        another request."""
        if not writes:
            try:
                result = await self.store.transaction(act)
            except Later as later:
                result = await self._later(act, later)
            if caller.grant is not NOBODY or self._strangers.single(caller):
                await self._recording.record(self.audited(asked, caller, result))
            return result
        told = (digest or once.digest(asked)) if asked.once else b""
        guides, index = self.core.guides, self.core.index
        installed = stirred = False  # by this request: what another takes up may come before it

        async def work(tx: Transaction) -> Result:
            nonlocal installed, stirred
            touched, stirs = guides.touched, index.stirs
            before = await once.before(tx, asked.once, told) if asked.once else None
            result = before or await act(tx)
            installed, stirred = guides.touched != touched, index.stirs != stirs
            for each in self.audited(asked, caller, result):
                await tx.record(each)
            if asked.once and before is None:
                await once.keep(tx, asked.once, told, result)
            return result

        result = await self.store.transaction(work, write=True)
        if installed or guides.stale or stirred or index.stirred:
            # Also for whoever asked and went away meanwhile.
            await asyncio.shield(asyncio.ensure_future(self._take_up(installed)))
        return result

    async def _take_up(self, installed: bool) -> None:
        """Let what was changed of packages and search parameters have its effect before the answer;
        where that cannot be now, it is done with a later write, or in the background."""
        with suppress(StoreError):
            if installed or self.core.guides.stale:
                await self.core.guides.load(self.store)
            if self.parameters is not None:
                await self.parameters.settle()

    async def _later(self, act: Act, later: Later) -> Result:
        """What `act` gives once more, after the log's next checkpoint."""
        if self.log is None:
            raise later
        await self.log.covered(later.leaf)
        return await self.store.transaction(act)

    async def repeated(self, asked: Interaction, caller: Caller, digest: bytes) -> Result | None:
        """The Result that a Bundle's `once` key has already, before it is prepared once more."""
        key = asked.once or ""
        before = await self.store.transaction(lambda tx: once.before(tx, key, digest))
        if before is not None:
            await self._recording.record(self.audited(asked, caller, before))
        return before

    async def audit(
        self, caller: Caller, parts: Sequence[tuple[Interaction, Result | FhirError]]
    ) -> None:
        """Record the events of interactions that only read or were refused."""
        await self.record(*self._apart(caller, parts))

    def audited(self, asked: Interaction, caller: Caller, result: Result) -> list[Event]:
        """The events of an interaction that succeeded, and of the parts of it that did not."""
        at, entities = self.core.clock(), self.core.limits.audit_entities
        return [*events(asked, caller, result, at, entities), *self._apart(caller, result.parts)]

    def _apart(
        self, caller: Caller, parts: Sequence[tuple[Interaction, Result | FhirError]]
    ) -> Iterator[Event]:
        at, entities = self.core.clock(), self.core.limits.audit_entities
        for asked, end in parts:
            if isinstance(end, FhirError):
                yield failure(asked, caller, end.status, end.issues[0].code, at)
            else:
                yield from events(asked, caller, end, at, entities)


def _offered(core: Core, asked: Interaction) -> None:
    """FhirError 404, 405, 412 for what this server does not do."""
    if asked.type:
        require_offered(asked.type, asked.code)
    conditional = asked.condition is not None or (asked.code in CONDITIONAL and asked.id is None)
    if conditional and not asked.condition:
        raise FhirError(
            "invalid", f"A conditional {asked.code} needs search parameters", status=412
        )
    if asked.code != "operation":
        return
    known = core.operations.get(asked.operation or "")
    if known is not None and _is_on(known, asked):
        return
    offered = sorted(
        f"${code}"
        for code, each in core.operations.items()
        if each.definition and _is_on(each, asked)
    )
    where = "the server" if asked.type is None else f"a {asked.type}" if asked.id else asked.type
    text = f"There is no such operation on {where}; there are: {', '.join(offered)}"
    if known is not None and known.definition:
        text += f". The one that is named is asked of {_asked_of(known)}"
    raise FhirError("not-found", text)


def _asked_of(operation: Operation) -> str:
    """Where an operation is, as a URL has it."""
    types = sorted(operation.types) or ["[type]"]
    places = {"system": ["[base]"], "type": types, "instance": [f"{each}/[id]" for each in types]}
    return " or ".join(
        each for level, of in places.items() if level in operation.levels for each in of
    )


def _is_on(operation: Operation, asked: Interaction) -> bool:
    """Whether an operation is where it was asked: of the server, a type, or a resource of it."""
    level = "instance" if asked.id else "type" if asked.type else "system"
    of_type = not operation.types or asked.type is None or asked.type in operation.types
    return level in operation.levels and of_type


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


UNFORESEEN = FhirError("exception", "Something went wrong here", status=500)


def refusal_of(error: Exception) -> FhirError | None:
    """How what went wrong is told to a client; None for what nobody foresaw."""
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
        case Later():
            text = "The log has not been signed since; try again in a moment"
            return FhirError("transient", text, status=503)
        case Unavailable():
            return FhirError("transient", "The store cannot be used now; try again", status=503)
        case Erased():
            return FhirError("deleted", "This was erased, and cannot be read again", status=410)
        case RecursionError():
            return FhirError("too-long", "The resource is nested too deeply", status=400)
    return None
