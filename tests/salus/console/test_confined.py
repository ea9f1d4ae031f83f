"""Who shares less with an app never opens more to it."""

from __future__ import annotations

import pytest

from smart_auth.model import GRANTS
from tests.salus.console.world import allowed, at_consent, redeem

MIXED = "launch/patient patient/Observation.rs user/Condition.rs user/Patient.rs"


@pytest.mark.requirement("13", "30")
@pytest.mark.parametrize("without", [(), ("see.Observation",)])
def test_what_is_asked_for_one_patient_is_granted_for_that_patient_only(tell, without):
    async def story(world):
        await world.account()
        await world.client()
        browser = await at_consent(world, scope=MIXED)
        assert "about others" not in browser.text
        told = await allowed(browser, without=without)
        assert (await redeem(world, told["code"])).status_code == 200
        records = await world.authority.keeper.transaction(GRANTS.all)
        assert [each.confined for _, each in records] == [True]

    tell(story)


def test_what_is_asked_of_all_whom_the_user_sees_says_so(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = await at_consent(world, scope="launch/patient user/Patient.rs")
        assert "about others" in browser.text
        await allowed(browser)
        records = await world.authority.keeper.transaction(GRANTS.all)
        assert [each.confined for _, each in records] == [False]

    tell(story)
