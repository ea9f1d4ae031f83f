"""One-time codes of an app on one's telephone, each of which counts once, and the recovery codes
for when the telephone is lost.

https://www.rfc-editor.org/rfc/rfc6238
"""

from __future__ import annotations

import secrets

import pyotp

from smart_auth.authority import Sealer
from smart_auth.model import SECOND, Account
from smart_auth.records import digest

_STEP = 30  # seconds
_DIGITS = 6
_LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # none that is taken for another
_RECOVERY = 10  # codes, of 12 letters of 31 each: 59 bits


def new_seed() -> str:
    """160 random bits in base 32, as telephones read them."""
    return pyotp.random_base32()


def link(seed: str, account: str, issuer: str) -> str:
    """The address that telephones add an account by."""
    return _codes(seed).provisioning_uri(name=account, issuer_name=issuer)


def sealed(seed: str, account: str, sealer: Sealer) -> bytes:
    """A seed as it is kept: no use to who reads the store, nor in another account."""
    return sealer.wrap(seed.encode(), _context(account))


def unsealed(kept: bytes, account: str, sealer: Sealer) -> str:
    return sealer.unwrap(kept, _context(account)).decode()


def step(seed: str, code: str, now: int, last: int) -> int | None:
    """The 30-second step, later than `last`, whose code this is; None for a wrong one. A clock may
    be one step off. `now`: microseconds."""
    typed = code.replace(" ", "")
    current = now // SECOND // _STEP
    found = None
    for each in (current - 1, current, current + 1):
        same = secrets.compare_digest(
            _codes(seed).generate_otp(each).encode(), typed.encode("utf-8", "replace")
        )
        found = each if same and each > last else found
    return found


def recovery_codes() -> list[str]:
    """Codes that replace the telephone, each once."""
    return ["-".join(_random_letters(4) for _ in range(3)) for _ in range(_RECOVERY)]


def recovery_digest(code: str) -> str:
    """What is kept of a recovery code, however it is typed."""
    return digest("".join(filter(str.isalnum, code)).upper())


def left(account: Account, code: str) -> tuple[str, ...] | None:
    """The recovery codes that are left after this one was used; None when it is none of them."""
    used = recovery_digest(code)
    rest = tuple(each for each in account.recovery if not secrets.compare_digest(each, used))
    return rest if len(rest) < len(account.recovery) else None


def _random_letters(count: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(count))


def _codes(seed: str) -> pyotp.TOTP:
    return pyotp.TOTP(seed, digits=_DIGITS, interval=_STEP)


def _context(account: str) -> bytes:
    return b"totp " + account.encode()
