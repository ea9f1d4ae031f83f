"""Scopes, times and types in words for everybody.

https://www.w3.org/WAI/WCAG22/Understanding/readable
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from smart_auth.consent import REST, Tick
from smart_auth.kinds import CLINICAL
from smart_auth.model import DAY, HOUR, MINUTE, SECOND

_CAPITALS = re.compile(r"(?<=[a-z])(?=[A-Z])")
_UNITS = ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"), (SECOND, "second"))
_CODE = re.compile(r"`([^`]+)`")
_FEW = 10  # seconds


def label(tick: Tick) -> str:
    """What a tick is about."""
    if tick.kind is not None:
        return tick.kind.label
    words = type_words(tick.type)
    if not tick.limit:
        return words
    only = ", ".join(f"{name} {value}" for name, value in tick.limit)
    return f"{words}, only those with {only}"


def ticks(offered: Iterable[Tick]) -> str:
    """What ticks are about, together."""
    these = tuple(offered)
    if any(each.type == REST and not each.limit for each in these):
        return "Everything in the record"
    return "; ".join(map(label, these))


def type_words(type: str) -> str:
    if type == REST:
        return "Everything else in the record"
    if type in CLINICAL:
        return CLINICAL[type]
    name, *more = _CAPITALS.sub(" ", type).split(" ")
    return " ".join((name, *(word.lower() for word in more)))


def lasting(microseconds: int) -> str:
    """A length of time in its largest unit that says it without a fraction."""
    for size, name in _UNITS:
        count = microseconds // size
        if count and microseconds % size == 0:
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{-(-microseconds // SECOND)} seconds"


def day(microseconds: int) -> str:
    """A day, as everybody reads it."""
    return datetime.fromtimestamp(microseconds / SECOND, UTC).strftime("%-d %B %Y")


def moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / SECOND, UTC).strftime("%-d %B %Y, %H:%M UTC")


def waiting(seconds: int) -> str:
    """How long to wait, roughly, and never too short."""
    if seconds <= _FEW:
        return "a few seconds"
    if seconds < 60:
        return lasting(-(-seconds // _FEW) * _FEW * SECOND)
    return lasting(-(-seconds // 60) * MINUTE)


def place(zone: str) -> str:
    """Where clocks show the times of a zone, after "times are"."""
    if "/" not in zone:
        return f"in {zone}"
    return "as in " + ", ".join(reversed(zone.replace("_", " ").split("/")[1:]))


# What was done on the page before, by the name that its address carries: never words of others.
SAID: Mapping[str, str] = {
    "signed-out": "You are signed out of this browser.",
    "everywhere": "You are signed out everywhere, and no app is connected any more.",
    "saved": "Your password is saved, and you are signed in.",
    "saved-half": "Your password is saved. Sign in with it, and with your second factor.",
}


def coded(text: str) -> Markup:
    """A text whose parts between backticks are code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


FILTERS: Mapping[str, Callable[[Any], str]] = {
    "label": label,
    "coded": coded,
    "ticks": ticks,
    "type_words": type_words,
    "lasting": lasting,
    "day": day,
    "moment": moment,
    "waiting": waiting,
    "place": place,
}
