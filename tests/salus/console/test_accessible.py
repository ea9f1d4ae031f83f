"""Every page can be read by a screen reader, used by keyboard, at 400 % and without scripts."""

from __future__ import annotations

import asyncio
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import salus.console
from tests.salus.console.record import opened
from tests.salus.console.world import at_consent

SHEET = (Path(salus.console.__file__).parent / "console.css").read_text()
CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
EVERYTHING = "launch/patient launch/encounter openid offline_access patient/*.rs patient/Basic.cud"


def needs_chromium():
    if not CHROMIUM.exists():
        if os.environ.get("SALUS_CI") == "1":
            pytest.fail(f"needs Chromium at {CHROMIUM}")
        pytest.skip(f"needs Chromium at {CHROMIUM}")


async def _pages(world):
    """Every page that has a form or a list, as it is when there is something on it."""
    await world.account(display="Dr. May")
    await world.account("root", None, administrator=True)
    await world.client()
    found = {}
    browser = world.browser()
    await browser.authorize(scope=EVERYTHING)
    found["sign-in"] = browser.text
    found["wrong"] = (await browser.sign_in("dr.may", "a wrong password")).text
    found["patient"] = (await browser.sign_in()).text
    browser = await at_consent(world, scope=EVERYTHING)
    found["consent"] = browser.text
    await browser.send(action="allow")
    for path in ("", "/apps", "/password", "/second-factor", "/everywhere"):
        found[f"account{path}"] = (await browser.get(f"/account{path}")).text
    found["sign-out"] = (await browser.get("/sign-out")).text
    found["front"] = (await browser.get("/")).text
    found["nowhere"] = (await browser.get("/nowhere", headers={"accept": "text/html"})).text
    found["nothing"] = (await browser.get("/consent")).text
    browser = world.browser()
    await browser.sign_in("root")
    found["people"] = (await browser.get("/admin/people")).text
    found["clients"] = (await browser.get("/admin/apps")).text
    return found


class Page(HTMLParser):
    """What of a page assistive technology goes by."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.title = ""
        self._in_title = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._in_title = tag == "title"

    def handle_data(self, data):
        if self._in_title:
            self.title += data

    def handle_endtag(self, tag):
        self._in_title = False

    def all(self, *names: str) -> list[dict[str, str]]:
        return [found for tag, found in self.tags if tag in names]


def say_what_they_are(pages):
    for name, text in pages.items():
        page = Page(text)
        assert page.all("html") == [{"lang": "en"}], name
        assert page.title.strip().endswith("– Salus"), name
        for landmark in ("h1", "main", "header", "footer"):
            assert len(page.all(landmark)) == 1, (name, landmark)
        ids = [found["id"] for _, found in page.tags if "id" in found]
        assert len(ids) == len(set(ids)), name
        labelled = {found["for"] for found in page.all("label")}
        hidden = [f for f in page.all("input") if f.get("type") == "hidden" or "hidden" in f]
        for field in page.all("input", "select", "textarea"):
            assert field in hidden or field["id"] in labelled, (name, field)
        assert labelled <= set(ids), name
        for by in ("aria-describedby", "aria-labelledby"):
            assert set(" ".join(f.get(by, "") for _, f in page.tags).split()) <= set(ids), name
        assert len(page.all("fieldset")) == len(page.all("legend")), name
        assert '<a class="skip" href="#main">' in text, name


def need_no_scripts(pages):
    for name, text in pages.items():
        page = Page(text)
        assert not page.all("script", "style", "iframe", "object"), name
        for tag, found in page.tags:
            odd = [a for a in found if a.startswith("on") or a in ("style", "tabindex")]
            assert not odd, (name, tag)
        assert all(f.get("method") == "post" for f in page.all("form")), name
        buttons = [f for f in page.all("button") if f.get("type", "submit") == "submit"]
        assert len(buttons) == len(page.all("button")), name


def test_pages_say_what_they_are_and_what_each_field_is(tell):
    async def story(world):
        say_what_they_are(await _pages(world))

    tell(story)


def test_pages_need_no_scripts_and_no_styles_of_their_own(tell):
    async def story(world):
        need_no_scripts(await _pages(world))

    tell(story)


async def _audit_pages(clinic):
    """The pages that show the audit, with something on them, wrong, and empty."""
    await clinic.account("root", None, administrator=True)
    await clinic.account("pat", "Person/pat")
    for _ in range(60):
        await clinic.act(clinic.doctor(), "read", "Observation", "of-ann")
        await clinic.act(clinic.patient("bob"), "read", "Patient", "ann")
    found = {}
    for account, list in (("ann", "/account/access"), ("pat", "/account/access")):
        browser = await clinic.browser(account)
        found[account] = (await browser.get(list)).text
        entry = re.search(rf"{list}/\d+", browser.text)[0]
        found[f"{account}, an entry"] = (await browser.get(entry)).text
        found[f"{account}, wrong"] = (await browser.get(f"{list}?from=soon")).text
        found[f"{account}, empty"] = (await browser.get(f"{list}?to=2020-01-01")).text
    browser = await clinic.browser("root")
    found["audit"] = (await browser.get("/admin/access")).text
    entry = re.search(r"/admin/access/\d+", browser.text)[0]
    found["audit, found"] = (await browser.send(0, name="Able", action="find")).text
    found["audit, an entry"] = (await browser.get(entry)).text
    found["audit, empty"] = (await browser.get("/admin/access?to=2020-01-01")).text
    found["audit, wrong"] = (await browser.get("/admin/access?from=soon")).text
    return found


def test_the_pages_that_show_the_audit_are_as_the_others(tmp_path):
    async def story():
        async with opened(tmp_path) as clinic:
            return await _audit_pages(clinic)

    pages = asyncio.run(story())
    say_what_they_are(pages)
    need_no_scripts(pages)
    assert 'role="alert"' in pages["ann, wrong"]
    assert "<title>Error: Who looked" in pages["ann, wrong"]
    table = Page(pages["audit"])
    assert [found["scope"] for found in table.all("th")] == ["col"] * 4
    assert len({found["role"] for found in table.all("td")}) == 1
    asyncio.run(_flow(pages))


async def _flow(pages):
    """No page is wider than a small screen, nor than a wide one at 200 %."""
    needs_chromium()
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=str(CHROMIUM))
        for width in (320, 640):
            shown = await chromium.new_page(viewport={"width": width, "height": 512})
            for name, text in pages.items():
                sheet = f"<style>{SHEET}</style>"
                await shown.set_content(re.sub('<link rel="stylesheet"[^>]*>', sheet, text))
                wide = await shown.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, (name, width)
        await chromium.close()


def test_what_is_wrong_is_said_to_who_cannot_see_it(tell):
    async def story(world):
        pages = await _pages(world)
        assert 'role="alert"' in pages["wrong"]
        assert "<title>Error: Sign in" in pages["wrong"]
        assert 'role="alert"' not in pages["sign-in"]

    tell(story)


def _luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_apart(scheme):
    block = re.findall(r":root \{([^}]*)\}", SHEET)[scheme]
    colour = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))

    def contrast(one: str, other: str) -> float:
        low, high = sorted((_luminance(colour[one]), _luminance(colour[other])))
        return (high + 0.05) / (low + 0.05)

    for text, ground in (
        ("ink", "paper"),
        ("ink", "shade"),
        ("ink", "warn-shade"),
        ("soft", "paper"),
        ("soft", "shade"),
        ("act", "paper"),
        ("act", "shade"),
        ("act-ink", "act"),
        ("warn", "paper"),
        *((each, "paper") for each in ("good", "bad", "idle", "note")),
    ):
        assert contrast(text, ground) >= 4.5, (text, ground)
    for line, ground in (("line", "paper"), ("ring", "paper")):
        assert contrast(line, ground) >= 3, (line, ground)


def test_pages_flow_at_400_percent_and_are_answered_by_keyboard(tell):
    needs_chromium()

    async def story(world):
        from playwright.async_api import async_playwright

        pages = await _pages(world)
        async with async_playwright() as playwright:
            chromium = await playwright.chromium.launch(executable_path=str(CHROMIUM))
            context = await chromium.new_context(
                java_script_enabled=True, viewport={"width": 320, "height": 256}
            )
            shown = await context.new_page()
            sheet = f"<style>{SHEET}</style>"
            for name, text in pages.items():
                await shown.set_content(re.sub('<link rel="stylesheet"[^>]*>', sheet, text))
                wide = await shown.evaluate("document.documentElement.scrollWidth")
                assert wide <= 320, name
            await shown.set_content(re.sub('<link rel="stylesheet"[^>]*>', sheet, pages["consent"]))
            reached = []
            for _ in range(60):
                await shown.keyboard.press("Tab")
                reached.append(
                    await shown.evaluate(
                        "document.activeElement.name || document.activeElement.href"
                    )
                )
            await chromium.close()
        assert {"see.Patient", "see.Observation", "see.*", "offline", "action"} <= set(reached)

    tell(story)
