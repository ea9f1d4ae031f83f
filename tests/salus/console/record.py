"""The whole product in this process, with a few invented people, for the pages that show the audit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from conformance.outcome import FhirError
from fhir_server.audit.event import Caller
from fhir_server.interaction import Interaction, Result
from salus.app import create_app
from salus.product import Product
from salus.settings import Settings
from smart_auth import accounts, clients
from smart_auth.authority import Authority
from smart_auth.grant import Grant, Scope
from smart_auth.registrable import Registrable
from tests.salus.console.world import PASSWORD, Browser

BASE = "https://salus.test"
OPERATOR = Caller(Grant.operator("salus load"), "local", "salus.test")
EVIL = "<img src=x onerror=alert(1)>"


def people() -> list[dict[str, Any]]:
    """Two patients, who looks after them, and what is in their records."""

    def observation(id: str, patient: str) -> dict[str, Any]:
        subject = {"reference": f"Patient/{patient}"}
        code = {"coding": [{"system": "http://loinc.org", "code": "718-7"}]}
        return {
            "resourceType": "Observation",
            "id": id,
            "status": "final",
            "code": code,
            "subject": subject,
        }

    return [
        {"resourceType": "Patient", "id": "ann", "name": [{"given": ["Ann"], "family": "Able"}]},
        {"resourceType": "Patient", "id": "bob", "name": [{"given": ["Bob"], "family": "Bold"}]},
        {
            "resourceType": "Practitioner",
            "id": "may",
            "name": [{"prefix": ["Dr."], "given": ["May"], "family": f"Mild {EVIL}"}],
        },
        {
            "resourceType": "RelatedPerson",
            "id": "rae",
            "patient": {"reference": "Patient/ann"},
            "name": [{"text": "Rae Able"}],
        },
        {
            "resourceType": "Person",
            "id": "pat",
            "link": [{"target": {"reference": f"Patient/{id}"}} for id in ("ann", "bob")],
        },
        observation("of-ann", "ann"),
        observation("of-bob", "bob"),
    ]


@dataclass
class Clinic:
    """The product, and what is done in it."""

    app: Any
    product: Product

    @property
    def authority(self) -> Authority:
        return self.product.authority

    async def act(self, caller: Caller, code: str, type: str, id: str | None = None, **more: Any):
        """An interaction; the FhirError when it is refused."""
        try:
            return await self.product.server.perform(Interaction(code, type, id, **more), caller)
        except FhirError as error:
            return error

    def doctor(self, client: str = "chart") -> Caller:
        grant = Grant(
            "chart for may",
            agent="Practitioner/may",
            id="g1",
            client=client,
            scopes=(Scope("user", "*", "cruds"),),
            reach=None,
            account="dr.may",
        )
        return Caller(grant, "192.0.2.7", "salus.test", "request-1", "end-of-token")

    def patient(self, id: str) -> Caller:
        grant = Grant(
            "chart for a patient",
            agent=f"Patient/{id}",
            id=f"g-{id}",
            client="chart",
            scopes=(Scope("patient", "*", "rs"),),
            patient=id,
            reach=frozenset({id}),
            confined=True,
            account=id,
        )
        return Caller(grant, "192.0.2.8", "salus.test")

    async def browser(self, name: str) -> Browser:
        """Somebody's, signed in."""
        browser = Browser(self)  # type: ignore[arg-type]
        await browser.sign_in(name)
        assert "<h1>Your account</h1>" in browser.text, browser.text
        return browser

    async def account(self, name: str, who: str | None, **more: Any) -> None:
        await self.authority.keeper.transaction(
            lambda tx: accounts.create(self.authority, tx, name, who=who, **more), write=True
        )
        await accounts.set_password(self.authority, name, PASSWORD)


@asynccontextmanager
async def opened(folder, **settings: Any) -> AsyncIterator[Clinic]:
    chosen = Settings(data=folder / "data", keys=folder / "keys", base_url=BASE, **settings)
    app = create_app(chosen)
    async with app.router.lifespan_context(app):
        clinic = Clinic(app, app.state.product)
        for each in people():
            made = await clinic.act(
                OPERATOR, "update", each["resourceType"], each["id"], resource=each
            )
            assert isinstance(made, Result), made
        chart = Registrable(name="Chart <i>App</i>", redirect_uris=("https://app.example.com/",))
        await clients.register(clinic.authority, chart, id="chart")
        await clinic.account("ann", "Patient/ann", display="Ann Able")
        await clinic.account("dr.may", "Practitioner/may")
        yield clinic
