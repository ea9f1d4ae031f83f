"""The composition root: the only file that knows every package.

`create_app` gives the ASGI application (https://asgi.readthedocs.io), `open_server` the same server
without HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from importlib.metadata import version as installed
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from fastapi import FastAPI, Request, Response
from starlette.datastructures import State

from conformance import capability, definitions
from conformance.json import encode
from conformance.validator import Validator
from fhir_server import operations, spool
from fhir_server.audit.break_glass import BreakGlass
from fhir_server.audit.recording import Recording
from fhir_server.bulk.state import Bulk
from fhir_server.bulk.work import working
from fhir_server.core import Core
from fhir_server.erasure.finishing import redo
from fhir_server.http import Http
from fhir_server.indexing.registry import SearchParameters
from fhir_server.links import Links
from fhir_server.metering import FREE
from fhir_server.metrics import Metrics
from fhir_server.packages import Current
from fhir_server.packages import installed as installed_packages
from fhir_server.search.index import Edition, Index
from fhir_server.server import Server
from fhir_server.storage.keys import page_key
from fhir_server.storage.sqlite import SqliteStore
from fhir_server.storage.vault import Vault
from fhir_server.surface import surface
from fhir_server.times import instant, now
from salus.backup.folder import refuse_unfinished
from salus.building import BuildingMetrics, built
from salus.callers import anybody, bearers
from salus.console import front
from salus.console import router as console
from salus.cors import Asgi, Cors, Scope
from salus.directory import FhirDirectory
from salus.edge import Edge, admit
from salus.ending import ending
from salus.fetching import Fetching
from salus.forwarded import Forwarded, Network
from salus.happenings import audit_of
from salus.keyring import key_provider, keys_allowed, open_vault
from salus.log.publishing import LogMetrics, published
from salus.operator.channel import channel_key
from salus.operator.endpoint import router as operator_router
from salus.operator.tokens import OWN
from salus.product import Product
from salus.rates import Quotas, Rates
from salus.rebinding import ThisMachine
from salus.reindex import reindex
from salus.selftest.watched import SelfTest
from salus.settings import Settings
from salus.transparency import router as transparency
from smart_auth.authority import Authority, Happening, Policy, Site
from smart_auth.discovery import oauth_uris
from smart_auth.endpoints import router as protocol
from smart_auth.model import DAY, HOUR, MINUTE
from smart_auth.standing import standing
from smart_auth.tokens import Tokens
from terminology.checks import systems

Progress = Callable[[int, int], None]

VERSION = installed("salus-fhir")
# Told to the audit at a start by --keys-on-this-machine.
KEYS_HERE = Happening("keys", detail="started with --keys-on-this-machine")

_OPEN = "This server was started with --open: everybody on this machine may do everything"
_SMART = "OAuth 2.0 by SMART App Launch: every request carries an access token"
_KNOWN = "/.well-known/"
_OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_SERVICES = "http://terminology.hl7.org/CodeSystem/restful-security-service"


class SalusApp(FastAPI):
    """FastAPI, but for everything below the FHIR base, which leaves before it is routed. Of what
    is there, only the documents at well-known places are no FHIR. `only`: the machine that is
    served, where no other is."""

    fhir: Asgi | None = None
    edge: Edge | None = None

    def __init__(
        self,
        prefix: str,
        proxies: Sequence[Network],
        only: ThisMachine | None = None,
        **options: Any,
    ) -> None:
        # A redirect to the path without its last slash would go where the Host header says.
        super().__init__(redirect_slashes=False, **options)
        self._prefix, self._below, self._known = prefix, f"{prefix}/", f"{prefix}{_KNOWN}"
        self._forwarded = Forwarded(proxies) if proxies else None
        self._only = only

    def __call__(self, scope: Scope, receive: Any, send: Any) -> Awaitable[None]:  # type: ignore[override]
        """Not a coroutine itself: it hands on the one that answers."""
        if scope["type"] == "http":
            if self._only is not None and (refusal := self._only.refusal(scope)):
                return refusal(send)
            if self._forwarded is not None:
                scope = self._forwarded.scope(scope)
            path: str = scope["path"]
            below = path.startswith(self._below) or path == self._prefix
            if below and self.fhir is not None and not path.startswith(self._known):
                return self.fhir(scope, receive, send)
            if self.edge is not None:
                return self.edge(scope, receive, send)
        return super().__call__(scope, receive, send)


def create_app(settings: Settings, progress: Progress | None = None) -> SalusApp:
    """The application; its lifespan opens and closes the store. StoreError when that fails."""
    prefix = urlsplit(settings.fhir_base).path
    metrics, log_metrics, building = Metrics(), LogMetrics(), BuildingMetrics()
    metrics.also(log_metrics)
    metrics.also(building)
    rates = None if settings.open else Rates(_quotas(settings), metrics.throttled)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        exposed = keys_allowed(settings)
        async with open_product(settings, progress, rates) as product:
            if exposed:
                await product.authority.audit(KEYS_HERE)
            server, meter = product.server, rates or FREE
            caller = anybody(server) if settings.open else bearers(server, product.tokens, meter)
            http = Http(server, prefix, caller, metrics, meter)
            made.fhir = Cors(http, product.tokens, f"{prefix}/metadata")
            made.state.authority, made.state.tokens = product.authority, product.tokens
            made.state.product, log_metrics.publisher = product, product.log
            made.state.self_test = SelfTest()
            building.parameters = server.parameters
            yield
            made.fhir = None
            await made.state.self_test.stop()
            made.state = State()

    made = SalusApp(
        prefix,
        settings.proxies,
        ThisMachine(settings.base_url) if settings.open else None,
        title="Salus",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    _add_health(made, metrics)
    _add_signpost(made, settings)
    root = urlsplit(settings.base_url).path
    site = _site(settings)
    made.edge = Edge(
        super(SalusApp, made).__call__,
        rates,
        site,
        root,
        lambda: getattr(made.state, "authority", None),
    )
    made.include_router(operator_router, prefix=root)
    made.include_router(protocol, prefix=root)
    made.include_router(transparency, prefix=root)
    made.include_router(console, prefix=root)
    return made


@asynccontextmanager
async def open_server(
    settings: Settings, progress: Progress | None = None
) -> AsyncIterator[Server]:
    """The server without HTTP. `progress(done, all)` is told of a re-index. StoreError."""
    async with _vault(settings) as vault, _served(settings, vault, progress) as server:
        yield server


@asynccontextmanager
async def _vault(settings: Settings) -> AsyncIterator[Vault]:
    """The data keys, kept open while they are needed."""
    vault = open_vault(settings)
    tended = asyncio.create_task(vault.keep_fresh())
    try:
        yield vault
    finally:
        tended.cancel()
        with suppress(asyncio.CancelledError):
            await tended
        vault.close()


@asynccontextmanager
async def _served(
    settings: Settings, vault: Vault, progress: Progress | None
) -> AsyncIterator[Server]:
    refuse_unfinished(settings.data)
    index = Index(definitions.load(), settings.fhir_base, settings.zone)
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = page_key(settings.data, key_provider(settings))
    store = await SqliteStore.open(
        settings.data,
        key,
        vault,
        extraction=index.version,
        search_seconds=settings.limits.search_seconds,
        writing_seconds=settings.limits.writing_seconds,
        cipher=settings.cipher,
    )
    try:
        core = _core(settings, index, key)
        await redo(store, vault, core)
        await store.transaction(installed_packages.sweep, write=True)
        await core.guides.load(store)
        parameters = SearchParameters(store, core)
        await parameters.settle()
        if not store.extraction_current:
            await reindex(store, index, progress)
            await parameters.settle()
        await store.transaction(spool.sweep, write=True)
        core.capability(core.guides.current)  # so that nobody waits for it
        glass = None
        if settings.break_glass_log is not None:
            glass = BreakGlass(settings.break_glass_log, vault, store, vault.destroy)
            await glass.open()
        recording = Recording(store, settings.audit_reads, glass)
        server = Server(store, core, recording)
        server.parameters = parameters
        yield server
        await server.close()
    finally:
        await store.close()


@asynccontextmanager
async def open_product(
    settings: Settings, progress: Progress | None = None, rates: Rates | None = None
) -> AsyncIterator[Product]:
    """The server with its authorization server, without HTTP. `rates`: by which the latter limits
    what clients ask. StoreError."""
    async with _vault(settings) as vault, _served(settings, vault, progress) as server:
        heard: list[Callable[[str | None], None]] = []

        def changed(grant: str | None) -> None:
            for each in heard:
                each(grant)

        authority = _authority(settings, server, vault, changed)
        tokens = Tokens(authority, admit(rates))
        heard.append(tokens.changed)
        async with (
            published(settings, server, vault) as log,
            built(server),
            ending(settings, server, vault, authority) as ends,
            working(server, _stands(server)),
        ):
            key = channel_key(settings)
            yield Product(settings, server, authority, tokens, key, log, ends)


def _authority(
    settings: Settings, server: Server, vault: Vault, changed: Callable[[str | None], None]
) -> Authority:
    return Authority(
        keeper=server.store,
        site=_site(settings),
        directory=FhirDirectory(server),
        sealer=vault,
        clock=server.core.clock,
        audit=audit_of(server),
        policy=_policy(settings),
        changed=changed,
    )


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, None, purpose).derive(key)


def _core(settings: Settings, index: Index, key: bytes) -> Core:
    return Core(
        definitions=index.definitions,
        validator=Validator(index.definitions, systems()),
        index=index,
        links=Links(_derived(key, b"salus paging links")),
        limits=settings.limits,
        base_url=settings.fhir_base,
        timezone=settings.zone,
        capability=_capability(settings, index),
        operations=operations.ALL,
        bulk=_bulk(settings),
        references=settings.references,
        writing=settings.writing,
    )


def _capability(settings: Settings, index: Index) -> Callable[[Current], bytes]:
    """The CapabilityStatement, made anew when other guides are installed, or something else is
    searched by."""

    @lru_cache(maxsize=1)
    def told(current: Current, _: Edition) -> bytes:
        return encode(_statement(settings, index, current))

    return lambda current: told(current, index.edition)


def _statement(settings: Settings, index: Index, current: Current) -> dict[str, Any]:
    security = _OPEN if settings.open else _SMART
    about = capability.Software("Salus", VERSION, settings.fhir_base, instant(now()), security)
    made = capability.statement(surface(index, current), about)
    if not settings.open:
        (rest,) = made["rest"]
        rest["security"] = {**_security(settings), **rest["security"]}
    return made


def _security(settings: Settings) -> dict[str, Any]:
    """Where to ask for access, as clients of SMART 1 look for it."""
    uris = oauth_uris(_site(settings), _policy(settings))
    named = [{"url": name, "valueUri": uri} for name, uri in uris.items()]
    return {
        "extension": [{"url": _OAUTH_URIS, "extension": named}],
        "cors": True,
        "service": [
            {"coding": [{"system": _SERVICES, "code": "SMART-on-FHIR"}], "text": "SMART-on-FHIR"}
        ],
    }


def _bulk(settings: Settings) -> Bulk:
    hosts = frozenset(settings.import_hosts)
    return Bulk(
        settings.bulk_jobs,
        settings.bulk_total,
        settings.bulk_lines,
        settings.import_lines,
        settings.bulk_hours * 3600,
        hosts,
        Fetching(hosts),
    )


def _stands(server: Server) -> Callable[[str], Awaitable[bool]]:
    """Whether what allowed a job that runs in the background still counts."""

    async def stands(grant: str) -> bool:
        return await server.store.transaction(lambda tx: standing(tx, grant)) is not None

    return stands


def _site(settings: Settings) -> Site:
    return Site(
        settings.base_url, settings.fhir_base, settings.organisation, settings.tenant or None
    )


def _quotas(settings: Settings) -> Quotas:
    return Quotas(
        settings.rate_client,
        settings.rate_user,
        settings.rate_address,
        settings.rate_seconds,
        frozenset({*settings.rate_exempt, OWN}),
    )


def _policy(settings: Settings) -> Policy:
    return Policy(
        registration=settings.registration,
        jwks_hosts=frozenset(settings.jwks_hosts),
        access=settings.access_minutes * MINUTE,
        refresh=settings.refresh_days * DAY,
        session_idle=settings.session_minutes * MINUTE,
        session_most=settings.session_hours * HOUR,
    )


def _add_health(app: SalusApp, metrics: Metrics) -> None:
    """Whether the process lives, whether it serves, and what it counted."""

    @app.get("/health/live", include_in_schema=False)
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/health/ready", include_in_schema=False)
    @app.get("/health", include_in_schema=False)
    async def ready() -> Response:
        serving = app.fhir is not None
        return Response(
            encode({"status": "ready" if serving else "starting"}),
            200 if serving else 503,
            media_type="application/json",
        )

    @app.get("/metrics", include_in_schema=False)
    async def measured() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")


def _add_signpost(app: SalusApp, settings: Settings) -> None:
    """What is where, for whoever opens the bare address, or one that leads nowhere."""
    about = {
        "software": f"Salus {VERSION}",
        "fhir": settings.fhir_base,
        "metadata": f"{settings.fhir_base}/metadata",
        "health": f"{settings.base_url}/health",
        "metrics": f"{settings.base_url}/metrics",
    }

    async def signpost(request: Request) -> Response:
        if front.for_people(request):
            answer = await front.front(request)
        else:
            answer = Response(encode(about), media_type="application/json")
        answer.headers["Vary"] = "Accept"
        return answer

    for path in {"/", f"{urlsplit(settings.base_url).path}/"}:
        app.get(path, include_in_schema=False)(signpost)
    app.add_exception_handler(404, front.nowhere)
