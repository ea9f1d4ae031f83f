"""A search as it was understood, and what understanding it needs to know.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from typing import Literal, NamedTuple, Protocol, TypeAlias

from msgspec import Struct, field

from conformance.definitions import Definitions
from conformance.outcome import FhirError, Issue
from fhir_server.limits import Limits
from fhir_server.search.parameters import Parameter
from fhir_server.storage.store import EVERYTHING, All, Query, Sort


class Indexed(Protocol):
    """What a search asks of the index."""

    def parameters(self, type: str) -> Mapping[str, Parameter]: ...

    def carried(self, type: str) -> str | None: ...

    def building(self, type: str, code: str) -> int | None: ...


class Vocabulary(Protocol):
    """What a search asks of the terminology. Each raises FhirError for what is unknown, and for
    more codes than `most`."""

    def members(self, value_set: str, most: int) -> Sequence[tuple[str, str]]:
        """The (system, code) of a value set: of its canonical url, or of ValueSet/id."""
        ...

    def below(self, system: str, code: str, most: int) -> frozenset[str]: ...

    def above(self, system: str, code: str, most: int) -> frozenset[str]: ...


def _everything(_: str) -> Query:
    return EVERYTHING


def _nothing_refused(_: str) -> None:
    return None


def _as_it_is(_: str, query: Query) -> Query:
    return query


class SearchContext(Struct, frozen=True, eq=False):
    """What parsing a search needs: the definitions and the index, how this server is addressed,
    now (microseconds since 1970), and the caller's rights. `visible` is ANDed to the query of
    every type that the search touches; `check` raises FhirError (403) for a type that the caller
    may not search; `conceal` alters what the caller asks of a type so that it tells nothing that
    is cut from what leaves."""

    definitions: Definitions
    index: Indexed
    base_url: str
    timezone: tzinfo
    now: int
    limits: Limits = field(default_factory=Limits)
    handling: Literal["strict", "lenient"] = "strict"
    visible: Callable[[str], Query] = _everything
    check: Callable[[str], None] = _nothing_refused
    conceal: Callable[[str, Query], Query] = _as_it_is
    vocabulary: Vocabulary | None = None  # what :in, :not-in, :above and :below ask

    def seen(self, type: str, *asked: Query) -> Query:
        """What the caller asks of a type, of the resources that it may see."""
        return All((*(self.conceal(type, each) for each in asked), self.visible(type)))

    def require_built(self, type: str, code: str) -> None:
        """Refuse to search by a parameter of which entries are lacking yet, however lenient the
        client is: what has none would be left out. FhirError 503."""
        percent = self.index.building(type, code)
        if percent is not None:
            raise FhirError(
                "incomplete",
                f"`{code}` of {type} is being indexed, {percent} % are done: search by it again"
                " when it answers",
                status=503,
            )

    def allowed(self, type: str) -> bool:
        """Whether the caller may search a type that the search does not name itself."""
        try:
            self.check(type)
        except FhirError:
            return False
        return True


# What some one of a parameter's values asks for, by modifier (None: without one).
Asked: TypeAlias = Callable[[Parameter, Sequence[str], SearchContext], Query]
Modifiers: TypeAlias = Mapping[str | None, Asked]


class Include(NamedTuple):
    """One _include or _revinclude. `source` is the type that holds the reference (`*`: any),
    `param` its search parameter (`*`: each of type reference)."""

    source: str
    param: str
    target: str | None = None
    iterate: bool = False
    reverse: bool = False


class Search(Struct, frozen=True):
    """A search on one type: the query, in which the caller's rights are already; the order; what
    to show of it. `used` are the parameters that took part, as they were written, for the self
    link; `ignored` says which did not, where the client asked for leniency."""

    type: str
    query: Query
    sort: tuple[Sort, ...] = ()
    count: int | None = None
    total: Literal["none", "estimate", "accurate"] = "none"
    includes: tuple[Include, ...] = ()
    summary: str | None = None
    elements: tuple[str, ...] = ()
    used: tuple[tuple[str, str], ...] = ()
    ignored: tuple[Issue, ...] = ()


class Unsupported(FhirError):
    """A parameter, modifier or form of value that this server does not know: refused when handling
    is strict, ignored and said so when it is lenient."""

    def __init__(self, text: str) -> None:
        super().__init__("not-supported", text, status=400)


def malformed(text: str) -> FhirError:
    """A value that cannot be read: refused always. The text never repeats the value, which may be
    about a patient."""
    return FhirError("invalid", text, status=400)
