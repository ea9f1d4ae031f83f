"""How the SQLite engine writes bodies (zstd with a trained dictionary), ids and keys as bytes.

https://datatracker.ietf.org/doc/html/rfc8878
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.resources import files
from threading import local

import apsw
import msgspec
import zstandard

LEVEL = 3
# Events share nearly every byte with those in the dictionary: searching harder finds nothing more
# (measured: 90 bytes in 5 us, against 119 in 12).
EVENT_LEVEL = 1
USUAL = 1_400  # bytes of a body
_DIGITS = bytes.maketrans(b"0123456789abcdef", b"0" * 16)
_UUID = b"00000000-0000-0000-0000-000000000000"  # with every digit made 0
_RAW = b"\0"  # the number of a body that is stored as it is


class Bodies:
    """Packs and unpacks bodies. The first byte is the number of the dictionary, which the store
    keeps in a table of its own: data outlives the dictionary that a version of Salus ships."""

    def __init__(self, dictionaries: dict[int, bytes]) -> None:
        self._own = _Decompressors(dictionaries)
        number = max(dictionaries)
        self._mark = bytes((number,))
        self._pack = _compressor(dictionaries[number], LEVEL)
        self._pack_event = _compressor(dictionaries[number], EVENT_LEVEL)

    def pack(self, body: bytes) -> bytes:
        packed = self._pack.compress(body)
        return self._mark + packed if len(packed) < len(body) else _RAW + body

    def pack_event(self, body: bytes) -> bytes:
        return self._mark + self._pack_event.compress(body)

    def unpack(self, packed: bytes) -> bytes:
        number = packed[0]
        return self._own.by_number[number].decompress(packed[1:]) if number else packed[1:]


class _Decompressors(local):
    """One by each dictionary, for each thread: long searches read bodies beside the event loop, and
    a decompressor that two threads use at once fails or mixes their bodies up."""

    def __init__(self, dictionaries: dict[int, bytes]) -> None:
        self.by_number = {number: _decompressor(data) for number, data in dictionaries.items()}


def load_bodies(conn: apsw.Connection) -> Bodies:
    """The codec of a store, with every dictionary that it was written with."""
    return Bodies(dict(conn.execute("SELECT number, data FROM dictionary")))


def store_dictionary(conn: apsw.Connection) -> None:
    """Copy the dictionary of this version into the store, unless it is there."""
    data = files("fhir_server.storage").joinpath("zdict.bin").read_bytes()
    if not conn.execute("SELECT 1 FROM dictionary WHERE data = ?", (data,)).fetchone():
        conn.execute("INSERT INTO dictionary (data) VALUES (?)", (data,))


def pack_id(id: str) -> str | bytes:
    """A canonical lower-case UUID as 16 bytes, any other id as it is."""
    if len(id) == 36 and id.isascii() and id.encode().translate(_DIGITS) == _UUID:
        return bytes.fromhex(id.replace("-", ""))
    return id


def unpack_id(packed: str | bytes) -> str:
    if isinstance(packed, str):
        return packed
    digits = packed.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


# The same in SQL, to compare and sort by ids.
ID_TEXT = (
    "iif(typeof({0}) = 'text', {0}, lower(substr(hex({0}), 1, 8) || '-' || "
    "substr(hex({0}), 9, 4) || '-' || substr(hex({0}), 13, 4) || '-' || "
    "substr(hex({0}), 17, 4) || '-' || substr(hex({0}), 21)))"
)

_keys = msgspec.msgpack.Decoder(list[int])
pack_numbers = msgspec.msgpack.Encoder().encode


def pack_keys(pairs: Iterable[tuple[int, int]]) -> bytes:
    """The tokens of a resource, (param, value) after (param, value)."""
    return pack_numbers([number for pair in sorted(pairs) for number in pair])


def unpack_keys(packed: bytes | None) -> set[tuple[int, int]]:
    if not packed:
        return set()
    numbers = iter(_keys.decode(packed))
    return set(zip(numbers, numbers, strict=True))


def tokens_of(packed: bytes | None, params: str) -> str:
    """The values of some params among packed keys; a function of SQL, so both lists are JSON."""
    wanted = json.loads(params)
    return json.dumps([v for p, v in unpack_keys(packed) if p in wanted])


def _compressor(data: bytes, level: int) -> zstandard.ZstdCompressor:
    """Tables of the size for a body of the usual length: half the time, and nothing lost."""
    dictionary = zstandard.ZstdCompressionDict(data)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=USUAL,
        dict_size=len(data),
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_dict_id=False,
    )
    dictionary.precompute_compress(compression_params=parameters)
    return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters)


def _decompressor(data: bytes) -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(
        dict_data=zstandard.ZstdCompressionDict(data), format=zstandard.FORMAT_ZSTD1_MAGICLESS
    )
