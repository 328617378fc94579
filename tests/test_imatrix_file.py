"""Importance matrices on disk: both forms come back, matrices add up, and what is none is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeft.errors import EdgeftError
from edgeft.imatrix_file import (
    Imatrix,
    Squares,
    merge_imatrices,
    read_imatrix,
    write_imatrix,
    write_legacy_imatrix,
)


def some(seed: int, *, experts: int = 3) -> Imatrix:
    rng = np.random.default_rng(seed)
    counts = np.arange(experts, dtype=np.float32) * 7  # the first expert was given nothing
    sums = rng.random((experts, 8), dtype=np.float32) * counts[:, None]
    dense = Squares(rng.random((1, 16), dtype=np.float32), np.array([40], dtype=np.float32))
    return Imatrix({"blk.0.ffn_up_exps.weight": Squares(sums, counts), "blk.0.attn_q.weight": dense}, ["a.txt"], 5, 8)


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    wanted = some(0)
    write_imatrix(wanted, tmp_path / "im.gguf")
    got = read_imatrix(tmp_path / "im.gguf")
    assert (got.datasets, got.chunk_count, got.chunk_tokens) == (["a.txt"], 5, 8)
    assert got.squares.keys() == wanted.squares.keys()
    for name, squares in wanted.squares.items():
        np.testing.assert_array_equal(got.squares[name].sums, squares.sums)
        np.testing.assert_array_equal(got.squares[name].counts, squares.counts)


def test_the_old_form_keeps_the_means(tmp_path: Path) -> None:
    wanted = some(1)
    write_legacy_imatrix(wanted, tmp_path / "im.dat")
    got = read_imatrix(tmp_path / "im.dat")
    assert (got.datasets, got.chunk_count) == (["a.txt"], 5)
    for name, mean in wanted.means().items():
        # A float32 product and a quotient by the calls.
        np.testing.assert_allclose(got.means()[name].reshape(-1), mean.reshape(-1), rtol=1e-6)


def test_what_no_expert_saw_weighs_one() -> None:
    means = some(2).means()["blk.0.ffn_up_exps.weight"]
    assert (means[0] == 1).all()
    assert not (means[1] == 1).any()


def test_matrices_add_up() -> None:
    first, second = some(3), some(4)
    both = merge_imatrices([first, second])
    assert both.chunk_count == 10
    name = "blk.0.attn_q.weight"
    np.testing.assert_array_equal(both.squares[name].sums, first.squares[name].sums + second.squares[name].sums)
    assert both.squares[name].counts.tolist() == [80]
    with pytest.raises(EdgeftError, match="of different models"):
        merge_imatrices([first, some(5, experts=4)])


def test_the_old_form_weighs_in_a_merge_what_the_gguf_form_of_it_weighs(tmp_path: Path) -> None:
    """Its counts are of chunks, those of the other of tokens."""
    name = "blk.0.attn_q.weight"
    first, second = (Imatrix({name: some(seed).squares[name]}, ["a.txt"], 5, 8) for seed in (7, 8))
    write_imatrix(second, tmp_path / "im.gguf")
    write_legacy_imatrix(second, tmp_path / "im.dat")
    new, old = (read_imatrix(tmp_path / file) for file in ("im.gguf", "im.dat"))
    wanted = (first.means()[name] + second.means()[name]) / 2
    for order in ([first, new], [first, old], [old, first]):
        both = merge_imatrices(order)
        # A float32 product and a quotient by the calls.
        np.testing.assert_allclose(both.means()[name], wanted, rtol=1e-6)
        assert both.squares[name].counts.tolist() == [80]
        assert both.chunk_tokens == 8
    assert merge_imatrices([old, old]).squares[name].counts.tolist() == [10]


def test_the_old_form_has_no_counts_of_experts_to_merge(tmp_path: Path) -> None:
    write_legacy_imatrix(some(9), tmp_path / "im.dat")
    with pytest.raises(EdgeftError, match=r"ffn_up_exps\.weight: one .* has a count for each expert"):
        merge_imatrices([some(9), read_imatrix(tmp_path / "im.dat")])


def test_what_is_no_importance_matrix_is_refused(tmp_path: Path) -> None:
    write_imatrix(some(6), tmp_path / "im.gguf")
    write_legacy_imatrix(some(6), tmp_path / "im.dat")
    for name in ("im.gguf", "im.dat"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(EdgeftError, match="no importance matrix"):
            read_imatrix(tmp_path / "cut")
    for content in (b"", b"\x01\x00\x00\x00", b"some text that is long enough to be read as numbers"):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(EdgeftError, match="no importance matrix"):
            read_imatrix(tmp_path / "other")


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    broken = Imatrix(
        {"blk.0.attn_q.weight": Squares(np.full((1, 4), np.nan, np.float32), np.ones(1, np.float32))}, [], 1, 8
    )
    write_imatrix(broken, tmp_path / "im.gguf")
    with pytest.raises(EdgeftError, match=r"not finite: blk\.0\.attn_q\.weight"):
        read_imatrix(tmp_path / "im.gguf")
