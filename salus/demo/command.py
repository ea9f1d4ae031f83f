"""`salus demo`: seed the invented clinic once, then serve it, with an EHR to launch apps from.

https://hl7.org/fhir/R4/http.html#transaction
"""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from rich.console import Console
from rich.markup import escape

from conformance.outcome import FhirError
from fhir_server.audit.event import Caller
from fhir_server.interaction import Interaction, Preferences
from fhir_server.server import Server
from fhir_server.storage.keys import write_durably
from salus.demo import ehr
from salus.demo.clinic import clinic
from salus.demo.people import PEOPLE, settle
from salus.problem import Problem
from salus.serve import serve
from salus.settings import Settings, default_data, default_keys, is_loopback, read_settings
from smart_auth.grant import Grant

NAME = "salus-demo"  # of its folders, beside those of a real server
MARK = "salus.demo"  # the file that marks a data folder as a demo's
PATIENTS = 20  # unless asked for more or less
TRY = (
    ("all patients, by name", "/Patient?_sort=family&_count=5"),
    ("blood pressures above 140", "/Observation?component-code-value-quantity=8480-6$gt140"),
    ("who takes metformin", "/MedicationRequest?code=861007&_include=MedicationRequest:subject"),
    ("patients with diabetes", "/Patient?_has:Condition:patient:code=44054006"),
    ("virtual visits", "/Encounter?class=VR&_sort=-date"),
    ("who has looked", "/AuditEvent?_count=5&_sort=-date"),
)


class Mark(msgspec.Struct, frozen=True):
    """Kept in a demo's data folder: of what clinic it is, and how many resources it has once it is
    whole. The same patients and day make the same Bundles, so that seeding can be resumed."""

    patients: int
    day: date
    resources: int | None = None


def run(options: dict[str, Any], patients: int | None, and_serve: bool, console: Console) -> None:
    """Seed the demo's folder, and serve it. Problem, StoreError."""
    chosen = {
        **options,
        "data": options["data"] or default_data(NAME),
        "keys": options["keys"] or default_keys(NAME),
        "open": False,
    }
    settings = read_settings(**chosen)
    reached = (settings.host, urlsplit(settings.base_url).hostname or "")
    if not all(map(is_loopback, reached)):
        raise Problem(
            "Everybody knows the passwords of the demo, so it serves this machine only: leave "
            "--host and SALUS_BASE_URL away"
        )
    mark = _mark(settings.data, patients or PATIENTS)
    if patients not in (None, mark.patients):
        console.print(
            f"--patients is ignored: {escape(str(settings.data))} has a clinic of {mark.patients} "
            "already; name another folder with --data, or remove that",
            soft_wrap=True,
            highlight=False,
        )
    resources = asyncio.run(_prepare(settings, mark))
    if resources != mark.resources:
        _keep(settings.data, msgspec.structs.replace(mark, resources=resources))
    console.print(f"The invented clinic is in {settings.data}: {resources} resources.")
    if and_serve:
        _suggest(settings, console)
        serve(settings, console, ehr.add)


def _mark(data: Path, patients: int) -> Mark:
    """The mark of a demo's folder, made where there is nothing yet. Problem when the folder holds
    anything else."""
    if (data / MARK).is_file():
        try:
            return msgspec.json.decode((data / MARK).read_bytes(), type=Mark)
        except msgspec.DecodeError:
            raise Problem(f"{data / MARK} is damaged: remove {data} and start again") from None
    if data.is_dir() and any(data.iterdir()):
        raise Problem(
            f"{data} holds something that is no demo: name a folder that is not there yet with "
            "--data, or leave that away"
        )
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _keep(data, Mark(patients, datetime.now(UTC).date()))


def _keep(data: Path, mark: Mark) -> Mark:
    write_durably(data / MARK, msgspec.json.encode(mark))
    return mark


async def _prepare(settings: Settings, mark: Mark) -> int:
    """The clinic, who works there, and the app; how many resources the clinic has."""
    from salus.app import open_product

    async with open_product(settings) as product:
        resources = mark.resources or await _seed(product.server, settings, mark)
        await settle(product.server, product.authority)
    return resources


async def _seed(server: Server, settings: Settings, mark: Mark) -> int:
    """Store the clinic's Bundles; those that are there already stay as they are, because each
    carries a key. How many resources the clinic has."""
    stored = 0
    caller = Caller(Grant.operator("salus demo"), "127.0.0.1", settings.base_url)
    for number, bundle in enumerate(clinic(mark.patients, mark.day)):
        asked = Interaction(
            "transaction",
            resource=bundle,
            prefer=Preferences(returns="minimal"),
            once=f"salus demo:{number}",
        )
        try:
            await server.perform(asked, caller)
        except FhirError as error:
            raise Problem(
                f"The clinic could not be stored ({error}): remove {settings.data} and start again"
            ) from None
        stored += len(bundle["entry"])
    return stored


def _suggest(settings: Settings, console: Console) -> None:
    """Where to click, who can sign in, and what to ask by curl."""

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    console.print(
        f"[bold]Launch an app in two clicks:[/] {escape(settings.base_url)}{ehr.EHR_PATH}",
        highlight=False,
        soft_wrap=True,
    )
    say("Everybody may know these, so sign in as:")
    for each in PEOPLE:
        say(f"  {each.account:<10}password {each.password:<20}a {each.role}")
    say("Searches to try, once it is up, with a token as in the line with curl below:")
    for what, path in TRY:
        say(f"  {what:<28}{settings.fhir_base}{path}")
