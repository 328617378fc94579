"""Recipes: each tensor gets the type that was asked for, and every type is written and loads, or is refused."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from tiny_model import make_model

from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.cli.recipes import targets
from edgeft.config import ConvertConfig
from edgeft.convert import convert
from edgeft.errors import EdgeftError
from edgeft.imatrix_file import Imatrix, Squares, write_imatrix
from edgeft.llamacpp import Engine
from edgeft.quant_types import FTYPE, NEEDS_IMATRIX
from edgeft.quantize import Recipe, footprint, quantize
from edgeft.quantize.budget import Budget, quantize_to_budget
from edgeft.weights import CheckpointWeights

# Each takes seconds to build its codebooks, whatever the model's size: one of them is enough for every run.
SLOW = {name for name in FTYPE if name.startswith(("IQ1", "IQ2", "IQ3"))} - {"IQ3_XXS"}


def types(gguf: GgufFile) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(gguf.path).tensors}


@pytest.fixture(scope="module")
def imatrix(tiny_f32: GgufFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random importance matrix of the tiny model."""
    rng = np.random.default_rng(0)
    squares = {
        tensor.name: Squares(
            rng.random((1, int(tensor.shape[0])), dtype=np.float32) * 100, np.array([100], dtype=np.float32)
        )
        for tensor in GGUFReader(tiny_f32.path).tensors
        if tensor.name.startswith("blk.") and "norm" not in tensor.name
    }
    path = tmp_path_factory.mktemp("imatrix") / "random.gguf"
    write_imatrix(Imatrix(squares, ["random"], 1, 100), path)
    return path


def test_the_first_pattern_that_matches_a_tensor_gives_its_type(tiny_f32: GgufFile, tmp_path: Path) -> None:
    recipe = Recipe("Q4_K_M", {r"blk\.0\.ffn_down": "Q8_0", "ffn_down": "q5_k"}, embedding="Q6_K")
    made = types(quantize(tiny_f32, recipe, tmp_path / "mixed.gguf"))
    assert made["blk.0.ffn_down.weight"] == "Q8_0"
    assert made["blk.1.ffn_down.weight"] == "Q5_K"
    assert made["token_embd.weight"] == "Q6_K"
    assert made["blk.0.attn_q.weight"] == "Q4_K"
    assert made["output_norm.weight"] == "F32"


def test_pure_gives_every_matrix_the_type_of_the_file(tiny_f32: GgufFile, tmp_path: Path) -> None:
    mixed, pure = (
        types(quantize(tiny_f32, Recipe("Q4_K_M", pure=flag), tmp_path / f"{flag}.gguf")) for flag in (False, True)
    )
    matrices = {name for name in mixed if "norm" not in name}
    assert {mixed[name] for name in matrices} > {"Q4_K"}
    assert {pure[name] for name in matrices} == {"Q4_K"}


def test_an_importance_matrix_changes_the_codes_and_is_named_in_the_file(
    tiny_f32: GgufFile, imatrix: Path, tmp_path: Path
) -> None:
    plain = quantize(tiny_f32, "Q4_K_M", tmp_path / "plain.gguf")
    weighted = quantize(tiny_f32, Recipe("Q4_K_M", imatrix=imatrix), tmp_path / "weighted.gguf")
    ours, theirs = (GGUFReader(gguf.path) for gguf in (weighted, plain))
    changed = {a.name for a, b in zip(ours.tensors, theirs.tensors, strict=True) if not np.array_equal(a.data, b.data)}
    assert changed == {name for name in types(plain) if name.startswith("blk.") and "norm" not in name}
    keys = {key: field.contents() for key, field in ours.fields.items() if key.startswith("quantize.imatrix.")}
    assert keys == {
        "quantize.imatrix.file": "random.gguf",
        "quantize.imatrix.dataset": "random",
        "quantize.imatrix.entries_count": len(changed),
        "quantize.imatrix.chunks_count": 1,
    }


def test_everything_wrong_in_a_recipe_is_said_at_once(tmp_path: Path) -> None:
    recipe = Recipe("IQ1_S", {"attn(": "Q9"}, output="Q4_KM", imatrix=None)
    with pytest.raises(EdgeftError) as caught:
        recipe.checked()
    assert [problem.what.partition(":")[0] for problem in caught.value.problems] == [
        "unknown tensor type 'Q9'",
        "no regular expression",
        "unknown tensor type 'Q4_KM'",
        "IQ1_S needs an importance matrix",
    ]
    with pytest.raises(EdgeftError, match="no such file"):
        Recipe("Q4_K_M", imatrix=tmp_path / "none.gguf").checked()


def test_the_source_is_not_replaced(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """By whatever name, nor is one of its parts."""
    write = partial(convert, CheckpointWeights(tiny_checkpoint), tiny_checkpoint, ConvertConfig(random_texts=0))
    whole, split = write(tmp_path / "whole.gguf"), write(tmp_path / "split.gguf", split_max_bytes=500_000)
    assert len(split.parts) > 2
    (tmp_path / "link.gguf").symlink_to(whole.path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for source, out in ((whole, whole.path), (whole, tmp_path / "link.gguf"), (split, split.parts[1])):
        with pytest.raises(EdgeftError, match="this is the file that is quantized"):
            quantize(source, "Q4_K_M", out)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(EdgeftError, match="this is the file that is quantized"):
        quantize_to_budget(whole, [], Budget(max_kld=1), lambda gguf: 0.0, whole.path)


def test_a_file_that_is_no_importance_matrix_is_refused(tiny_f32: GgufFile, tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match="no importance matrix"):
        quantize(tiny_f32, Recipe("Q4_K_M", imatrix=tiny_f32.path), tmp_path / "out.gguf")
    assert list(tmp_path.iterdir()) == []


def test_every_type_is_written_and_loads_or_is_refused_with_the_reason(imatrix: Path, tmp_path: Path) -> None:
    """llama.cpp makes all its types of this model, but for the one that it has no quantizer for."""
    checkpoint = make_model(tmp_path / "model", num_hidden_layers=1)
    source = convert(CheckpointWeights(checkpoint), checkpoint, ConvertConfig(dtype="f32"), tmp_path / "f32.gguf")

    def attempt(name: str) -> str:
        out = tmp_path / f"{name}.gguf"
        try:
            gguf = quantize(source, Recipe(name, imatrix=imatrix), out, threads=1)
        except EdgeftError as error:
            assert not out.exists()
            return str(error)
        with Engine(gguf, n_ctx=32, threads=1) as engine:
            assert np.isfinite(engine.logits([5, 6, 7])).all()
            assert engine.file_type == name
        return ""

    tried = [name for name in FTYPE if name not in SLOW or os.environ.get("EDGEFT_EXHAUSTIVE")]
    refused = {name: why for name in tried if (why := attempt(name))}
    assert refused == {"NVFP4": f"{source.path}: llama.cpp could not quantize to NVFP4: invalid output file type 39"}
    for name in sorted(NEEDS_IMATRIX):
        with pytest.raises(EdgeftError, match="needs an importance matrix"):
            quantize(source, name, tmp_path / "without.gguf")


def test_a_footprint_counts_weights_and_context(tiny_f32: GgufFile, tmp_path: Path) -> None:
    """2 layers, 2 heads of 64 for keys and values, 2 bytes each."""
    short, long = footprint(tiny_f32, 128), footprint(tiny_f32, 256)
    assert short.kv_bytes == 2 * 2 * 2 * 64 * 128 * 2
    assert long.kv_bytes == 2 * short.kv_bytes
    assert short.bits_per_weight == pytest.approx(32)
    smaller = footprint(quantize(tiny_f32, "Q8_0", tmp_path / "q8.gguf"), 128)
    assert smaller.parameters == short.parameters
    # 34 bytes for 32 weights, and norms that stay float32.
    assert 8.5 < smaller.bits_per_weight < 8.6
    assert short.memory_bytes - smaller.memory_bytes == pytest.approx(
        tiny_f32.size_bytes - smaller.size_bytes, rel=0.01
    )


def test_a_folder_that_is_there_takes_a_single_file_too(tmp_path: Path) -> None:
    q4, q8 = Recipe("Q4_K_M"), Recipe("Q8_0")
    assert targets(tmp_path, "m", [q4]) == [tmp_path / "m-Q4_K_M.gguf"]
    assert targets(tmp_path / "new" / "m.gguf", "m", [q4]) == [tmp_path / "new" / "m.gguf"]
    assert targets(tmp_path / "two", "m", [q4, q8]) == [
        tmp_path / "two" / f"m-{name}.gguf" for name in ("Q4_K_M", "Q8_0")
    ]
