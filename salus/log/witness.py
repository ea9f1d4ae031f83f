"""The witness: somebody other than who has the data, who cosigns what a log says of itself.

https://c2sp.org/tlog-witness. It keeps, of each log, the last checkpoint that it cosigned, and
cosigns the next only with the proof that the log was appended to and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from fhir_server.log.note import SigningKey, Verifier
from fhir_server.log.witness import Refused, witnessed
from salus.log.http import Answer, Application, Asked, application, refusal
from salus.log.state import Signed

ADD = "/add-checkpoint"


def witness(
    key: SigningKey,
    logs: Mapping[str, Sequence[Verifier]],
    signed: Signed,
    told: Callable[[str], None],
    now: Callable[[], float] = time.time,
) -> Application:
    """The witness of these logs, by origin, as an ASGI application."""

    def add(asked: Asked) -> Answer:
        try:
            accepted = witnessed(asked.body, logs, signed.heads)
        except Refused as refused:
            alarm(refused, asked.body, signed, told)
            return refusal(refused)
        signed.remember(accepted.checkpoint, accepted.note)
        return Answer(200, key.sign(accepted.note.text, int(now())).line)

    def show(asked: Asked) -> Answer:
        return Answer(200, f"{key.verifier}\n")

    return application({ADD: {"POST": add}, "/": {"GET": show}}, told)


def alarm(
    refused: Refused,
    request: bytes,
    signed: Signed,
    told: Callable[[str], None],
    own: bool = False,
) -> None:
    """Say aloud, once of each checkpoint, that a log contradicts what was signed of it, and keep
    the proof. Anybody can send a checkpoint that the log signed with a proof that does not hold,
    unless it is certain that the log's `own` server asks."""
    if not refused.alarm:
        return
    file, fresh = signed.keep(request, refused.certain)
    if not fresh:
        return
    kept = f"; the request is kept in {file}" if file else ""
    if refused.certain or own:
        told(f"ALARM: the log was rewritten, cut or forked: {refused}{kept}")
    else:
        told(f"ALARM: the log was rewritten, or somebody sent a false proof: {refused}{kept}")
