"""`salus audit expire`: the end of audit events whose time is over, by whole months.

https://gdpr-info.eu/art-5-gdpr/ (e: storage limitation)
"""

from __future__ import annotations

from typing import Annotated

from rich.markup import escape

from salus.commands.asking import Data, Keys, answered
from salus.operator import requests
from salus.terminal import err, explained, option


def expire(
    before: Annotated[
        str | None, option(help="A month, as in 2020-11: what was recorded before it ends.")
    ] = None,
    data: Data = None,
    keys: Keys = None,
) -> None:
    """End the audit events of months that are over: by SALUS_AUDIT_YEARS, or before a month.

    Their keys are destroyed; their leaves stay, and a notice in the log says which.
    """
    with explained():
        found = answered(data, keys, requests.ExpireAudit(before), requests.Expired)
    for month, events in found.months:
        err.print(escape(f"{month}: {events} events ended"), highlight=False, soft_wrap=True)
    if not found.months:
        err.print("No month is over.", highlight=False, soft_wrap=True)
