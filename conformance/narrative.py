"""The XHTML of a narrative: well-formed without DTD or entities, only the elements and attributes
that the standard allows, and not blank.

https://hl7.org/fhir/R4/narrative.html
"""

from __future__ import annotations

import re
from typing import NamedTuple
from xml.parsers import expat

# Characters of a narrative. The standard sets no limit to xhtml as it does to strings; the longest
# of its own examples has 1.8 million.
LONGEST = 2 * 1024 * 1024

XHTML = "http://www.w3.org/1999/xhtml"
XML = "http://www.w3.org/XML/1998/namespace"

ELEMENTS = frozenset(
    "a abbr acronym address area b bdo big blockquote br caption cite code col colgroup dd dfn div"
    " dl dt em h1 h2 h3 h4 h5 h6 hr i img kbd li map ol p pre q samp small span strong sub sup"
    " table tbody td tfoot th thead tr tt ul var".split()
)
ANYWHERE = frozenset(
    {"class", "dir", "id", "lang", f"{XML} lang", "style", "title", f"{XML} space"}
)
_CELLS = frozenset(
    "abbr align axis char charoff colspan headers height nowrap rowspan scope".split()
)
_ROWS = frozenset("align bgcolor char charoff valign".split())
_CELL = _CELLS | _ROWS | {"width"}
_COLUMN = _ROWS | {"span", "width"}
_BLOCK = frozenset({"align"})
ATTRIBUTES = {
    "a": frozenset("accesskey charset coords href hreflang name rel rev shape tabindex".split()),
    "area": frozenset("accesskey alt coords href nohref shape tabindex".split()),
    "blockquote": frozenset({"cite"}),
    "br": frozenset({"clear"}),
    "caption": _BLOCK,
    "col": _COLUMN,
    "colgroup": _COLUMN,
    "dl": frozenset({"compact"}),
    "hr": frozenset("align noshade size width".split()),
    "img": frozenset(
        "align alt border height hspace ismap longdesc name src usemap vspace width".split()
    ),
    "li": frozenset({"type", "value"}),
    "map": frozenset({"name"}),
    "ol": frozenset({"compact", "start", "type"}),
    "pre": frozenset({"width"}),
    "q": frozenset({"cite"}),
    "table": frozenset(
        "align bgcolor border cellpadding cellspacing frame rules summary width".split()
    ),
    "tbody": _ROWS,
    "td": _CELL,
    "tfoot": _ROWS,
    "th": _CELL,
    "thead": _ROWS,
    "tr": _ROWS,
    "ul": frozenset({"compact", "type"}),
    **dict.fromkeys(("div", "h1", "h2", "h3", "h4", "h5", "h6", "p"), _BLOCK),
}
LINKS = frozenset({"cite", "href", "longdesc", "src"})
_ALLOWED = {name: ANYWHERE | ATTRIBUTES.get(name, frozenset()) for name in ELEMENTS}
# Elements that are right wherever they stand, as the parser names them, with the attributes that
# are right whatever they say.
_PLAIN = {f"{XHTML} {name}": _ALLOWED[name] - LINKS for name in ELEMENTS - {"img"}}
# Addresses that make a page do something; only the source of an image may hold data.
_SCRIPT = re.compile(r"(?:java|vb)script:|data:(?!image/)", re.IGNORECASE)
_DATA = re.compile(r"data:", re.IGNORECASE)
_HARMLESS = ("https://", "http://", "#")  # how an address begins that is none of them
# Browsers skip these in an address.
_SKIPPED = re.compile(r"[\x00-\x20]+")
_NAME = re.compile(r"\w{1,32}", re.ASCII)
_MOST = 10  # problems told about one narrative


class Problem(NamedTuple):
    """`key` is txt-1 or txt-2, or None where the text is not even XML."""

    key: str | None
    text: str


class _Refused(Exception):
    """Stops the parser at what may not stand in a narrative at all."""


def problems(div: str) -> list[Problem]:
    """What is wrong with the `div` of a narrative; an empty list if nothing is."""
    if len(div) > LONGEST:
        return [Problem(None, f"A narrative has at most {LONGEST:,} characters")]
    reader = _Reader()
    try:
        reader.parse(div)
    except _Refused as refused:
        return [Problem("txt-1", str(refused))]
    except (expat.ExpatError, UnicodeEncodeError) as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "offset", 0) + 1
        where = f"line {line}, column {column}"
        return [Problem(None, f"The narrative is not well-formed XHTML: see its {where}")]
    if not reader.filled:
        reader.found.append(Problem("txt-2", "The narrative has neither text nor image"))
    return reader.found


class _Reader:
    """What one pass over a narrative has seen."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.filled = False

    def parse(self, div: str) -> None:
        self._parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = self._root
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.ProcessingInstructionHandler = self._refuse
        parser.XmlDeclHandler = self._refuse
        try:
            parser.Parse(div, True)
        finally:
            del self._parser  # they hold each other: let both go now

    def _refuse(self, *_: object) -> None:
        raise _Refused("A narrative has no DTD, entity, declaration or processing instruction")

    def _text(self, text: str) -> None:
        if not text.isspace():
            self._fill()

    def _fill(self) -> None:
        """There is something to read: no more text need be looked at."""
        self.filled = True
        self._parser.CharacterDataHandler = None

    def _root(self, name: str, attributes: dict[str, str]) -> None:
        self._parser.StartElementHandler = self._element
        if name == f"{XHTML} div":
            self._element(name, attributes)
        else:
            self._tell("A narrative is one div in the XHTML namespace")

    def _element(self, name: str, attributes: dict[str, str]) -> None:
        plain = _PLAIN.get(name)
        if plain is not None and (not attributes or attributes.keys() <= plain):
            return
        space, _, local = name.rpartition(" ")
        allowed = _ALLOWED.get(local) if space == XHTML else None
        if allowed is None:
            self._tell(f"The element {_shown(local)} may not stand in a narrative")
            return
        if local == "img":
            self._fill()
        for attribute, value in attributes.items():
            if attribute not in allowed:
                self._tell(f"{_shown(local)} may not have the attribute {_shown(attribute)}")
            elif attribute in LINKS and _active(attribute, value):
                self._tell(f"The {attribute} of {_shown(local)} may not run a script")

    def _tell(self, text: str) -> None:
        if len(self.found) < _MOST:
            self.found.append(Problem("txt-1", text))


def _active(attribute: str, address: str) -> bool:
    if address.startswith(_HARMLESS):
        return False
    start = _SKIPPED.sub("", address)[:20]
    return bool(_SCRIPT.match(start) or (attribute != "src" and _DATA.match(start)))


def _shown(name: str) -> str:
    """A name from a document, if it looks like one."""
    local = name.rpartition(" ")[2]
    return f"`{local}`" if _NAME.fullmatch(local) else "named there"
