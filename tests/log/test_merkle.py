"""The tree is that of RFC 9162, and its proofs prove what they say and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.log import merkle
from fhir_server.log.merkle import verify_consistency, verify_inclusion
from tests.log.trees import Log, Plain, leaves, now

# The reference tree of Certificate Transparency: eight entries, the roots of its eight sizes.
ENTRIES = (
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
A = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
B = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
C = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
D = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
E = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
F = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"


@pytest.fixture(scope="module")
def reference():
    return Log([merkle.leaf_hash(bytes.fromhex(entry)) for entry in ENTRIES])


@pytest.fixture(scope="module")
def many():
    """A log of more than two full tiles."""
    return Log(leaves(600))


def test_the_reference_tree_has_its_roots(reference):
    assert [root.hex() for root in reference.roots[1:]] == list(ROOTS)
    assert reference.roots[0].hex() == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


@pytest.mark.parametrize(
    ("index", "size", "proof"),
    [
        (0, 1, []),
        (0, 8, [A, B, C]),
        (5, 8, [D, E, ROOTS[3]]),
        (2, 3, [ROOTS[1]]),
        (1, 5, [ROOTS[0], B, D]),
    ],
)
def test_the_reference_inclusion_proofs(reference, index, size, proof):
    assert [each.hex() for each in reference.inclusion(index, size)] == proof


@pytest.mark.parametrize(
    ("old", "size", "proof"),
    [(1, 1, []), (1, 8, [A, B, C]), (6, 8, [F, E, ROOTS[3]]), (2, 5, [B, D])],
)
def test_the_reference_consistency_proofs(reference, old, size, proof):
    assert [each.hex() for each in reference.consistency(old, size)] == proof


def test_a_record_is_a_leaf_of_its_salt_and_content():
    salted = merkle.salted_leaf(b"0123456789abcdef", b"{}")
    assert salted.hex() == "7e991a3df5d0e5b1d1a2dd688ceef3a9ce635733769fef90b2f6d0a8f052e7d5"


SIZES = [*range(1, 34), 63, 64, 65, 255, 256, 257, 511, 512, 513, 600]


@pytest.mark.parametrize("size", SIZES)
def test_every_proof_is_the_standards_own_and_verifies(many, size):
    plain = Plain(leaves(size))
    root = many.roots[size]
    assert root == plain.root(0, size) == now(merkle.root(size, many.tile))
    step = 1 if size < 100 else 7
    for index in {*range(0, size, step), size - 1}:
        proof = many.inclusion(index, size)
        assert proof == plain.path(index, 0, size)
        assert verify_inclusion(plain.hashes[index], index, size, proof, root)
    for old in {*range(1, size + 1, step), size - 1, size} - {0}:
        proof = many.consistency(old, size)
        assert proof == plain.proof(old, 0, size)
        assert verify_consistency(old, size, proof, many.roots[old], root)
    assert many.consistency(0, size) == []
    assert verify_consistency(0, size, [], merkle.EMPTY_ROOT, root)


def altered(proof):
    """Every proof that differs in one place: a bit, a hash less, more, or elsewhere."""
    for at, each in enumerate(proof):
        yield [*proof[:at], bytes([each[0] ^ 1]) + each[1:], *proof[at + 1 :]]
        yield [*proof[:at], *proof[at + 1 :]]
        yield [*proof[:at], each, *proof[at:]]
    yield [*proof, merkle.EMPTY_ROOT]
    yield [merkle.EMPTY_ROOT, *proof]
    if len(proof) > 1:
        yield proof[::-1]


@pytest.mark.parametrize("size", [*range(1, 18), 31, 32, 33])
def test_an_altered_inclusion_proof_proves_nothing(many, size):
    hashes, root = leaves(size), many.roots[size]
    for index, leaf in enumerate(hashes):
        proof = many.inclusion(index, size)
        for false in altered(proof):
            assert not verify_inclusion(leaf, index, size, false, root)
        for other in {*range(size + 2), -1} - {index}:
            assert not verify_inclusion(leaf, other, size, proof, root)
        assert not verify_inclusion(hashes[index - 1], index, size, proof, root) or size == 1
        assert not verify_inclusion(leaf, index, size, proof, many.roots[size + 1])
        assert not verify_inclusion(merkle.leaf_hash(b"other"), index, size, proof, root)


@pytest.mark.parametrize("size", [*range(1, 18), 31, 32, 33])
def test_an_altered_consistency_proof_proves_nothing(many, size):
    root = many.roots[size]
    for old in range(size + 1):
        proof, before = many.consistency(old, size), many.roots[old]
        for false in altered(proof):
            assert not verify_consistency(old, size, false, before, root)
        assert not verify_consistency(old, size, proof, merkle.leaf_hash(b""), root)
        assert not verify_consistency(size, old, proof, root, before) or old == size
        assert not verify_consistency(-1, size, proof, before, root)
        if old:  # every tree begins with the empty one
            assert not verify_consistency(old, size, proof, before, merkle.leaf_hash(b""))
        if 0 < old < size:
            assert not verify_consistency(old - 1, size, proof, many.roots[old - 1], root)


def test_a_rewritten_log_is_not_consistent_with_what_it_was(many):
    """Whatever leaf was changed, no proof of the new tree leads to the old root."""
    for changed in range(20):
        hashes = leaves(40)
        hashes[changed] = merkle.leaf_hash(b"rewritten")
        forged = Log(hashes)
        proof = forged.consistency(20)
        assert verify_consistency(20, 40, proof, forged.roots[20], forged.roots[40])
        assert not verify_consistency(20, 40, proof, many.roots[20], forged.roots[40])


@pytest.fixture(scope="module")
def huge():
    """A log of three levels of tiles, and its definition."""
    hashes = leaves(66_000)
    return Log(hashes), Plain(hashes)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_proofs_of_any_size_are_the_standards_own(huge, data):
    log, plain = huge
    size = data.draw(st.integers(1, log.size))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    inclusion, consistency = log.inclusion(index, size), log.consistency(old, size)
    assert inclusion == plain.path(index, 0, size)
    assert consistency == plain.proof(old, 0, size)
    assert verify_inclusion(plain.hashes[index], index, size, inclusion, log.roots[size])
    assert verify_consistency(old, size, consistency, log.roots[old], log.roots[size])
    for false in altered(inclusion):
        assert not verify_inclusion(plain.hashes[index], index, size, false, log.roots[size])
    for false in altered(consistency):
        assert not verify_consistency(old, size, false, log.roots[old], log.roots[size])


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 600])
def test_a_frontier_read_from_tiles_grows_like_the_one_that_was_there(many, size):
    frontier = now(merkle.frontier(size, many.tile))
    assert frontier.root() == many.roots[size]
    for leaf in leaves(30, size):
        frontier.append(leaf)
    assert frontier.size == size + 30
    assert frontier.root() == Plain(leaves(size + 30)).root(0, size + 30)


def test_a_frontier_has_as_many_roots_as_its_size_says():
    with pytest.raises(ValueError, match="A tree of 3 leaves has 2 complete subtrees"):
        merkle.Frontier(3, [merkle.EMPTY_ROOT])


def test_a_tile_that_is_missing_or_too_short_is_named(many):
    async def cut(level, number):
        return (await many.tile(level, number))[:320] if number == 1 else b""

    with pytest.raises(merkle.TileMissing, match="Tile 1 of level 0 does not have 44 hashes"):
        now(merkle.inclusion(280, 300, cut))
    with pytest.raises(merkle.TileMissing, match="Tile 0 of level 1 does not have 1 hashes"):
        now(merkle.root(256, cut))


def test_what_is_not_in_the_log_has_no_proof(many):
    with pytest.raises(ValueError, match="A log of 5 leaves has no leaf 5"):
        many.inclusion(5, 5)
    with pytest.raises(ValueError, match="A log of 5 leaves was never one of 6"):
        many.consistency(6, 5)


def test_a_proof_reads_each_tile_once(many):
    asked = []

    async def tile(level, number):
        asked.append((level, number))
        return await many.tile(level, number)

    now(merkle.inclusion(300, 600, tile))
    assert sorted(asked) == sorted(set(asked))
