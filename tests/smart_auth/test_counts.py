"""Attempts in fixed windows."""

import pytest

from smart_auth import counts

WINDOW = 1000


@pytest.mark.requirement("40")
def test_a_window_begins_with_the_first_attempt_and_counts_until_its_end(served):
    now = served.clock()

    async def attempts(tx):
        return [
            await counts.counted(tx, "a", WINDOW, now),
            await counts.remaining(tx, "a", WINDOW, now),
            await counts.add(tx, "a", WINDOW, now),
            await counts.add(tx, "a", WINDOW, now + WINDOW - 1),
            await counts.counted(tx, "a", WINDOW, now + WINDOW - 1),
            await counts.remaining(tx, "a", WINDOW, now + 600),
            await counts.counted(tx, "b", WINDOW, now),
            await counts.counted(tx, "a", WINDOW, now + WINDOW),
            await counts.add(tx, "a", WINDOW, now + WINDOW),
        ]

    assert served.transaction(attempts) == [0, 0, 1, 2, 2, 400, 0, 0, 1]


@pytest.mark.requirement("40")
def test_what_is_forgotten_begins_anew(served):
    now = served.clock()

    async def attempts(tx):
        await counts.add(tx, "a", WINDOW, now)
        await counts.forget(tx, "a")
        return await counts.counted(tx, "a", WINDOW, now)

    assert served.transaction(attempts) == 0


@pytest.mark.requirement("40")
def test_a_clock_that_went_back_does_not_make_a_window_longer(served):
    now = served.clock()

    async def attempts(tx):
        await counts.add(tx, "a", WINDOW, now)
        return await counts.counted(tx, "a", WINDOW, now - 1)

    assert served.transaction(attempts) == 0
