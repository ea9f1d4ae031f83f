"""Passwords: what may be one, and argon2id in threads of its own, so that signing in stops nobody.

https://www.rfc-editor.org/rfc/rfc9106, https://pages.nist.gov/800-63-4/sp800-63b.html
"""

from __future__ import annotations

import asyncio
import unicodedata
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher, Type
from argon2.exceptions import Argon2Error, InvalidHashError

LEAST, MOST = 12, 256  # characters
_DISTINCT = 5  # different characters at least
_COMMON = (  # beginnings of what is guessed first, at this length
    "password",
    "passw0rd",
    "12345",
    "qwerty",
    "iloveyou",
    "abcdef",
    "letmein",
    "welcome1",
    "adminadmin",
)
_MEMORY = 46 * 1024  # KiB
_HASHER = PasswordHasher(time_cost=2, memory_cost=_MEMORY, parallelism=1, type=Type.ID)
# Of no password; an attempt at an account that is not there takes as long as at one that is.
_NOBODY = f"$argon2id$v=19$m={_MEMORY},t=2,p=1${'A' * 22}${'A' * 43}"
# Two at a time: what sign-in may take of the machine's memory and processors, whoever asks.
_THREADS = ThreadPoolExecutor(2, "password")


class WeakPassword(ValueError):
    """A password that is not accepted; the text says why, for the person who chose it."""


def accept(password: str, name: str) -> None:
    """WeakPassword unless this may be the password of the account with that name."""
    folded = _normal(password).casefold()
    if not LEAST <= len(password) <= MOST:
        raise WeakPassword(f"A password has {LEAST} to {MOST} characters. A short sentence is good")
    if len(set(folded)) < _DISTINCT:
        raise WeakPassword(f"A password has at least {_DISTINCT} different characters")
    if len(name) > 3 and name.casefold() in folded:
        raise WeakPassword("The password contains your name for signing in. Choose another")
    if folded.startswith(_COMMON):
        raise WeakPassword("Passwords that begin like this are guessed first. Choose another")


async def hashed(password: str) -> str:
    """A password as it is kept."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_THREADS, _hash, password)


async def verified(kept: str | None, password: str) -> bool:
    """Whether this is the password; None, an account that has none, takes as long."""
    if len(password) > MOST:
        password = ""  # as long as any other wrong one
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_THREADS, _verify, kept, password) and kept is not None


def stale(kept: str) -> bool:
    """Whether a password was hashed with other parameters than today's."""
    return _HASHER.check_needs_rehash(kept)


def _hash(password: str) -> str:
    return _HASHER.hash(_normal(password))


def _verify(kept: str | None, password: str) -> bool:
    try:
        return _HASHER.verify(kept or _NOBODY, _normal(password))
    except (Argon2Error, InvalidHashError):
        return False


def _normal(password: str) -> str:
    """The same characters however a keyboard composes them."""
    return unicodedata.normalize("NFKC", password)
