"""The signer: the log's own key on a host that does not have the data.

https://c2sp.org/tlog-checkpoint: it signs no state that is inconsistent with one it signed before,
so whoever takes over the data's host can append to the log, and not rewrite it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from fhir_server.log.checkpoint import NOTHING
from fhir_server.log.note import Note, SigningKey
from fhir_server.log.witness import Refused, signable
from salus.log.http import Answer, Application, Asked, application, refusal
from salus.log.state import Signed
from salus.log.witness import alarm

SIGN = "/sign-checkpoint"

_UNKNOWN = Answer(401, "Unknown token\n", headers=(("www-authenticate", "Bearer"),))


def signer(key: SigningKey, token: str, signed: Signed, told: Callable[[str], None]) -> Application:
    """The signer of one log, for who has this token, as an ASGI application."""
    expected = f"Bearer {token}".encode()

    def sign(asked: Asked) -> Answer:
        if not hmac.compare_digest(asked.headers.get("authorization", "").encode(), expected):
            told("A request came without the right token")
            return _UNKNOWN
        try:
            head = signed.heads.get(key.name, NOTHING)
            checkpoint = signable(asked.body, key.name, head)
        except Refused as refused:
            alarm(refused, asked.body, signed, told, own=True)
            return refusal(refused)
        signature = key.sign(checkpoint.text)
        signed.remember(checkpoint, Note(checkpoint.text, (signature,)))
        return Answer(200, signature.line)

    def show(asked: Asked) -> Answer:
        return Answer(200, f"{key.verifier}\n")

    return application({SIGN: {"POST": sign}, "/": {"GET": show}}, told)
