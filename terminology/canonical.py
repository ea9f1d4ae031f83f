"""Canonical urls with versions: how they are split and compared.

https://hl7.org/fhir/R4/references.html#canonical
"""

from __future__ import annotations

from typing import NamedTuple

_WILD = frozenset({"x", "X", "*"})


class Canonical(NamedTuple):
    """A url and the version that stands behind `|`."""

    url: str
    version: str | None = None

    def __str__(self) -> str:
        return f"{self.url}|{self.version}" if self.version else self.url


def canonical(text: str, version: str | None = None) -> Canonical:
    """`url` or `url|version`; the version in the text goes before the one beside it."""
    url, _, own = text.partition("|")
    return Canonical(url, own or version or None)


def fits(version: str | None, wanted: str | None) -> bool:
    """Whether a version is the one that is wanted: the same, or one of `1.0` or `1.x`."""
    if wanted is None or version == wanted:
        return True
    if version is None:
        return False
    parts, asked = version.split("."), wanted.split(".")
    if len(asked) > len(parts):
        return False
    return all(one == two or two in _WILD for one, two in zip(parts, asked, strict=False))
