"""Work of its own threads: few at once for one caller, few in all, each for a time."""

import asyncio
from threading import Event

import pytest

from conformance.outcome import FhirError
from conformance.patience import look
from fhir_server.apart import Apart
from smart_auth.grant import Grant
from terminology.compose import Budget

ONE, TWO, THREE = (Grant(name, client=name) for name in ("one", "two", "three"))


async def begun(apart, *whose, until):
    """Works of these callers that are going on until the event."""
    made = [asyncio.create_task(apart.run(each, until.wait)) for each in whose]
    await asyncio.sleep(0.05)
    return made


async def refused(apart, whose):
    with pytest.raises(FhirError) as error:
        await apart.run(whose, lambda: None)
    return error.value.status, error.value.issues[0].code


def test_one_caller_has_few_at_once_and_all_have_few_together():
    async def act():
        until, apart = Event(), Apart(most=2, each=1, waiting=0)
        first = await begun(apart, ONE, until=until)
        assert await refused(apart, ONE) == (429, "throttled")
        assert await apart.run(TWO, lambda: "done") == "done"
        rest = await begun(apart, TWO, until=until)
        assert await refused(apart, THREE) == (503, "transient")
        until.set()
        await asyncio.gather(*first, *rest)
        assert await apart.run(ONE, lambda: "again") == "again"

    asyncio.run(act())


def test_those_who_wait_have_their_turn_and_no_longer_than_told():
    async def act():
        until, apart = Event(), Apart(most=1, each=1, waiting=2, behind=1, wait=0.2)
        first = await begun(apart, ONE, until=until)
        waiting = asyncio.create_task(apart.run(TWO, lambda: "turn"))
        late = asyncio.create_task(apart.run(ONE, lambda: "late"))
        await asyncio.sleep(0.05)
        assert await refused(apart, ONE) == (429, "throttled")
        until.set()
        assert await waiting == "turn"
        assert await late == "late"
        await asyncio.gather(*first)
        again = Event()
        rest = await begun(apart, ONE, until=again)
        assert await refused(apart, TWO) == (503, "transient")  # after its 0.2 s
        again.set()
        await asyncio.gather(*rest)
        assert not apart._line
        assert not apart._running

    asyncio.run(act())


def test_a_work_ends_when_its_time_is_over_or_nobody_waits_for_it():
    ended = Event()

    def endless():
        try:
            while True:
                look()
        finally:
            ended.set()

    def spending():
        budget = Budget(2**60)
        while True:
            budget.spend(1)

    async def act():
        for work in (endless, spending):
            with pytest.raises(FhirError) as error:
                await Apart(seconds=0.1).run(ONE, work)
            assert (error.value.status, error.value.issues[0].code) == (413, "too-costly")
        ended.clear()
        apart = Apart(seconds=30.0)
        going = asyncio.create_task(apart.run(ONE, endless))
        await asyncio.sleep(0.05)
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        assert await asyncio.to_thread(ended.wait, 5)
        await asyncio.sleep(0.05)
        assert not apart._running

    asyncio.run(act())
