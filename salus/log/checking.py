"""Checking a receipt without any server, and saying in plain words what it proves.

https://c2sp.org/tlog-proof
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.markup import escape

from fhir_server.log.note import LOG, Malformed, Untrusted, Verifier
from fhir_server.log.receipt import Policy, Proven, check, parse
from salus.problem import Problem
from salus.terminal import err, out

_ALONE = (
    "No witness that you trust vouches for it: whoever has the log's key could show others a log "
    "without this record. Name witnesses with --witness."
)
_VOUCHED = (
    "So nobody can change or remove the record, or show others a log without it, unless the log's "
    "key and these witnesses work together."
)
_FEW = 5  # resources that are named
_OTHERWISE = (ValueError, LookupError, TypeError, AttributeError, StopIteration)  # other JSON
_NOT = "That what the record says is true, and that nothing was left out, is not proven by this."


def check_receipt(
    file: Path, log: str, witnesses: Sequence[str], needed: int | None, content: Path | None
) -> bool:
    """Whether the receipt holds; what it proves is printed. Problem when it cannot be read."""
    trusted = tuple(map(verifier, witnesses))
    if needed is None:
        needed = len({each.key for each in trusted})
    try:
        policy = Policy(log_verifier(log), trusted, needed)
        receipt = parse(receipt_in(file.read_bytes()))
    except Malformed as error:
        raise Problem(f"Nothing can be checked: {error}") from None
    try:
        proven = check(receipt, policy)
    except (Malformed, Untrusted) as error:
        said = f"[bold red]This receipt proves nothing.[/] {escape(str(error))}."
        err.print(said, highlight=False, soft_wrap=True)
        return False
    if content is not None:
        content.write_bytes(proven.content)
    for sentence in meaning(proven):
        out.print(escape(sentence), highlight=False, soft_wrap=True)
    return True


def receipt_in(data: bytes) -> bytes:
    """The text of a receipt: what was read, or the parameter of what `$proof` answered."""
    with suppress(*_OTHERWISE):
        answer = json.loads(data)
        return next(
            str(each["valueString"]).encode()
            for each in answer["parameter"]
            if each["name"] == "receipt"
        )
    return data


def named(content: bytes) -> str:
    """Which record it is, in a sentence; nothing where the record does not say."""
    with suppress(*_OTHERWISE):
        record = json.loads(content)
        meta = record.get("meta", {})
        at = record.get("recorded") or meta.get("lastUpdated")
        version = f", version {meta['versionId']}" if "versionId" in meta else ""
        when = f", of {at}" if at else ""
        return f"It is {record['resourceType']}/{record['id']}{version}{when}."
    return ""


def told(content: bytes) -> str:
    """What an event of the audit says was done, of what and by whom, by its codes and references;
    nothing of other records."""
    with suppress(*_OTHERWISE):
        event = json.loads(content)
        if event["resourceType"] != "AuditEvent":
            return ""
        done = [_done(each) for each in event.get("subtype", ())]
        things = [each.get("what", {}).get("reference") for each in event.get("entity", ())]
        parts = (("", done), ("of ", things), ("by ", [_who(each) for each in event["agent"]]))
        said = " ".join(f"{word}{_listed(each)}" for word, each in parts if any(each))
        return f"It says: {said}." if said else ""
    return ""


def _done(coding: Mapping[str, str]) -> str:
    """The code of what was done, or what a number stands for, and the name of an operation."""
    code, display = coding.get("code", ""), coding.get("display", "")
    if code.isdigit() and display:
        return display
    return f"{code} {display}" if display.startswith("$") else code


def _who(agent: Mapping[str, Any]) -> str:
    """Who took part: people by their resource or login, apps by their id, and no server."""
    who = agent["who"]
    return str(who.get("reference") or who.get("identifier", {}).get("value") or "")


def _listed(said: Sequence[str | None]) -> str:
    """The first of them, and how many more; whatever could steer a terminal is left out."""
    each = ["".join(filter(str.isprintable, text)) for text in said if text]
    more = f" and {len(each) - _FEW} more" if len(each) > _FEW else ""
    return ", ".join(each[:_FEW]) + more


def meaning(proven: Proven) -> Iterator[str]:
    """What a receipt that holds proves, and what it does not, in sentences."""
    state = proven.checkpoint
    yield (
        f"The receipt holds. This record, byte for byte ({len(proven.content)} bytes), is leaf "
        f"{proven.leaf} (the first is 0) of the {state.size} that the log {state.origin} had when "
        "its key signed this."
    )
    if name := named(proven.content):
        yield name
    if event := told(proven.content):
        yield event
    for each in proven.cosigned:
        seen = datetime.fromtimestamp(each.time or 0, UTC)
        yield f"{each.by.name} vouches that it saw this log on {seen:%d %B %Y at %H:%M} UTC."
    yield _VOUCHED if proven.cosigned else _ALONE
    yield _NOT


def log_verifier(text: str) -> Verifier:
    """The verifier key of a log. Problem."""
    found = verifier(text)
    if found.type != LOG:
        raise Problem(f"{found.name} is the key of a witness, where that of a log is needed")
    return found


def verifier(text: str) -> Verifier:
    """A verifier key. Problem."""
    try:
        return Verifier.parse(text)
    except Malformed as error:
        raise Problem(f"{text} is no verifier key: {error}") from None
