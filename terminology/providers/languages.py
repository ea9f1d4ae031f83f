"""Languages (BCP 47): any tag whose subtags are registered, with a display of its parts.

https://hl7.org/fhir/R4/valueset-languages.html, https://www.rfc-editor.org/rfc/rfc5646
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import product

from terminology.provider import Concept, Designation, Property, Selection, unknown_filter
from terminology.providers import filters
from terminology.providers.contents import content
from terminology.providers.endless import Endless
from terminology.providers.tags import Tag, described, tag

SYSTEM = "urn:ietf:bcp:47"

# The parts of a tag by the names that filters of value sets use.
_PARTS: Mapping[str, Callable[[Tag], str]] = {
    "language": lambda found: found.language,
    "ext-lang": lambda found: found.extlang,
    "script": lambda found: found.script,
    "region": lambda found: found.region,
    "variant": lambda found: "-".join(found.variants),
    "extension": lambda found: found.extensions,
    "private-use": lambda found: found.private,
}


class Languages(Endless):
    """Any tag by grammar and registry; languages alone and what they are combined with."""

    url = SYSTEM
    name = "Tags for Identifying Languages (BCP 47)"
    content = "complete"
    case_sensitive = False
    hierarchical = False
    language = "en"

    @property
    def version(self) -> str:
        found: str = content("languages")["version"]
        return found

    def locate(self, code: str) -> Concept | None:
        return _concept(code)

    def filter(self, property: str, op: str, value: str) -> Selection:
        if property not in _PARTS and property != "code":
            raise unknown_filter(self.url, property, op)
        test = filters.test_of(self.url, property, op, value)
        return filters.open_selection(self.locate, property, test)


@lru_cache(maxsize=2048)
def _concept(code: str) -> Concept | None:
    found = tag(code)
    if found is None:
        return None
    first, *also = dict.fromkeys(_displays(found))
    told = ((name, part(found)) for name, part in _PARTS.items())
    retired = found.replaced is not None
    return Concept(
        found.text,
        first,
        designations=tuple(Designation("en", each) for each in also),
        properties=tuple(Property(name, "string", value) for name, value in told if value),
        inactive=retired,
        status="deprecated" if retired else "active",
    )


def _displays(found: Tag) -> Iterator[str]:
    """`English (Region=United States)`, then the same with the other names of the language, then
    with its parts in plain: `English (United States)`."""
    if found.name:
        yield found.name
        return
    names = _names(found)
    parts = list(_parts(found))
    labelled = ", ".join(f"{label}={said[0]}" for label, said in parts)
    for name in names:
        yield f"{name} ({labelled})" if parts else name
    for said in product(*(said for _, said in parts)) if parts else ():
        for name in names:
            yield f"{name} ({', '.join(said)})"


def _names(found: Tag) -> list[str]:
    if not found.language:
        return ["Private use"]
    kind, subtag = ("extlang", found.extlang) if found.extlang else ("language", found.language)
    usual = content("languages")["usual"].get(subtag)
    return [*(described(kind, subtag) or ()), *([usual] if usual else [])]


def _parts(found: Tag) -> Iterator[tuple[str, list[str]]]:
    """What the parts behind the language are called, the usual name of a country last."""
    for label, kind, value in (
        ("Script", "script", found.script),
        ("Region", "region", found.region),
        *(("Variant", "variant", each) for each in found.variants),
    ):
        said = described(kind, value) if value else None
        if said:
            country = content("countries")["countries"].get(value) if kind == "region" else None
            yield label, [said[0], *([country[3]] if country and country[3] != said[0] else [])]
    if found.extensions:
        yield "Extension", [found.extensions]
    if found.private and found.language:
        yield "PrivateUse", [found.private]
