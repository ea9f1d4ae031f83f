"""What is searched by beyond R4's parameters, and entries made anew, as the operator asks.

https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

from typing import Any

from conformance.json import parse
from conformance.outcome import FhirError
from fhir_server.audit.event import Caller
from fhir_server.interaction import Interaction
from salus.operator import requests
from salus.operator.clients import OPERATOR
from salus.problem import Problem
from salus.product import Product
from smart_auth.grant import Grant

MOST = 200  # rows of an answer: what a message of the channel has room for


async def reindex(product: Product, asked: requests.Reindex) -> requests.Reindexed:
    """Through `$reindex`, so that what is audited and refused is the same. Problem."""
    parts: list[dict[str, Any]] = [
        *({"name": "parameter", "valueUri": each} for each in asked.parameters),
        *({"name": "type", "valueCode": each} for each in asked.types),
    ]
    if asked.all:
        parts.append({"name": "all", "valueBoolean": True})
    shown = await _asked(product, parts)
    if asked.finish and product.server.parameters is not None:
        await product.server.parameters.finish()
        shown = await _asked(product, [])
    return shown


async def _asked(product: Product, parts: list[Any]) -> requests.Reindexed:
    resource = {"resourceType": "Parameters", "parameter": parts} if parts else None
    wanted = Interaction("operation", operation="reindex", resource=resource)
    caller = Caller(Grant.operator(OPERATOR), "local", product.settings.base_url)
    try:
        result = await product.server.perform(wanted, caller)
    except FhirError as error:
        raise Problem(error.issues[0].text) from None
    return _shown(parse(result.body))


def _shown(told: dict[str, Any]) -> requests.Reindexed:
    """What the operation says."""
    rows: list[requests.SearchedBy] = []
    building: list[tuple[str, int, int]] = []
    for part in told.get("parameter", ()):
        values = {
            each["name"]: next(value for key, value in each.items() if key.startswith("value"))
            for each in part["part"]
        }
        if part["name"] == "building":
            building.append((values["type"], int(values["done"]), int(values["total"])))
        else:
            values.setdefault("state", part["name"])
            rows.append(requests.SearchedBy(**values))
    return requests.Reindexed(tuple(rows[:MOST]), tuple(building))
