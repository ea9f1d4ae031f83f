"""Keys are destroyed on the log's word, and on no other row's."""

from __future__ import annotations

from fhir_server.log.merkle import salted_leaf
from fhir_server.log.tombstone import Tombstone
from fhir_server.storage.store import Notice
from salus.backup.erased import obeyed


def test_only_what_the_log_has_is_obeyed_and_no_key_that_is_in_use_is_named():
    keys = [b"%08d" % each for each in range(3)]
    stones = [Tombstone.of("erased", [key], [], 5_000, "asked for").encode() for key in keys]
    hashes = b"".join(salted_leaf(b"", each) for each in stones)

    async def tile(level, number):
        return hashes if (level, number) == (0, 0) else b""

    notices = [
        Notice(0, stones[0]),
        Notice(1, stones[2]),  # another stands at this leaf
        Notice(2, stones[2]),
        Notice(1_000_000, stones[1]),
    ]
    found = obeyed(notices, tile, {keys[2]})
    assert [each.keys for each in found] == [(keys[0],), ()]
