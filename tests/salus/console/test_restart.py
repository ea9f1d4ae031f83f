"""A server that stops in the middle of a launch goes on where it was."""

from __future__ import annotations

import asyncio

from smart_auth import launches
from smart_auth.model import LaunchContext
from tests.salus.console.world import allowed, answered, opened, redeem


def test_a_restart_between_any_two_pages_loses_nothing(tmp_path):
    async def story():
        async with opened(tmp_path) as world:
            may = await world.account()
            client = (await world.client()).client
            context = LaunchContext(patient="bob")
            handle = await launches.launch(world.authority, client, may, context)
            browser = world.browser()
        async with opened(tmp_path) as world:
            browser = browser.moved(world)
            await browser.authorize(scope="launch patient/Patient.rs", launch=handle)
            assert "<h1>Sign in</h1>" in browser.text
        async with opened(tmp_path) as world:
            browser = browser.moved(world)
            await browser.sign_in()
            assert "the health record of Bob" in browser.text
        async with opened(tmp_path) as world:
            code = (await allowed(browser.moved(world)))["code"]
        async with opened(tmp_path) as world:
            token = (await redeem(world, code)).json()
            assert token["patient"] == "bob"
        async with opened(tmp_path) as world:
            grant = await world.app.state.tokens.grant(token["access_token"])
            assert grant.patient == "bob"
            browser = browser.moved(world)
            await browser.get("/account/apps")
            assert "Disconnect" in browser.text
            silent = answered(await browser.authorize(prompt="none"))
            assert silent["error"] == "consent_required"

    asyncio.run(story())
