"""Language tags (BCP 47): their grammar, and what the IANA registry says of their subtags.

https://www.rfc-editor.org/rfc/rfc5646#section-2.1
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple

from terminology.providers.contents import content

_LENGTH = 100

# Any case of letters; what subtags mean is looked up behind this.
_TAG = re.compile(
    r"(?P<language>[a-z]{2,3}(?:-(?P<extlang>[a-z]{3}(?:-[a-z]{3}){0,2}))?|[a-z]{4,8})"
    r"(?:-(?P<script>[a-z]{4}))?"
    r"(?:-(?P<region>[a-z]{2}|[0-9]{3}))?"
    r"(?P<variants>(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*)"
    r"(?P<extensions>(?:-[0-9a-wy-z](?:-[a-z0-9]{2,8})+)*)"
    r"(?:-x(?P<private>(?:-[a-z0-9]{1,8})+))?"
)
_PRIVATE = re.compile(r"x(?P<private>(?:-[a-z0-9]{1,8})+)")


class Tag(NamedTuple):
    """A tag in its usual case, and its parts as the registry writes them; "" for what it lacks.
    `name` is that of the whole, of a tag that is registered as one."""

    text: str
    language: str = ""
    extlang: str = ""
    script: str = ""
    region: str = ""
    variants: tuple[str, ...] = ()
    extensions: str = ""
    private: str = ""
    name: str = ""
    replaced: str | None = None  # what a deprecated one gave way to, "" when to nothing


@lru_cache(maxsize=2048)
def tag(text: str) -> Tag | None:
    """The parts of a tag, all of whose subtags are registered; None when it is none."""
    if len(text) > _LENGTH or not text.isascii():
        return None
    lower = text.lower()
    whole = _whole().get(lower)
    if whole is not None:
        return whole
    private = _PRIVATE.fullmatch(lower)
    if private is not None:
        return Tag(lower, private=private["private"][1:])
    found = _TAG.fullmatch(lower)
    return None if found is None else _registered(found)


def _registered(found: re.Match[str]) -> Tag | None:
    language = found["language"].partition("-")[0]
    extlangs = (found["extlang"] or "").split("-") if found["extlang"] else []
    script, region = (found["script"] or "").capitalize(), (found["region"] or "").upper()
    variants = tuple(found["variants"].split("-")[1:])
    singletons = re.findall(r"-([0-9a-wy-z])(?=-)", found["extensions"])
    known = (
        described("language", language) is not None
        and len(extlangs) <= 1  # the other two places are reserved, and never to be filled
        and all(prefix_of(each) == language for each in extlangs)
        and (not script or described("script", script) is not None)
        and (not region or described("region", region) is not None)
        and all(described("variant", each) is not None for each in variants)
        and len(set(variants)) == len(variants)
        and len(set(singletons)) == len(singletons)
    )
    if not known:
        return None
    extensions, private = found["extensions"], (found["private"] or "")[1:]
    parts = [language, *extlangs, *([script] if script else []), *([region] if region else [])]
    text = "-".join([*parts, *variants]) + extensions + (f"-x-{private}" if private else "")
    extlang = extlangs[0] if extlangs else ""
    return Tag(
        text,
        language,
        extlang,
        script,
        region,
        variants,
        extensions[1:],
        private,
        replaced=_replaced("language", language),
    )


def described(kind: str, subtag: str) -> list[str] | None:
    """The descriptions of a subtag, None when the registry does not have it."""
    said = _subtags(kind).get(subtag)
    if said is not None:
        descriptions: list[str] = said[0]
        return descriptions
    for first, last, descriptions in _spans(kind):
        if len(subtag) == len(first) and first <= subtag <= last:
            return descriptions
    return None


def prefix_of(extlang: str) -> str | None:
    """The language that an extended language belongs to."""
    said = _subtags("extlang").get(extlang)
    return None if said is None else str(said[1])


def _replaced(kind: str, subtag: str) -> str | None:
    said = _subtags(kind).get(subtag)
    return said[1] if said is not None and len(said) > 1 else None


def _subtags(kind: str) -> Mapping[str, list[Any]]:
    found: Mapping[str, list[Any]] = content("languages")["subtags"][kind]
    return found


@cache
def _spans(kind: str) -> tuple[tuple[str, str, list[str]], ...]:
    """Subtags for private use, which are registered as `qaa..qtz`."""
    spans = ((name.split(".."), said[0]) for name, said in _subtags(kind).items() if ".." in name)
    return tuple((first, last, descriptions) for (first, last), descriptions in spans)


@cache
def _whole() -> Mapping[str, Tag]:
    """Tags that are registered as one, from before there were subtags."""
    return {
        name.lower(): Tag(name, name, name=said[0][0], replaced=said[1] if len(said) > 1 else None)
        for name, said in _subtags("grandfathered").items()
    }
