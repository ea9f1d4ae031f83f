"""A batch is performed by a store that may run its work again."""

import asyncio
import json
from dataclasses import replace

from fhir_server.audit.event import Caller
from fhir_server.interaction import Interaction, Preferences
from fhir_server.server import Server
from fhir_server.storage.memory import MemoryStore
from smart_auth.grant import Grant
from tests.security.clinic import core

CALLER = Caller(Grant.operator("test"), "127.0.0.1", "here")
PATIENTS = 5


class _RunsTwice(MemoryStore):
    """What an engine does when a neighbour in the same commit failed."""

    async def transaction(self, work, write=False):
        if not write:
            return await super().transaction(work)

        class _Undone(Exception):
            pass

        async def undone(tx):
            await work(tx)
            raise _Undone

        try:
            await super().transaction(undone, write=True)
        except _Undone:
            return await super().transaction(work, write=True)
        raise AssertionError("it was undone")


def batch(bytes_allowed):
    made = replace(core(), limits=replace(core().limits, bundle_bytes=bytes_allowed))
    entry = {
        "request": {"method": "POST", "url": "Patient"},
        "resource": {"resourceType": "Patient", "gender": "female"},
    }
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry] * PATIENTS}
    asked = Interaction("batch", resource=bundle, prefer=Preferences("representation"))
    result = asyncio.run(Server(_RunsTwice(), made).perform(asked, CALLER))
    return [each["response"]["status"][:3] for each in json.loads(result.body)["entry"]]


ANSWER = 220  # bytes, a little more than one of these patients as stored


def test_answers_are_counted_once_however_often_a_store_runs_the_work():
    assert batch(PATIENTS * ANSWER) == ["201"] * PATIENTS


def test_what_was_written_is_said_to_be_and_what_would_be_too_much_is_not_begun():
    assert batch(ANSWER) == ["201", "201", "413", "413", "413"]
