"""Straight to a quantized file: the bytes, keys and order that llama.cpp's quantizer gives the unquantized one."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import make_adapter
from gguf import GGUFReader
from peft import LoraConfig
from tiny_model import make_model

from convert.cases import CASES
from convert.models import byte_level_tokenizer, sentencepiece_model
from convert.zoo import Case, make
from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.config import ConvertConfig
from edgeft.convert import convert
from edgeft.errors import EdgeftError
from edgeft.imatrix_file import Imatrix, Squares, write_imatrix
from edgeft.quant_types import FTYPE
from edgeft.quantize import Recipe, plan_quantization, quantize
from edgeft.weights import CheckpointWeights, MergedWeights, Weights

CONFIG = ConvertConfig(random_texts=20)
# Experts that are stacked, fused layers and generated factors, convolutions, states, and the plain one.
_SOME_FAMILIES = ("Llama", "Mixtral", "Phi-3", "LFM2", "Granite 4", "Qwen3.5", "Gemma 4")
_FIRST = [next(case for case in CASES if case.family == name) for name in _SOME_FAMILIES]
_FAMILIES = CASES if os.environ.get("EDGEFT_WHOLE_MATRIX") else _FIRST
# One of each kind; the others take long for their codebooks. NVFP4 llama.cpp has no quantizer for.
_SOME = ("Q4_0", "Q3_K_M", "Q5_K_M", "IQ4_XS", "TQ2_0", "MXFP4_MOE", "Q2_0", "BF16")
_TYPES = [name for name in FTYPE if name != "NVFP4"] if os.environ.get("EDGEFT_EXHAUSTIVE") else _SOME

Convert = Callable[..., GgufFile]


def both(convert_to: Convert, recipe: Recipe, folder: Path, source: GgufFile | None = None) -> tuple[bytes, bytes]:
    """Returns our file and the one that llama.cpp makes of the unquantized file."""
    source = source or convert_to(folder / "unquantized.gguf")
    theirs = quantize(source, recipe, folder / "theirs.gguf", threads=2)
    ours = convert_to(folder / "ours.gguf", planner=partial(plan_quantization, recipe=recipe))
    return ours.path.read_bytes(), theirs.path.read_bytes()


def converting(checkpoint: Checkpoint, weights: Weights | None = None, config: ConvertConfig = CONFIG) -> Convert:
    return partial(convert, weights or CheckpointWeights(checkpoint), checkpoint, config)


def random_imatrix(gguf: GgufFile, path: Path) -> Path:
    """Writes an importance matrix of every matrix in the blocks of a file, one for each expert."""
    rng = np.random.default_rng(0)
    squares = {}
    for tensor in GGUFReader(gguf.path).tensors:
        columns, *rows = (int(length) for length in tensor.shape)
        if rows and tensor.name.startswith("blk."):
            matrices = int(np.prod(rows[1:]))
            sums = rng.random((matrices, columns), dtype=np.float32) * 100
            squares[tensor.name] = Squares(sums, np.full(matrices, 100, dtype=np.float32))
    write_imatrix(Imatrix(squares, ["random"], 1, 100), path)
    return path


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tokenizers")
    byte_level_tokenizer(root / "bpe", "qwen2")
    sentencepiece_model(root / "spm")
    return root


@pytest.mark.parametrize("case", _FAMILIES, ids=lambda case: case.id)
def test_every_family_has_the_bytes_of_llama_cpps_quantizer(case: Case, tokenizers: Path, tmp_path: Path) -> None:
    """Rows of 64 values, so that every K-type falls back to another; experts have importance matrices of their own."""
    make(case, tmp_path / "model", tokenizers / ("spm" if case.sentencepiece else "bpe"))
    convert_to = converting(Checkpoint.open(tmp_path / "model"))
    source = convert_to(tmp_path / "unquantized.gguf")
    recipe = Recipe("Q4_K_M", imatrix=random_imatrix(source, tmp_path / "imatrix.gguf"))
    ours, theirs = both(convert_to, recipe, tmp_path, source)
    assert ours == theirs


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Convert, GgufFile, Path]:
    """A model of rows that K-types have blocks for, how to convert it, its file, and an importance matrix."""
    folder = tmp_path_factory.mktemp("wide")
    convert_to = converting(make_model(folder / "model", intermediate_size=256, tie_word_embeddings=False))
    source = convert_to(folder / "unquantized.gguf")
    return convert_to, source, random_imatrix(source, folder / "imatrix.gguf")


@pytest.mark.parametrize("name", _TYPES)
def test_every_type_has_the_bytes_of_llama_cpps_quantizer(
    wide: tuple[Convert, GgufFile, Path], name: str, tmp_path: Path
) -> None:
    convert_to, source, imatrix = wide
    ours, theirs = both(convert_to, Recipe(name, imatrix=imatrix), tmp_path, source)
    assert ours == theirs


def test_base_and_adapter_give_what_the_merged_file_gives(tmp_path: Path) -> None:
    base = make_model(tmp_path / "model")
    adapter = make_adapter(base, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]), tmp_path / "adapter")
    weights = MergedWeights(CheckpointWeights(base), adapter)
    ours, theirs = both(converting(base, weights), Recipe("Q4_K_M"), tmp_path)
    assert ours == theirs


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_recipe_is_followed_whatever_is_rounded_from(dtype: str, tmp_path: Path) -> None:
    checkpoint = make_model(tmp_path / "model", dtype=torch.float32, tie_word_embeddings=False)
    recipe = Recipe("Q4_K_S", {"ffn_down": "Q8_0", "blk.1.attn_v": "F16", "attn_v": "F32"}, "Q5_K", "Q6_K")
    config = CONFIG.model_copy(update={"dtype": dtype})
    ours, theirs = both(converting(checkpoint, config=config), recipe, tmp_path)
    assert ours == theirs


def test_several_files_hold_what_one_does(wide: tuple[Convert, GgufFile, Path], tmp_path: Path) -> None:
    convert_to, _, _ = wide
    planner = partial(plan_quantization, recipe=Recipe("Q8_0"))
    whole = convert_to(tmp_path / "whole.gguf", planner=planner)
    split = convert_to(tmp_path / "split.gguf", planner=planner, split_max_bytes=300_000)
    assert len(split.parts) > 1
    found = [tensor for part in split.parts for tensor in GGUFReader(part).tensors]
    for ours, theirs in zip(found, GGUFReader(whole.path).tensors, strict=True):
        assert (ours.name, ours.tensor_type, ours.data.tobytes()) == (
            theirs.name,
            theirs.tensor_type,
            theirs.data.tobytes(),
        )


def test_what_fails_leaves_nothing(wide: tuple[Convert, GgufFile, Path], tmp_path: Path) -> None:
    convert_to, _, imatrix = wide
    other = make_model(tmp_path / "other", intermediate_size=512)
    out = tmp_path / "out"
    out.mkdir()

    def refused(how: Convert, recipe: Recipe) -> str:
        with pytest.raises(EdgeftError) as caught:
            how(out / "q.gguf", planner=partial(plan_quantization, recipe=recipe))
        assert list(out.iterdir()) == []
        return str(caught.value)

    of_another = refused(converting(other), Recipe("Q4_K_M", imatrix=imatrix))
    assert "blk.1.ffn_down.weight: the importance matrix has 256 columns, the tensor 512" in of_another
    lacking = refused(convert_to, Recipe("Q4_K_M", {"ffn_up": "IQ2_S"}))
    assert lacking.count("IQ2_S needs an importance matrix with this tensor") == 2
    config = CONFIG.model_copy(update={"converter": "fetched"})
    assert "writes no quantized file" in refused(converting(other, config=config), Recipe("Q8_0"))
    broken = Broken(CheckpointWeights(other))
    assert "NaN or infinite" in refused(converting(other, broken), Recipe("Q4_K_M"))


class Broken:
    """Weights of which the last row of one tensor is not a number."""

    def __init__(self, weights: CheckpointWeights) -> None:
        self._weights = weights
        self.specs = weights.specs

    def read(self, name: str) -> torch.Tensor:
        return self.read_rows(name, 0, self.specs[name].shape[0])

    def read_rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        rows = self._weights.read_rows(name, start, stop).clone()
        if name == "model.layers.1.mlp.up_proj.weight":
            rows[-1] = torch.nan
        return rows

    def whole(self, name: str) -> bool:
        return self._weights.whole(name)
