"""The links of a Bundle, as an assertion on them has them followed.

https://hl7.org/fhir/R4/http.html#paging
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from conformance.testscript.message import Message

Fetch: TypeAlias = Callable[[str], Message]
_ONCE = ("self", "first", "previous", "prev", "next", "last")


def links(bundle: Mapping[str, Any], fetch: Fetch) -> str:
    """What is wrong with the links; empty: nothing. A link to the next page is followed once."""
    found = [(str(each.get("relation")), str(each.get("url"))) for each in bundle.get("link", ())]
    relations = [relation for relation, _ in found]
    for relation in _ONCE:
        if relations.count(relation) > 1:
            return f"There are several links {relation}"
    if "self" not in relations:
        return "There is no link self"
    for relation, url in found:
        if not urlsplit(url).scheme:
            return f"The link {relation} is no absolute URL"
    following = dict(found).get("next")
    if following is None:
        return _unled(bundle) if "previous" not in relations else ""
    page = fetch(following)
    if page.status != 200 or (page.resource or {}).get("resourceType") != "Bundle":
        return f"The link next answers {page.status} and no Bundle"
    if (page.resource or {}).get("type") != bundle.get("type"):
        return "The link next leads to a Bundle of another type"
    return ""


def _unled(bundle: Mapping[str, Any]) -> str:
    """A first page without a link next holds all there is."""
    total, held = bundle.get("total"), bundle.get("entry", ())
    matches = [each for each in held if each.get("search", {}).get("mode", "match") == "match"]
    if bundle.get("type") != "searchset" or not held or not isinstance(total, int):
        return ""
    if total > len(matches):
        return f"{len(matches)} of {total} are here, and there is no link next"
    return ""
