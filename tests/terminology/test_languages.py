"""Which display answers a list of languages."""

import pytest

from conformance.outcome import FhirError
from terminology.displays import Said, shown
from terminology.languages import languages
from terminology.provider import Designation

SAID = Said(
    "Hello",
    "en",
    (Designation("de-CH", "Grüezi"), Designation("fr", "Bonjour"), Designation(None, "Hi")),
)


@pytest.mark.parametrize(
    ("asked", "display"),
    [
        (None, "Hello"),
        ("en", "Hello"),
        ("en-GB", "Hello"),
        ("de", "Grüezi"),
        ("DE-ch", "Grüezi"),
        ("de-CH-1996", "Grüezi"),
        ("de-AT", "Hello"),
        ("fr;q=0.5, de;q=0.9", "Grüezi"),
        ("it, fr;q=0.1", "Bonjour"),
        ("it", "Hello"),
        ("it, *;q=0.5", "Hello"),
        ("it, *;q=0", None),
        ("de;q=0, fr", "Bonjour"),
        ("*", "Hello"),
        ("", "Hello"),
    ],
)
def test_the_display_is_in_the_language_that_is_wanted_most(asked, display):
    assert shown(SAID, languages(asked))[0] == display


@pytest.mark.parametrize("asked", ["de;q=2", "de;x", "d e", "de_CH", "ä", ",".join(["de"] * 51)])
def test_what_is_no_list_of_languages_is_refused(asked):
    with pytest.raises(FhirError) as refused:
        languages(asked)
    assert refused.value.status == 400


def test_a_display_of_another_language_is_told_among_the_designations():
    display, rest = shown(SAID, languages("fr"))
    assert (display, [(each.language, each.value) for each in rest]) == (
        "Bonjour",
        [("en", "Hello"), ("de-CH", "Grüezi"), (None, "Hi")],
    )
