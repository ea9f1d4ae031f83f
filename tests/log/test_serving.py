"""Beyond its machine a signer speaks https, and serves a renewed certificate without a restart."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl

from cryptography.hazmat.primitives.serialization import Encoding

from salus import tls
from salus.log.http import Answer, application
from salus.log.serving import Listening, serving
from tests.ports import free_port
from tests.salus.test_tls import certificate


def test_a_renewed_certificate_is_served_without_a_restart(tmp_path, monkeypatch):
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.05)
    cert, key, first = certificate(tmp_path)
    port = free_port()
    app = application({"/": {"GET": lambda asked: Answer(200, "here\n")}}, print)
    told: list[str] = []
    seen: list[bytes] = []

    async def shown():
        pem = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
        return ssl.PEM_cert_to_DER_cert(pem)

    async def lived():
        ready = asyncio.Event()
        where = Listening("127.0.0.1", port, (cert, key))
        served = asyncio.create_task(serving(app, where, ready.set, told.append))
        await ready.wait()
        seen.append(await shown())
        _, _, second = certificate(tmp_path)
        async with asyncio.timeout(10):
            while seen[-1] == seen[0]:
                await asyncio.sleep(0.05)
                seen.append(await shown())
        os.kill(os.getpid(), signal.SIGTERM)
        await served
        return second

    second = asyncio.run(lived())
    assert [seen[0], seen[-1]] == [each.public_bytes(Encoding.DER) for each in (first, second)]
    assert told == ["The certificate was read again"]
