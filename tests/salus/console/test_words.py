"""Scopes, times and places in words."""

import pytest

from salus.console.words import place, waiting


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "a few seconds"),
        (1, "a few seconds"),
        (10, "a few seconds"),
        (11, "20 seconds"),
        (59, "1 minute"),
        (60, "1 minute"),
        (61, "2 minutes"),
        (3600, "1 hour"),
    ],
)
def test_how_long_to_wait_is_said_roughly_and_never_too_short(seconds, said):
    assert waiting(seconds) == said


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ("UTC", "in UTC"),
        ("Europe/Berlin", "as in Berlin"),
        ("America/New_York", "as in New York"),
        ("America/Indiana/Knox", "as in Knox, Indiana"),
    ],
)
def test_times_are_those_of_a_place_that_people_know(zone, said):
    assert place(zone) == said
