"""`salus demo`: seed the invented clinic once, then serve it.

https://hl7.org/fhir/R4/http.html#transaction
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from fhir_server.audit.event import Caller
from fhir_server.interaction import Interaction, Preferences
from salus.demo.clinic import clinic
from salus.problem import Problem
from salus.serve import serve
from salus.settings import Settings, default_data, default_keys, read_settings
from smart_auth.grant import Grant

NAME = "salus-demo"  # of its folders, beside those of a real server
TRY = (
    ("all patients, by name", "/Patient?_sort=family&_count=5"),
    ("blood pressures above 140", "/Observation?component-code-value-quantity=8480-6$gt140"),
    ("who takes metformin", "/MedicationRequest?code=861007&_include=MedicationRequest:subject"),
    ("patients with diabetes", "/Patient?_has:Condition:patient:code=44054006"),
    ("virtual visits", "/Encounter?class=VR&_sort=-date"),
    ("who has looked", "/AuditEvent?_count=5&_sort=-date"),
)


def run(options: dict[str, Any], patients: int, and_serve: bool, console: Console) -> None:
    """Seed the demo's folder, and serve it. Problem, StoreError."""
    chosen = {
        **options,
        "data": options["data"] or default_data(NAME),
        "keys": options["keys"] or default_keys(NAME),
        "open": True,
    }
    settings = read_settings(**chosen)
    stored = asyncio.run(_seed(settings, patients))
    console.print(f"The invented clinic is in {settings.data}: {stored} resources.")
    if and_serve:
        _suggest(settings, console)
        serve(settings, console)


async def _seed(settings: Settings, patients: int) -> int:
    """Store the clinic's Bundles; those that are there already stay as they are, because each
    carries a key. How many resources the clinic has."""
    from salus.app import open_server

    stored = 0
    async with open_server(settings) as server:
        caller = Caller(Grant.operator("salus demo"), "127.0.0.1", settings.base_url)
        for number, bundle in enumerate(clinic(patients, datetime.now(UTC).date())):
            asked = Interaction(
                "transaction",
                resource=bundle,
                prefer=Preferences(returns="minimal"),
                once=f"salus demo:{number}",
            )
            result = await server.perform(asked, caller)
            if result.status != 200:
                raise Problem(f"The clinic could not be stored: status {result.status}")
            stored += len(bundle["entry"])
    return stored


def _suggest(settings: Settings, console: Console) -> None:
    console.print("Look at, once it is up:")
    for what, path in TRY:
        console.print(f"  {what:<28}{settings.fhir_base}{path}", highlight=False, soft_wrap=True)
