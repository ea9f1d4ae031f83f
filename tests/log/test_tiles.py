"""Tiles are where the standard says, and a path has one spelling."""

from __future__ import annotations

import pytest

from fhir_server.log import tiles
from fhir_server.log.tiles import Place
from tests.log.trees import Log, leaves

PATHS = [
    (Place(0, 0), "0/000"),
    (Place(0, 0, 1), "0/000.p/1"),
    (Place(1, 999, 255), "1/999.p/255"),
    (Place(0, 1000), "0/x001/000"),
    (Place(0, 1234067), "0/x001/x234/067"),
    (Place(63, 1234067, 8), "63/x001/x234/067.p/8"),
    (Place(2, 1_000_000), "2/x001/x000/000"),
]


@pytest.mark.parametrize(("place", "path"), PATHS)
def test_a_tile_has_one_path(place, path):
    assert tiles.path(place) == path
    assert tiles.place(path) == place


@pytest.mark.parametrize(
    "path",
    [
        "",
        "0",
        "0/",
        "0/0",
        "0/0000",
        "0/x000/001",
        "0/001/002",
        "0/x001",
        "0/x001/x002",
        "00/000",
        "64/000",
        "-1/000",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/01",
        "0/000.p",
        "0/000/",
        "0/000\n",
        "0/٠٠٠",
        "entries/000",
        "../0/000",
    ],
)
def test_another_spelling_is_no_path(path):
    assert tiles.place(path) is None


def test_a_log_of_70000_leaves_has_the_tiles_of_the_standards_example():
    found = list(tiles.places(70_000))
    assert found[:2] == [Place(0, 0), Place(0, 1)]
    assert [each for each in found if each.width < 256] == [
        Place(0, 273, 112),
        Place(1, 1, 17),
        Place(2, 0, 1),
    ]
    assert len(found) == 273 + 1 + 1 + 1 + 1
    assert list(tiles.places(256)) == [Place(0, 0), Place(1, 0, 1)]
    assert list(tiles.places(0)) == []


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600])
def test_a_log_keeps_the_tiles_that_its_size_says(size):
    kept = {key: len(data) // 32 for key, data in Log(leaves(size)).tiles.items()}
    assert kept == {(each.level, each.number): each.width for each in tiles.places(size)}
    assert all(tiles.width(*key, size) == width for key, width in kept.items())
    assert tiles.width(0, size // 256 + 1, size) == 0
