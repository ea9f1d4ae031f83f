"""What readers notice of a bulk export: the latency of reads at a steady rate, without an export,
while one collects, and while its files are downloaded.

    python scripts/measure_export.py http://127.0.0.1:8080/fhir [--token TOKEN] [--rate 50]

Each read is timed from when it was due, not from when it was sent, so that a server that stalls is
not excused for what it kept waiting. https://hl7.org/fhir/uv/bulkdata/
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import httpx

_QUIET_SECONDS = 10.0
_KNOWN = 500  # patients that are read


class Export(NamedTuple):
    """What a client needs."""

    client: httpx.AsyncClient
    rate: float
    ids: list[str]
    kick_off: str = "/$export"


async def _read(export: Export, due: float, times: list[float]) -> None:
    answer = await export.client.get(f"/Patient/{random.choice(export.ids)}")
    answer.raise_for_status()
    times.append(time.monotonic() - due)


async def _reading(export: Export, until: Callable[[], bool]) -> list[float]:
    """Seconds of each read, at a steady rate until told."""
    times: list[float] = []
    due, tasks = time.monotonic(), set[asyncio.Task[None]]()
    while not until():
        due += 1 / export.rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(_read(export, due, times))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return times


async def _during(export: Export, name: str, work: Awaitable[str]) -> None:
    """Read while something goes on, and print both."""
    task, began = asyncio.ensure_future(work), time.monotonic()
    times = sorted(await _reading(export, task.done))
    told, seconds = await task, time.monotonic() - began

    def at(share: float) -> float:
        return times[min(len(times) - 1, int(len(times) * share))] * 1000

    print(
        f"{name:10} {seconds:6.1f} s  {len(times):6} reads  p50 {at(0.5):6.1f} ms"
        f"  p95 {at(0.95):6.1f} ms  p99 {at(0.99):6.1f} ms  max {at(1):6.1f} ms  {told}",
        flush=True,
    )


async def _quiet() -> str:
    await asyncio.sleep(_QUIET_SECONDS)
    return ""


async def _collect(export: Export, places: list[str]) -> str:
    begun = await export.client.get(export.kick_off, headers={"Prefer": "respond-async"})
    begun.raise_for_status()
    places.append(begun.headers["content-location"])
    while (answer := await export.client.get(places[0])).status_code in (202, 429):
        await asyncio.sleep(float(answer.headers["retry-after"]))
    count = sum(each["count"] for each in answer.json()["output"])
    return f"{count} resources listed"


async def _download(export: Export, places: list[str]) -> str:
    manifest = (await export.client.get(places[0])).json()
    size = 0
    for each in manifest["output"]:
        async with export.client.stream("GET", each["url"]) as answer:
            async for part in answer.aiter_raw():
                size += len(part)
    await export.client.delete(places[0])
    return f"{size / 1e6:.0f} MB downloaded"


async def measured(url: str, token: str | None, rate: float, of: str = "") -> None:
    """Measure and print. httpx.HTTPError."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120) as client:
        page = (await client.get(f"/Patient?_count={_KNOWN}&_elements=id")).json()
        ids = [each["resource"]["id"] for each in page["entry"]]
        export = Export(client, rate, ids, f"{of and '/'}{of}/$export")
        places: list[str] = []
        await _during(export, "quiet", _quiet())
        await _during(export, "collecting", _collect(export, places))
        await _during(export, "download", _download(export, places))


def main() -> None:
    parser = argparse.ArgumentParser(description="What readers notice of a bulk export")
    parser.add_argument("url", help="the FHIR base")
    parser.add_argument("--token", help="an access token")
    parser.add_argument("--rate", type=float, default=50, help="reads a second")
    parser.add_argument("--of", default="", help="Patient or Group/[id], whose export it is")
    asked = parser.parse_args()
    asyncio.run(measured(asked.url, asked.token, asked.rate, asked.of))


if __name__ == "__main__":
    main()
