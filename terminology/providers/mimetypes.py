"""Media types (BCP 13): by their grammar, with the list of those that are registered.

https://www.rfc-editor.org/rfc/rfc6838#section-4.2, https://www.rfc-editor.org/rfc/rfc2045#section-5.1
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property

from terminology.provider import Concept, Property, Selection, unknown_filter
from terminology.providers import filters
from terminology.providers.contents import content
from terminology.providers.endless import Endless

SYSTEM = "urn:ietf:bcp:13"

_LENGTH = 300
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Values of parameters should be tokens or quoted; the standard's own examples have others.
# An unquoted one neither begins nor ends with a blank, so that a text is read in one way only.
_QUOTED = r"\"(?:[^\"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*\""
_BARE = r"[^\";\x00-\x20\x7f](?:[^\";\x00-\x1f\x7f]*[^\";\x00-\x20\x7f])?"
_TYPE = re.compile(rf"(?P<type>{_NAME}/{_NAME})(?:[ \t]*;[ \t]*{_TOKEN}=(?:{_QUOTED}|{_BARE}))*")
# Types are open, but what they begin with is not.
_TOP = frozenset(
    "application audio chemical font haptics image message model multipart text video".split()
)


def wrong(code: str) -> str | None:
    """Why a code is no media type; None when it is one, registered or not."""
    found = _TYPE.fullmatch(code) if len(code) <= _LENGTH else None
    if found is None:
        return "a media type is written type/subtype, with parameters behind semicolons"
    top = found["type"].partition("/")[0].lower()
    if top not in _TOP and not top.startswith("x-"):
        return "a media type begins with a registered top-level type, such as text or application"
    return None


class MimeTypes(Endless):
    """Any code by the grammar; those of the list have the property `registered`."""

    url = SYSTEM
    version: str | None = None
    name = "Media Types (BCP 13)"
    content = "complete"
    case_sensitive = False
    hierarchical = False
    language = "en"

    @cached_property
    def _listed(self) -> Mapping[str, str]:
        return {each.lower(): each for each in content("mimetypes")["types"]}

    def locate(self, code: str) -> Concept | None:
        if wrong(code) is not None:
            return None
        listed = self._listed.get(code.lower())
        told = (Property("registered", "boolean", listed is not None),)
        return Concept(listed or code, listed or code, properties=told)

    def filter(self, property: str, op: str, value: str) -> Selection:
        if property != "code":
            raise unknown_filter(self.url, property, op)
        test = filters.test_of(self.url, property, op, value)
        return filters.open_selection(self.locate, property, test)
