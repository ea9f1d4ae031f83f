"""A sign-in that is under way while the account changes opens nothing."""

from __future__ import annotations

import pytest

from smart_auth import accounts, sessions
from smart_auth.factors import FACTORS
from smart_auth.sessions import Outdated
from tests.salus.console.world import PASSWORD


async def _shown(world):
    """The account as it was when the right password was shown."""
    account = await accounts.read(world.authority, "dr.may")
    assert await FACTORS[0].proven(world.authority, account, PASSWORD)
    return account


def test_a_password_that_is_changed_meanwhile_opens_no_session(tell):
    async def story(world):
        await world.account()
        shown = await _shown(world)
        await accounts.set_password(world.authority, "dr.may", "another long enough phrase")

        with pytest.raises(Outdated):
            await sessions.begin(world.authority, shown, ("pwd",), True)

        now = await accounts.read(world.authority, "dr.may")
        cookie = await sessions.begin(world.authority, now, ("pwd",), True)
        assert await sessions.signed_in(world.authority, cookie)

    tell(story)


@pytest.mark.parametrize(
    "change", [accounts.disable, accounts.sign_out_everywhere, accounts.remove]
)
def test_an_account_that_ends_meanwhile_opens_no_session(tell, change):
    async def story(world):
        await world.account()
        shown = await _shown(world)
        await change(world.authority, "dr.may")

        with pytest.raises(Outdated):
            await sessions.begin(world.authority, shown, ("pwd",), True)

    tell(story)
