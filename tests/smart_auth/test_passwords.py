"""Passwords cost what they should, whoever's they are."""

from __future__ import annotations

import asyncio

import pytest

from smart_auth import passwords


def test_an_attempt_at_nobody_costs_what_one_at_somebody_does():
    async def story():
        kept = await passwords.hashed("a sentence of mine")
        assert kept.startswith("$argon2id$v=19$m=47104,t=2,p=1$")
        assert not passwords.stale(kept)
        assert not passwords.stale(passwords._NOBODY)
        assert await passwords.verified(kept, "a sentence of mine")
        assert not await passwords.verified(kept, "a sentence of thine")
        assert not await passwords.verified(None, "a sentence of mine")

    asyncio.run(story())


def test_a_password_is_the_same_however_a_keyboard_composes_it():
    async def story():
        kept = await passwords.hashed("fünf Äpfel am Baum")
        assert await passwords.verified(kept, "fu\u0308nf A\u0308pfel am Baum")

    asyncio.run(story())


def test_a_long_guess_is_wrong_and_no_error():
    async def story():
        kept = await passwords.hashed("a sentence of mine")
        assert not await passwords.verified(kept, "x" * 60_000)

    asyncio.run(story())


@pytest.mark.parametrize(
    "password",
    ["too short", "x" * 257, "aaaaaaaaaaaaaa", "Password of mine", "i am DR.MAY here", "1" * 11],
)
def test_weak_passwords_are_refused(password):
    with pytest.raises(passwords.WeakPassword):
        passwords.accept(password, "dr.may")


@pytest.mark.parametrize("password", ["twelve lette", "correct horse", "x1y2z" * 51 + "q"])
def test_others_are_accepted(password):
    passwords.accept(password, "dr.may")
