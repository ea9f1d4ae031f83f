"""Where requests go: a server over HTTP, or the data folder in this process.

https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import httpx
import msgspec

from salus.load.requests import Request
from salus.load.sources import LoadError
from salus.program import called
from salus.tls import distrust

PATIENCE_SECONDS = 300.0  # for one answer
TRIES = 7  # when a server is busy or away for a moment
FIRST_PAUSE_SECONDS = 0.25  # doubled with each try
LONGEST_WAIT_SECONDS = 120.0  # that a server is believed
PASSING = frozenset({429, 502, 503, 504})  # statuses that may pass by waiting
UNAUTHORIZED = 401
JSON = "application/fhir+json"
_NO_TOKEN = (
    "The server wants an access token: on its own machine, name its folders with --data and "
    "--keys; elsewhere, a token with --token or SALUS_TOKEN, which its operator makes by `salus "
    "token --scope 'system/*.cruds'`"
)
_EXPIRED = "The access token is not valid (any more): get another, then run the same command again"


class Answer(NamedTuple):
    """`wait`: seconds after which the server wants to be asked again, if it says so."""

    status: int
    body: bytes
    wait: float = 0.0


class Target(Protocol):
    async def send(self, request: Request) -> Answer:
        """The server's answer, refusals included. LoadError when there is none to be had."""
        ...


class Unauthorized(LoadError):
    """The server takes no token of ours, so it takes nothing."""


class HttpTarget:
    """A FHIR base URL. `token`: the access token that is shown there, if any."""

    def __init__(self, url: str, client: httpx.AsyncClient, token: str | None = None) -> None:
        if "://" not in url:
            raise LoadError(f"{url} has no http:// or https:// in front: write http://{url}")
        if urlsplit(url).scheme not in ("http", "https"):
            raise LoadError(f"{url} is no address of a FHIR server: it begins with http(s)://")
        self._url = url.rstrip("/")
        self._client = client
        self._answered = False
        self._shown = {"Authorization": f"Bearer {token}"} if token else {}

    async def probe(self) -> None:
        """LoadError unless there is a FHIR server at the URL."""
        answer = await self._patiently(self._metadata)
        if not _is_capability(answer):
            raise LoadError(
                f"No FHIR base at {self._url}: {self._url}/metadata answers {answer.status} and no "
                f"CapabilityStatement{self._hint()}"
            )

    async def send(self, request: Request) -> Answer:
        answer = await self._patiently(lambda: self._once(request))
        if answer.status == UNAUTHORIZED:
            raise Unauthorized(_EXPIRED if self._shown else _NO_TOKEN)
        return answer

    async def _patiently(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        pause = FIRST_PAUSE_SECONDS
        for last in [False] * (TRIES - 1) + [True]:
            told = 0.0
            try:
                answer = await ask()
                if last or answer.status not in PASSING:
                    return answer
                told = answer.wait
            except httpx.TransportError as error:
                # Sending again is safe: the key makes the server answer as it did the first time.
                if last or not self._answered:
                    raise LoadError(self._away(error)) from None
            await asyncio.sleep(max(pause, told))
            pause *= 2
        raise AssertionError("the last try returns or raises")

    async def _metadata(self) -> Answer:
        reply = await self._client.get(
            f"{self._url}/metadata", headers={"Accept": JSON}, timeout=PATIENCE_SECONDS
        )
        self._answered = True
        return Answer(reply.status_code, reply.content)

    def _hint(self) -> str:
        return "" if self._url.endswith("/fhir") else f"; did you mean {self._url}/fhir?"

    async def _once(self, request: Request) -> Answer:
        reply = await self._client.request(
            request.method,
            f"{self._url}/{request.path}" if request.path else self._url,
            content=request.body,
            headers={
                "Content-Type": JSON,
                "Accept": JSON,
                "Prefer": "return=minimal",
                "Idempotency-Key": request.once,
                **self._shown,
            },
            timeout=PATIENCE_SECONDS,
        )
        self._answered = True
        return Answer(reply.status_code, reply.content, _wait(reply))

    def _away(self, error: httpx.TransportError) -> str:
        if why := distrust(self._url, error):
            return why
        reason = str(error) or type(error).__name__
        if self._answered:
            return f"The server at {self._url} went away ({reason}); run the same command again"
        return (
            f"No server answers at {self._url} ({reason}): start one with "
            f"`{called()} serve`, or load straight into its folder with --data DIR "
            "(SALUS_DATA alone names the folder whose server is asked)"
        )


def _wait(reply: httpx.Response) -> float:
    """What Retry-After says, in seconds and within reason."""
    told = reply.headers.get("retry-after", "")
    return min(float(told), LONGEST_WAIT_SECONDS) if told.isdecimal() and len(told) < 9 else 0.0


# --- reading answers -----------------------------------------------------------------------------


class _Kind(msgspec.Struct):
    resourceType: str = ""


def _is_capability(answer: Answer) -> bool:
    try:
        kind = msgspec.json.decode(answer.body, type=_Kind).resourceType
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return answer.status == 200 and kind == "CapabilityStatement"


class _Said(msgspec.Struct):
    severity: str = ""
    code: str = ""
    diagnostics: str | None = None
    details: dict[str, object] | None = None
    expression: list[str] = []


class _Outcome(msgspec.Struct):
    issue: list[_Said] = []


class _Response(msgspec.Struct):
    status: str = ""
    outcome: _Outcome | None = None


class _Entry(msgspec.Struct):
    response: _Response | None = None


class _Bundle(msgspec.Struct):
    entry: list[_Entry] = []


_outcome = msgspec.json.Decoder(_Outcome).decode
_responses = msgspec.json.Decoder(_Bundle).decode


class EntryAnswer(NamedTuple):
    """What became of one entry of a Bundle."""

    status: int
    reasons: list[str]


def entry_answers(answer: Answer) -> list[EntryAnswer]:
    """What became of each entry of a Bundle that was accepted."""
    made = []
    for entry in _responses(answer.body).entry:
        response = entry.response or _Response()
        status = int(response.status[:3]) if response.status[:3].isdigit() else 0
        made.append(EntryAnswer(status, _sentences(response.outcome)))
    return made


def reasons(answer: Answer) -> list[str]:
    """Why a request was refused, a sentence each."""
    try:
        return _sentences(_outcome(answer.body)) or [f"status {answer.status}"]
    except msgspec.DecodeError:
        return [f"status {answer.status}, and the answer is no OperationOutcome"]


def _sentences(outcome: _Outcome | None) -> list[str]:
    made = []
    for issue in outcome.issue if outcome else []:
        text = issue.diagnostics or str((issue.details or {}).get("text", "")) or issue.code
        where = f"{issue.expression[0]}: " if issue.expression else ""
        made.append(where + text)
    return made
