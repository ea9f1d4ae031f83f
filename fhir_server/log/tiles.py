"""Where tiles are: their paths, and how wide they are in a tree of some size.

https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from fhir_server.log.merkle import HEIGHT, WIDTH

TOP = 63  # the highest level a path may name

_PATH = re.compile(
    r"(?P<level>0|[1-9][0-9]?)/(?P<number>(?:x[0-9]{3}/)*[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?",
    re.ASCII,
)


class Place(NamedTuple):
    """A tile: its level, its number there, and how many hashes it has (256: it is full)."""

    level: int
    number: int
    width: int = WIDTH


def path(place: Place) -> str:
    """As in `0/x001/x234/067.p/8`, to be put after `tile/`."""
    groups = [f"{place.number % 1000:03}"]
    number = place.number // 1000
    while number:
        groups.append(f"x{number % 1000:03}")
        number //= 1000
    partial = "" if place.width == WIDTH else f".p/{place.width}"
    return f"{place.level}/{'/'.join(reversed(groups))}{partial}"


def place(path: str) -> Place | None:
    """The tile of a path; None when it is not spelled as the standard says."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    number = found["number"].replace("/", "").replace("x", "")
    if len(number) > 3 and number.startswith("000"):
        return None
    made = Place(int(found["level"]), int(number), int(found["width"] or WIDTH))
    full_by_suffix = found["width"] is not None and made.width >= WIDTH
    return None if made.level > TOP or full_by_suffix else made


def width(level: int, number: int, size: int) -> int:
    """How many hashes that tile has in a tree of `size` leaves; 0: it is not there."""
    return max(0, min((size >> (HEIGHT * level)) - number * WIDTH, WIDTH))


def places(size: int) -> Iterator[Place]:
    """Every tile of a tree of `size` leaves, from the lowest level up."""
    level = 0
    while hashes := size >> (HEIGHT * level):
        full, partial = divmod(hashes, WIDTH)
        yield from (Place(level, number) for number in range(full))
        if partial:
            yield Place(level, full, partial)
        level += 1
