"""Codes of single tensors are, byte for byte, those that llama.cpp's quantizer writes into a file."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGUFReader

from edgeft.artifacts import GgufFile
from edgeft.llamacpp.blocks import block_columns, dequantize_rows, quantize_rows, row_bytes
from edgeft.quantize import Recipe, quantize


@pytest.mark.parametrize("type_name", ["Q2_K", "Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_0"])
def test_codes_are_those_of_the_file(tiny_f32: GgufFile, tmp_path: Path, type_name: str) -> None:
    name = "blk.0.ffn_down.weight"
    file_type = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}.get(type_name, type_name)
    made = quantize(tiny_f32, Recipe(file_type, {name: type_name}), tmp_path / "q.gguf")
    (theirs,) = (tensor for tensor in GGUFReader(made.path).tensors if tensor.name == name)
    (source,) = (tensor for tensor in GGUFReader(tiny_f32.path).tensors if tensor.name == name)
    values = np.array(source.data)
    codes = quantize_rows(values, type_name, threads=2)
    assert codes.shape[1] == row_bytes(type_name, values.shape[1])
    np.testing.assert_array_equal(codes, theirs.data)
    # gguf-py's own arithmetic in numpy, float32 in another order.
    expected = gguf.quants.dequantize(theirs.data, theirs.tensor_type)
    np.testing.assert_allclose(dequantize_rows(codes, type_name, values.shape[1]), expected, rtol=1e-5, atol=1e-7)


def test_importance_moves_the_error_to_where_it_matters_less() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((64, 256)).astype(np.float32)
    importance = np.where(np.arange(256) < 128, 100, 1).astype(np.float32)
    errors = [
        np.square(dequantize_rows(quantize_rows(values, "Q3_K", weights), "Q3_K", 256) - values)[:, :128].sum()
        for weights in (None, importance)
    ]
    assert errors[1] < errors[0]


def test_block_sizes() -> None:
    assert [block_columns(name) for name in ("Q8_0", "Q4_K", "F32")] == [32, 256, 1]
    assert row_bytes("Q8_0", 64) == 2 * 34
