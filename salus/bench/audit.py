"""What an AuditEvent costs: processor time and bytes on disk, in an engine of its own.

https://hl7.org/fhir/R4/auditevent.html
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from fhir_server.audit.event import Caller, events
from fhir_server.ids import new_id
from fhir_server.interaction import Interaction, Result
from salus.app import open_server
from salus.bench import machine
from salus.settings import Settings
from smart_auth.grant import Grant

BATCH = 32  # events in one commit, as with 32 clients
BATCHES = 1_000
PATIENTS = 1_000


async def audit_cost(folder: Path) -> dict[str, Any]:
    """Microseconds of processor time and bytes of one event of a read: its making, its keys and
    its share of a commit."""
    settings = Settings(data=folder / "data", keys=folder / "keys", open=True)
    caller = Caller(Grant.open(), "127.0.0.1", "127.0.0.1:8080")
    ids = [new_id() for _ in range(PATIENTS)]
    async with open_server(settings) as server:
        before = machine.folder_bytes(settings.data)
        cpu, began = time.process_time(), time.perf_counter()
        for batch in range(BATCHES):
            made = []
            for i in range(BATCH):
                id = ids[(batch * BATCH + i) % PATIENTS]
                result = Result(200, touched=(("Patient", id, 1),), patients=(f"Patient/{id}",))
                asked = Interaction("read", "Patient", id)
                made += events(asked, caller, result, server.core.clock(), 200)
            await server.store.record(made)
        cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
    count = BATCH * BATCHES
    return {
        "cpu_us_an_event": cpu / count * 1e6,
        "bytes_an_event": (machine.folder_bytes(settings.data) - before) / count,
        "events_a_second": count / seconds,
    }
