"""What the commands that ask a server have in common: which one, and how.

https://typer.tiangolo.com
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from msgspec import Struct

from salus.operator.requests import Asked
from salus.settings import read_settings
from salus.terminal import option

T = TypeVar("T", bound=Struct)

Data = Annotated[Path | None, option(help="Folder of the data [SALUS_DATA].")]
Keys = Annotated[Path | None, option(help="Folder of the keys [SALUS_KEYS].")]

Json = Annotated[bool, option("--json", help="As JSON, for programs.")]


def answered(data: Path | None, keys: Path | None, asked: Asked, answer: type[T]) -> T:
    """What the server of a data folder answers, or the folder itself where none runs. Problem,
    also where there is no data, StoreError."""
    from salus.operator.ask import ask  # commands that ask nothing start without it
    from salus.operator.running import needs_data

    settings = read_settings(data=data, keys=keys)
    needs_data(settings)
    return ask(settings, asked, answer)
