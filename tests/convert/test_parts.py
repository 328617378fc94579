"""The parts of convert on their own, against independent references."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import sentencepiece
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from convert.models import LLAMA3_ROPE, sentencepiece_model
from edgeft.convert.decoder import add_one
from edgeft.convert.families import plan_of
from edgeft.convert.rope import llama3_frequency_factors, permuted_rows
from edgeft.convert.sentencepiece_model import read_model
from edgeft.convert.tensors import MATRIX_TYPES, encode, stored_type
from edgeft.errors import EdgeftError


def test_the_model_file_reads_as_sentencepiece_reads_it(tmp_path: Path) -> None:
    processor = sentencepiece_model(tmp_path)
    model = read_model(tmp_path / "tokenizer.model")
    assert [piece.text for piece in model.pieces] == [processor.id_to_piece(n) for n in range(processor.vocab_size())]
    assert [piece.score for piece in model.pieces] == [processor.get_score(n) for n in range(processor.vocab_size())]
    for number, piece in enumerate(model.pieces):
        assert (piece.type == gguf.TokenType.BYTE) == processor.is_byte(number)
        assert (piece.type == gguf.TokenType.CONTROL) == processor.is_control(number)
        assert (piece.type == gguf.TokenType.UNKNOWN) == processor.is_unknown(number)
    assert model.pieces[3].type == gguf.TokenType.USER_DEFINED
    assert model.add_dummy_prefix


def test_a_piece_longer_than_one_length_byte(tmp_path: Path) -> None:
    sentencepiece_model(tmp_path)
    path = tmp_path / "tokenizer.model"
    # Field 1 of 303 bytes, in it field 1 of 300 bytes: lengths of two bytes, seven bits in each.
    path.write_bytes(path.read_bytes() + b"\x0a\xaf\x02" + b"\x0a\xac\x02" + b"x" * 300)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    last = read_model(path).pieces[-1]
    assert last.text == processor.id_to_piece(processor.vocab_size() - 1) == "x" * 300
    assert last.score == 0.0 and last.type == gguf.TokenType.NORMAL


def test_every_truncation_of_a_model_file_is_refused_or_shorter(tmp_path: Path) -> None:
    sentencepiece_model(tmp_path)
    path = tmp_path / "tokenizer.model"
    content = path.read_bytes()
    pieces = len(read_model(path).pieces)
    for size in range(0, len(content) - 1, 97):
        path.write_bytes(content[:size])
        try:
            assert len(read_model(path).pieces) <= pieces
        except EdgeftError as error:
            assert "SentencePiece" in str(error) or "BPE" in str(error)


def test_rounding_is_that_of_gguf_to_the_bit() -> None:
    bits = torch.randint(-(2**31), 2**31 - 1, (1 << 16,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    # Every mantissa and the exponents of F16's whole range, its subnormals and what rounds to zero in it.
    values = bits.view(torch.float32).remainder(2.0**16).nan_to_num(1.0).clamp(-65504, 65504)
    values = torch.cat([values, values * 2.0**-20, values * 2.0**-34]).reshape(-1, 64)
    for name, reference in (("f16", gguf.GGMLQuantizationType.F16), ("bf16", gguf.GGMLQuantizationType.BF16)):
        ours = encode(values, MATRIX_TYPES[name], "w")
        assert ours.tobytes() == gguf.quants.quantize(values.numpy(), reference).tobytes()


@pytest.mark.parametrize("name", ["f32", "f16", "bf16"])
def test_a_tensor_already_in_its_type_keeps_its_bits(name: str) -> None:
    target = MATRIX_TYPES[name]
    values = torch.randn(8, 32, generator=torch.Generator().manual_seed(0)).to(target.torch)
    kept = torch.from_numpy(encode(values, target, "w").copy()).view(target.torch)
    assert torch.equal(kept, values)


def test_vectors_and_norms_stay_f32() -> None:
    matrix = MATRIX_TYPES["f16"]
    chosen = [stored_type("blk.0.attn_q.bias", (8,), matrix), stored_type("x_norm.weight", (8, 8), matrix)]
    assert {stored.ggml for stored in chosen} == {gguf.GGMLQuantizationType.F32}
    assert stored_type("blk.0.attn_q.weight", (8, 8), matrix) is matrix


def test_permutation_pairs_neighbours() -> None:
    """Row 2i of a head is transformers' row i, row 2i + 1 its row i + head_dim / 2."""
    rows = torch.arange(2 * 8)[:, None] * torch.ones(1, 3)
    assert permuted_rows(2)(rows)[:8, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert permuted_rows(2)(rows[:, 0])[8:].tolist() == [8, 12, 9, 13, 10, 14, 11, 15]


@pytest.mark.parametrize("theta", [10000.0, 500000.0])
def test_frequency_factors_are_those_of_transformers(theta: float) -> None:
    rope = {**LLAMA3_ROPE, "rope_theta": theta, "original_max_position_embeddings": 8192}
    config = LlamaConfig(hidden_size=256, num_attention_heads=2, rope_parameters=rope)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    unscaled = 1.0 / theta ** (torch.arange(0, 128, 2).float() / 128)
    numbers = {name: value for name, value in rope.items() if isinstance(value, float | int)}
    factors = llama3_frequency_factors(128, numbers)
    # llama.cpp divides by the factor what transformers multiplies: one more rounding in float32.
    np.testing.assert_allclose((unscaled / factors).numpy(), scaled.numpy(), rtol=1e-6)


_MISTRAL = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 256,
    "num_attention_heads": 8,
    "num_hidden_layers": 1,
    "intermediate_size": 512,
    "vocab_size": 64,
    "max_position_embeddings": 32768,
}


@pytest.mark.parametrize(
    ("change", "context"),
    [
        ({}, 4096),
        ({"sliding_window": None}, 32768),
        ({"sliding_window": 1024}, 1024),
        ({"sliding_window": 65536}, 32768),
    ],
)
def test_context_of_mistral_ends_at_its_window(change: dict[str, object], context: int) -> None:
    made = plan_of({**_MISTRAL, **change}, "config.json")
    assert made.keys["llama.context_length"] == context
    shapes = {name: shape for tensor in made.tensors for name, shape in tensor.sources.items()}
    assert shapes["model.layers.0.self_attn.k_proj.weight"] == (256, 256)


@pytest.mark.parametrize("spelling", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("kind", ["type", "rope_type"])
def test_both_spellings_of_rope_are_read(spelling: str, kind: str) -> None:
    config = {**_MISTRAL, "rope_theta": 5e5, spelling: {kind: "linear", "factor": 2.0}}
    keys = plan_of(config, "config.json").keys
    assert keys["llama.rope.freq_base"] == 5e5
    assert (keys["llama.rope.scaling.type"], keys["llama.rope.scaling.factor"]) == ("linear", 2.0)


def test_a_change_of_rows_is_undone() -> None:
    rows = torch.arange(32.0).reshape(16, 2)
    order = permuted_rows(2)
    assert torch.equal(order.undo(order(rows)), rows)
    assert torch.equal(order.undo(order(rows[:, 0])), rows[:, 0])


def test_the_one_of_gemmas_norms_is_taken_off_again() -> None:
    """Of the weights that give a stored sum it is the bfloat16 one, and the sum is the file's, bit for bit."""
    weights = torch.randn(4096, generator=torch.Generator().manual_seed(0)).bfloat16()
    small = torch.tensor([1e-3, -7e-6, 1e-9, 0.0]).bfloat16()
    for original in (weights, small):
        stored = add_one(original)
        assert torch.equal(add_one(add_one.undo(stored)), stored)
    assert torch.equal(add_one.undo(add_one(weights)), weights.float())
