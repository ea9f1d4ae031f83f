"""What of an event is kept apart from its body, so that it can be erased: what was asked for, and
all that other systems say in words. The body names it by a hash.

https://hl7.org/fhir/R4/auditevent.html, https://profiles.ihe.net/ITI/BALP/content.html
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from functools import cache, lru_cache
from hashlib import sha256
from os import urandom

from conformance.definitions import load
from fhir_server.storage.store import Version

_SALT = 16  # bytes: without them nobody can tell by the hash what was asked
# The first extension goes when the query comes back; the second says which query it was.
_ABSENT = (
    '{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}'
)
_HASH = '{"url":"urn:salus:audit:sha-256","valueBase64Binary":"'
_QUERY = f'"_query":{{"extension":[{_ABSENT},'
_WHOLE = f'"extension":[{_HASH}'
_QUERY_BYTES, _WHOLE_BYTES = _QUERY.encode(), _WHOLE.encode()
_REST = b'"'  # with which the rest of an event begins that is kept apart whole

_CONTROLS = (
    "_at _containedType _contained _content _count _elements _filter _format _has _include _list "
    "_page _pretty _query _revinclude _since _sort _summary _text _total _type mode profile"
).split()
_MODIFIERS = (
    "above below contains exact identifier in iterate missing not not-in of-type text"
).split()
_parts = re.compile(r"[.:]").split


def apart(content: bytes) -> tuple[bytes, str]:
    """The content as it is kept, after a salt, and the hash of both in base64."""
    salted = urandom(_SALT) + content
    return salted, b64encode(sha256(salted).digest()).decode()


def masked(hash: str) -> str:
    """The place of a query in an event's body, as JSON members."""
    return f'{_QUERY}{_HASH}{hash}"}}]}}'


def held(hash: str) -> str:
    """What an event says, as a JSON member, of which only a part is in its body."""
    return f'{_WHOLE}{hash}"}}]'


def whole(version: Version) -> bytes:
    """The body of an event with what was kept apart put back, while that can be opened and is what
    the body names; of every other version the body."""
    if not version.apart or not is_named(version):
        return version.body
    body, content = version.body, version.apart[_SALT:]
    if _QUERY_BYTES in body:
        query = b'"query":"%s","_query":{"extension":[' % b64encode(content)
        return body.replace(_QUERY_BYTES, query, 1)
    if _WHOLE_BYTES in body and content.startswith(_REST):
        return b'{"resourceType":"%s","id":"%s' % (version.type.encode(), version.id.encode()) + (
            content
        )
    return body


def is_named(version: Version) -> bool:
    """Whether what was kept apart is what the event's body names."""
    return b64encode(sha256(version.apart or b"").digest()) in version.body


@lru_cache(4096)  # what is asked for differs in its values
def names(asked: tuple[str, ...]) -> str:
    """The names of parameters, with their modifiers. One that is none of FHIR's may be anything,
    so it is not written down."""
    return "&".join(name if _is_known(name) else "*" for name in asked)


def _is_known(name: str) -> bool:
    return _words().issuperset(_parts(name))


@cache
def _words() -> frozenset[str]:
    """Everything that the name of a parameter is made of."""
    definitions = load()
    codes: Iterable[str] = (
        code for type in definitions.types for code in definitions.parameters(type)
    )
    return frozenset((*codes, *definitions.types, *_CONTROLS, *_MODIFIERS))
