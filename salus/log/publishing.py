"""The log of a server as its settings have it: who signs, who cosigns, where checkpoints go.

https://c2sp.org/tlog-checkpoint
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import httpx
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from conformance.outcome import FhirError
from fhir_server.audit.publishing import Outlet, Publisher
from fhir_server.log.note import LOG, WITNESS, Malformed, Verifier
from fhir_server.log.signing import Signer, Witness
from fhir_server.server import Server
from fhir_server.storage.store import StoreError
from salus.happenings import event
from salus.log.client import RemoteSigner, RemoteWitness
from salus.log.outlets import AppendedFile, Webhook
from salus.log.own import Sealer, own_signer
from salus.settings import Settings, is_loopback
from smart_auth.authority import Happening

TROUBLE = "salus_log_trouble_seconds"
OWN = frozenset({"log", "signer", "store"})  # what troubles of the publisher itself are about


@asynccontextmanager
async def published(settings: Settings, server: Server, sealer: Sealer) -> AsyncIterator[Publisher]:
    """The publisher of a server's log, at work; at the end it signs what came last. StoreError."""
    async with httpx.AsyncClient(follow_redirects=False) as client:
        publisher = Publisher(
            server.store,
            await _signer(settings, server, sealer, client),
            server.core.clock,
            _witnesses(settings, client),
            list(_outlets(settings, client)),
            _alarm(server),
            settings.log_publish_seconds,
        )
        await publisher.start()
        server.log = publisher
        working = asyncio.create_task(publisher.run())
        try:
            yield publisher
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
            await publisher.close()
            server.log = None


async def _signer(
    settings: Settings, server: Server, sealer: Sealer, client: httpx.AsyncClient
) -> Signer:
    if not settings.log_signer:
        host = urlsplit(settings.base_url).netloc
        return await own_signer(server.store, sealer, settings.keys, host)
    token = settings.log_signer_token
    key = _verifier(settings.log_signer_key, "SALUS_LOG_SIGNER_KEY", LOG)
    if token is None:
        raise StoreError("SALUS_LOG_SIGNER needs SALUS_LOG_SIGNER_TOKEN, the file of its token")
    where = urlsplit(settings.log_signer)
    if where.scheme != "https" and not is_loopback(where.hostname or ""):
        raise StoreError(
            "The signer's token travels over https only: begin SALUS_LOG_SIGNER with https, not "
            f"{settings.log_signer}"
        )
    return RemoteSigner(settings.log_signer, token.read_text().strip(), key, client)


def _witnesses(settings: Settings, client: httpx.AsyncClient) -> list[Witness]:
    made: list[Witness] = []
    for each in settings.log_witness:
        key, _, url = each.partition(" ")
        made.append(
            RemoteWitness(url.strip(), _verifier(key, "SALUS_LOG_WITNESS", WITNESS), client)
        )
    return made


def _outlets(settings: Settings, client: httpx.AsyncClient) -> Iterator[Outlet]:
    if settings.log_publish_file is not None:
        yield AppendedFile(settings.log_publish_file)
    if settings.log_publish_url:
        yield Webhook(settings.log_publish_url, client)


def _verifier(text: str, variable: str, type: int) -> Verifier:
    """StoreError."""
    try:
        found = Verifier.parse(text)
    except Malformed as error:
        raise StoreError(f"{variable} is no verifier key: {error}") from None
    if found.type != type:
        kind = "a log" if type == LOG else "a witness"
        raise StoreError(f"{variable} must be the key of {kind}, and {found.name} is of another")
    return found


def _alarm(server: Server) -> Callable[[str], Awaitable[None]]:
    site = urlsplit(server.core.base_url).netloc

    async def alarm(text: str) -> None:
        with suppress(FhirError):  # it is in the operator's log already
            told = Happening("log-alarm", False, detail=text)
            await server.record(event(told, site, server.core.clock()))

    return alarm


class LogMetrics(Collector):
    """How far the log is signed, for Prometheus."""

    def __init__(self) -> None:
        self.publisher: Publisher | None = None

    def collect(self) -> Iterator[Metric]:
        if self.publisher is None:
            return
        now = self.publisher.progress
        yield GaugeMetricFamily("salus_log_leaves", "Leaves of the log", now.size)
        yield GaugeMetricFamily("salus_log_signed_leaves", "Leaves that are signed", now.signed)
        yield GaugeMetricFamily(
            "salus_log_signed_seconds", "When the log was signed, since 1970", now.at / 1_000_000
        )
        yield GaugeMetricFamily(
            "salus_log_cosignatures", "Witnesses of the newest checkpoint", now.cosigned
        )
        yield GaugeMetricFamily("salus_log_troubles", "What is wrong now", len(now.troubles))
        yield self._since(self.publisher)
        yield CounterMetricFamily(
            "salus_log_served", "Checkpoints and tiles that were asked for", now.served
        )
        yield CounterMetricFamily(
            "salus_log_alarms", "Contradictions of what was signed", now.alarms
        )

    def _since(self, publisher: Publisher) -> Metric:
        """Who is in trouble. Places are not named: their addresses may be secret."""
        made = GaugeMetricFamily(
            TROUBLE, "Since when something is wrong, since 1970", labels=("kind", "name")
        )
        first: dict[tuple[str, str], int] = {}
        for who, at in publisher.progress.since.items():
            kind = "witness" if who in publisher.witnesses else who if who in OWN else "place"
            key = kind, who if kind == "witness" else ""
            first[key] = min(at, first.get(key, at))
        for labels, at in first.items():
            made.add_metric(labels, at / 1_000_000)
        return made
