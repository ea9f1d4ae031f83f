"""`tell` runs a story in a small authorization server of its own."""

from __future__ import annotations

import asyncio

import pytest
from argon2 import PasswordHasher

from smart_auth import passwords
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


@pytest.fixture(autouse=True)
def _cheap_passwords(monkeypatch):
    """Hashes of a hundredth of the cost, so that a hundred guesses take no minute."""
    cheap = PasswordHasher(1, 64, 1, type=passwords.Type.ID)
    monkeypatch.setattr(passwords, "_HASHER", cheap)
    monkeypatch.setattr(passwords, "_NOBODY", cheap.hash("nobody's"))
