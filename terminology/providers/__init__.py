"""Code systems that Salus knows by itself: units, languages, media types, countries, currencies.

https://hl7.org/fhir/R4/terminologies-systems.html
"""

from __future__ import annotations

from functools import cache

from terminology.provider import Provider
from terminology.providers.languages import Languages
from terminology.providers.mimetypes import MimeTypes
from terminology.providers.places import areas, countries, states, subdivisions
from terminology.providers.tenders import currencies
from terminology.providers.units import Units

__all__ = ["built_in"]


@cache
def built_in() -> tuple[Provider, ...]:
    """One provider for each system; what they list is read when it is first asked for."""
    return (
        Units(),
        Languages(),
        MimeTypes(),
        countries(),
        subdivisions(),
        areas(),
        states(),
        currencies(),
    )
