"""Runs scripts: setup, tests, teardown, each action over HTTP. A test stops at the first assertion
that does not hold; the teardown always runs.

https://hl7.org/fhir/R4/testscript.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from time import perf_counter
from typing import Any, Literal, TypeAlias

import httpx

from conformance.definitions import load
from conformance.outcome import FhirError, Issue
from conformance.testscript.asserts import Bench, Validate, check
from conformance.testscript.claims import missing
from conformance.testscript.message import ActionError, Message
from conformance.testscript.operations import located, request_of
from conformance.testscript.result import Action, Outcome, Part, Run
from conformance.testscript.script import Script, fixture
from conformance.testscript.variables import Memory
from conformance.testscript.wire import Limits, Request, Target, Wire
from conformance.validator import Validator

Told: TypeAlias = Callable[[Script, Part], None]  # of each part when it is done

_STRUCTURE = "http://hl7.org/fhir/StructureDefinition/"
_NO_UPDATE_CREATE = frozenset({400, 404, 405, 422})  # a server that gives ids itself
_TEXT = 500  # characters of a message
_NEXT = "not done: what was before it did not hold"


class Unfit(Exception):
    """A script is not run: the server does not claim what it needs, or it cannot be read. `outcome`
    is that of its tests."""

    def __init__(self, text: str, outcome: Outcome) -> None:
        super().__init__(text)
        self.outcome = outcome


def base_profiles() -> Validate:
    """Validates by the base definitions of R4; of other profiles it knows nothing."""
    validator = Validator(load())

    def validate(resource: dict[str, Any], canonical: str) -> Sequence[Issue] | None:
        name = canonical.partition("|")[0].removeprefix(_STRUCTURE)
        if name not in load().types:
            return None
        if resource.get("resourceType") != name:
            said = f"It is a {resource.get('resourceType')} and no {name}"
            return [Issue("error", "structure", said)]
        return validator.validate(resource, warnings=False)

    return validate


class Engine:
    """Runs scripts against a target. `given` are values of variables from outside."""

    def __init__(
        self,
        target: Target,
        *,
        validate: Validate | None = None,
        limits: Limits | None = None,
        given: Mapping[str, str] | None = None,
    ) -> None:
        self._target, self._limits = target, limits or Limits()
        self._validate, self._given = validate or base_profiles(), given or {}
        self._claims: dict[str, Mapping[str, Any]] = {}
        self._lock = Lock()

    def run_all(
        self, scripts: Sequence[Script], *, parallel: int = 1, told: Told | None = None
    ) -> list[Run]:
        """All scripts, some at once if told so; `told` hears of each part when it is done."""
        with Wire(self._target, self._limits) as wire:

            def run(script: Script) -> Run:
                return self._run(script, wire, told or (lambda _script, _part: None))

            if parallel <= 1:
                return [run(each) for each in scripts]
            with ThreadPoolExecutor(parallel) as pool:
                return list(pool.map(run, scripts))

    def _run(self, script: Script, wire: Wire, told: Told) -> Run:
        began, start = datetime.now(UTC), perf_counter()
        parts: list[Part] = []

        def done(part: Part) -> None:
            parts.append(part)
            told(script, part)

        note = "" if script.tests else "it has no test"
        try:
            note = self._fit(script, wire) or note
        except Unfit as unfit:
            note = str(unfit)
            for each in script.tests:
                done(_not_run(each, unfit.outcome, note))
        else:
            bench = self._bench(script, wire)
            _Play(script, wire, self._target, bench, self._limits.actions).play(done)
        server = self._target.base
        return Run(script, server, tuple(parts), began, perf_counter() - start, wire.clean(note))

    def _bench(self, script: Script, wire: Wire) -> Bench:
        def fetch(url: str) -> Message:
            headers = httpx.Headers({"Accept": "application/fhir+json"})
            return wire.exchange(Request("GET", url, headers))[1]

        memory = Memory(script, self._given)
        return Bench(memory, self._validate, fetch, self._limits.regex_seconds)

    # --- what a script needs of a server ---------------------------------------------------------

    def _fit(self, script: Script, wire: Wire) -> str:
        """What could not be looked at. Unfit where a server lacks what is needed."""
        if script.fault:
            raise Unfit(script.fault, "error")
        notes = []
        for need in script.resource.get("metadata", {}).get("capability", ()):
            if not need.get("required") and not need.get("validated"):
                continue
            try:
                statement = fixture(script, str(need.get("capabilities")))
            except ActionError:
                notes.append(f"{need.get('capabilities')} is not at hand and was not looked at")
                continue
            base = self._target.at(need.get("destination"))
            lacking = missing(statement, self._claimed(base, wire))
            if lacking:
                said = f"The server does not claim {', '.join(lacking[:5])}"
                raise Unfit(said, "fail" if need.get("validated") else "skip")
        return "; ".join(dict.fromkeys(notes))

    def _claimed(self, base: str, wire: Wire) -> Mapping[str, Any]:
        with self._lock:
            if base not in self._claims:
                headers = httpx.Headers({"Accept": "application/fhir+json"})
                try:
                    _, answer = wire.exchange(Request("GET", f"{base}/metadata", headers))
                except ActionError as error:
                    raise Unfit(str(error), "fail") from None
                if answer.status != 200:  # what it claims is not known, which is no reason to skip
                    raise Unfit(f"GET {base}/metadata answers {answer.status}", "fail")
                self._claims[base] = answer.resource or {}
            return self._claims[base]


def _not_run(test: Mapping[str, Any], outcome: Outcome, why: str) -> Part:
    first: Mapping[str, Any] = next(iter(test.get("action", ())), {})
    kind: Literal["operation", "assert"] = "assert" if "assert" in first else "operation"
    about = str(test.get("description", ""))
    return Part(
        "test", _named(test), (Action(kind, outcome, why),), 0.0, str(test.get("id", "")), about
    )


def _named(test: Mapping[str, Any]) -> str:
    return str(test.get("name") or test.get("id") or "test")


@dataclass(slots=True)
class _Play:
    """One script while it is run."""

    script: Script
    wire: Wire
    target: Target
    bench: Bench
    left: int  # actions that it may still do

    @property
    def memory(self) -> Memory:
        return self.bench.memory

    def play(self, done: Callable[[Part], None]) -> None:
        created: list[str] = []
        try:
            setup = self._part("setup", "Setup", self._setup(created))
            if setup.actions:
                done(setup)
            held = setup.outcome in ("pass", "skip")
            for test in self.script.tests:
                if held:
                    done(self._test(test))
                else:
                    why = f"not done: the setup did not hold ({setup.reason})"
                    done(_not_run(test, "skip", why[:_TEXT]))
        finally:
            teardown = self._part("teardown", "Teardown", self._teardown(created))
            if teardown.actions:
                done(teardown)

    def _test(self, test: Mapping[str, Any]) -> Part:
        actions = self._actions(test.get("action", ()), stops=True)
        part = self._part("test", _named(test), actions)
        return part._replace(id=str(test.get("id", "")), about=str(test.get("description", "")))

    def _part(
        self, kind: Literal["setup", "test", "teardown"], name: str, actions: Iterator[Action]
    ) -> Part:
        start = perf_counter()
        found = tuple(actions)
        return Part(kind, name, found, perf_counter() - start)

    def _setup(self, created: list[str]) -> Iterator[Action]:
        for each in self.script.resource.get("fixture", ()):
            if each.get("autocreate"):
                action = self._timed(
                    "operation", f"autocreate {each['id']}", self._create, each["id"]
                )
                if each.get("autodelete") and action.outcome == "pass":
                    created.append(each["id"])
                yield action
                if action.outcome != "pass":
                    return
        actions = self.script.resource.get("setup", {}).get("action", ())
        yield from self._actions(actions, stops=True)

    def _teardown(self, created: Sequence[str]) -> Iterator[Action]:
        actions = self.script.resource.get("teardown", {}).get("action", ())
        yield from self._actions(actions, stops=False)
        for id in reversed(created):
            yield self._timed("operation", f"autodelete {id}", self._delete, id)

    def _actions(self, actions: Iterable[Mapping[str, Any]], stops: bool) -> Iterator[Action]:
        held = True
        for action in actions:
            kind: Literal["operation", "assert"] = (
                "operation" if "operation" in action else "assert"
            )
            told = action.get(kind, {})
            about = str(told.get("description") or told.get("label") or "")
            if not held:
                yield Action(kind, "skip", _NEXT, about)
                continue
            done = self._timed(
                kind, about, self._operation if kind == "operation" else self._claim, told
            )
            yield done
            goes_on = not stops or told.get("stopTestOnFail") is False
            held = goes_on or done.outcome in ("pass", "warning")

    def _timed(
        self,
        kind: Literal["operation", "assert"],
        about: str,
        work: Callable[[Any], tuple[Outcome, str, str]],
        told: Any,
    ) -> Action:
        """An action with what it yields: outcome, message, URL."""
        start = perf_counter()
        try:
            if self.left <= 0:
                raise ActionError("The script does more than it may here")
            self.left -= 1
            outcome, message, url = work(told)
        except (ActionError, FhirError) as error:
            outcome, message, url = "error", str(error), ""
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # A script is somebody else's: what is malformed in it must not end the run.
            outcome, url = "error", ""
            message = f"The action is not well formed ({type(error).__name__}: {str(error)[:80]})"
        clean = self.wire.clean
        took = perf_counter() - start
        return Action(kind, outcome, clean(message)[:_TEXT], about, took, clean(url))

    # --- actions ---------------------------------------------------------------------------------

    def _operation(self, operation: Mapping[str, Any]) -> tuple[Outcome, str, str]:
        request = request_of(operation, self.memory, self.target)
        sent, answer = self.wire.exchange(request)
        self.memory.request, self.memory.response = sent, answer
        if "requestId" in operation:
            self.memory.messages[operation["requestId"]] = sent
        if "responseId" in operation:
            self.memory.messages[operation["responseId"]] = answer
        return "pass", f"{request.method} {request.url} answers {answer.status}", request.url

    def _claim(self, claim: Mapping[str, Any]) -> tuple[Outcome, str, str]:
        warning = bool(claim.get("warningOnly"))
        verdict = check(claim, self.bench)
        if verdict.holds:
            return "pass", verdict.told, ""
        return ("warning" if warning else "fail"), verdict.told, ""

    def _create(self, id: str) -> tuple[Outcome, str, str]:
        """A fixture of which the script says that it is there from the start."""
        resource = self.memory.settled(self.memory.message(id).known())
        type = str(resource.get("resourceType"))
        ways: list[dict[str, Any]] = [{"type": {"code": "create"}, "sourceId": id}]
        if resource.get("id"):
            ways.insert(0, {"type": {"code": "updateCreate"}, "sourceId": id})
        self.memory.messages[id] = self.memory.message(id)._replace(resource=resource)
        for operation in ways:
            request = request_of({"resource": type, **operation}, self.memory, self.target)
            _, answer = self.wire.exchange(request)
            if answer.status not in _NO_UPDATE_CREATE:
                break
        said = f"{request.method} {request.url} answers {answer.status}"
        if answer.status not in (200, 201):
            return "error", said, request.url
        place = located(answer)
        assigned = (answer.resource or {}).get("id") or (place.id if place else resource.get("id"))
        self.memory.messages[id] = self.memory.message(id)._replace(
            resource={**resource, "id": assigned}
        )
        return "pass", said, request.url

    def _delete(self, id: str) -> tuple[Outcome, str, str]:
        operation = {"type": {"code": "delete"}, "targetId": id}
        request = request_of(operation, self.memory, self.target)
        _, answer = self.wire.exchange(request)
        said = f"{request.method} {request.url} answers {answer.status}"
        return (
            ("pass" if answer.status < 300 or answer.status == 410 else "warning"),
            said,
            request.url,
        )
