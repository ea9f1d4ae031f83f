"""A file that is written once is read as it was written, or not at all."""

import io

import pytest

from fhir_server.storage import archive
from fhir_server.storage.archive import PIECE, Unreadable, Writer

MAGIC, LINE, KEY = b"kind 1\n", b'{"a":1}', bytes(range(32))


def written(records, key=KEY):
    out = io.BytesIO()
    writer = Writer(out, MAGIC, LINE, key)
    for each in records:
        writer.add(each)
    writer.finish()
    return out.getvalue()


def read(data, key=KEY):
    file = io.BytesIO(data)
    line = archive.line_of(file, MAGIC)
    return list(archive.records(file, MAGIC, line, key))


@pytest.mark.parametrize(
    "records",
    [
        [],
        [b""],
        [b"one", b"", b"three"],
        [bytes(PIECE)],
        [bytes(PIECE - 4)],  # the last piece is full
        [bytes(PIECE - 4), b"more"],
        [b"x" * 700_000] * 5,
        [bytes(3 * PIECE + 1), b"after"],
    ],
    ids=["nothing", "empty", "small", "a piece", "full", "full and more", "many", "large"],
)
def test_records_are_read_as_they_were_written(records):
    assert read(written(records)) == records


def test_its_line_stands_in_plain_sight_and_its_records_do_not():
    data = written([b"Abigail"])
    assert data.startswith(MAGIC + LINE + b"\n")
    assert b"Abigail" not in data


def test_a_flipped_bit_anywhere_is_refused():
    data = written([b"one", bytes(PIECE), b"three"])
    places = [0, 3, len(MAGIC), len(MAGIC) + len(LINE), len(MAGIC) + len(LINE) + 1]
    for place in (*places, 500_000, PIECE + 20, PIECE + 60, len(data) - 1):
        flipped = bytearray(data)
        flipped[place] ^= 1
        with pytest.raises(Unreadable):
            read(bytes(flipped))


def test_a_file_that_was_cut_or_lengthened_is_refused():
    data = written([b"one", b"x" * 2 * PIECE, b"three"])
    start = len(MAGIC + LINE) + 1
    sealed = PIECE + 16
    for cut in (0, 3, start - 1, start, start + 5, start + sealed, start + 2 * sealed, -1):
        with pytest.raises(Unreadable):
            read(data[:cut])
    for more in (b"x", bytes(sealed), data[start:]):
        with pytest.raises(Unreadable):
            read(data + more)


def test_pieces_in_another_order_and_another_key_are_refused():
    data = written([b"x" * 3 * PIECE])
    start, sealed = len(MAGIC + LINE) + 1, PIECE + 16
    first, second = data[start : start + sealed], data[start + sealed : start + 2 * sealed]
    with pytest.raises(Unreadable):
        read(data[:start] + second + first + data[start + 2 * sealed :])
    with pytest.raises(Unreadable):
        read(data, bytes(32))
