"""`tell` runs a story in a small authorization server of its own."""

from __future__ import annotations

import asyncio

import pytest

from tests.salus.console.world import BASE, opened


@pytest.fixture
def tell(tmp_path):
    """Runs an async function with a world."""

    def run(story, base: str = BASE):
        async def told():
            async with opened(tmp_path, base) as world:
                return await story(world)

        return asyncio.run(told())

    return run
