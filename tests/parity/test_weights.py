"""Weights against fingerprints: what rounding may do, what training left, and what is damage; ggml quantizes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter

from edgeft.artifacts import GgufFile
from edgeft.gguf_header import read_header
from edgeft.llamacpp import dequantize
from edgeft.llamacpp.blocks import PLAIN_TYPES, quantize_rows
from edgeft.parity.fingerprint import cell_means, cell_sums, fingerprint, pack, unpack
from edgeft.parity.ladder import Rung
from edgeft.parity.record_weights import ExpectedShares, change_direction
from edgeft.parity.reference import ModelFacts
from edgeft.parity.rounding import rounding_variances
from edgeft.parity.rungs.weights import check_weights
from edgeft.progress import silent

Floats = npt.NDArray[np.float32]
_FACTS = ModelFacts({"tie_word_embeddings": True}, {}, 0, None, False)
_LAYERS, _ROWS, _COLUMNS, _RANK = 6, 64, 512, 4
# Of these, ggml makes no code without an importance matrix.
_NEED_IMPORTANCE = ("IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS")


def outlying(rows: int, columns: int, seed: int = 0) -> Floats:
    """Returns weights as real models have them: rows of different size, and single weights of 18 times the others'."""
    random = np.random.default_rng(seed)
    weights = random.standard_t(5, size=(rows, columns)) * np.exp(random.normal(size=(rows, 1)) / 2) / 20
    weights[random.integers(rows, size=rows // 4), random.integers(columns, size=rows // 4)] = 18 / 20
    return weights.astype(np.float32)


def rounded(weights: Floats, kind: str, importance: Floats | None = None) -> Floats:
    """Returns weights after ggml's own quantization to a type."""
    codes = quantize_rows(weights, kind, importance)
    return dequantize(codes.reshape(-1), GGMLQuantizationType[kind]).reshape(weights.shape)


@pytest.mark.parametrize("kind", sorted(PLAIN_TYPES | {"IQ3_S", *_NEED_IMPORTANCE}))
@pytest.mark.parametrize("important", [False, True], ids=["", "importance"])
def test_no_cell_is_further_off_than_its_blocks_let_expect(kind: str, important: bool) -> None:
    if kind in _NEED_IMPORTANCE and not important:
        pytest.skip("it needs an importance matrix")
    weights = outlying(128, 512)
    columns = np.exp(np.random.default_rng(1).normal(size=512) * 1.5).astype(np.float32)
    ours = rounded(weights, kind, columns if important else None)
    variances = rounding_variances(ours.reshape(-1), GGMLQuantizationType[kind])
    off = cell_sums((ours - weights).reshape(-1), 256) / np.sqrt(cell_means(variances, 256))
    assert np.abs(off).max() < (14 if important else 7)
    # And it expects no more than there is: a test that allows anything would pass, too.
    assert np.sqrt(np.mean(off**2)) > 0.5


class Model:
    """Matrices of some layers, before and after a training of low rank, and files of them."""

    def __init__(self, root: Path, size: float = 0.02, on_grid: str | None = None) -> None:
        random = np.random.default_rng(3)
        self._root = root
        self.before: dict[str, Floats] = {}
        self.after: dict[str, Floats] = {}
        for layer in range(_LAYERS):
            for name in ("up", "gate"):
                weights = outlying(_ROWS, _COLUMNS, seed=len(self.before))
                key = f"blk.{layer}.ffn_{name}.weight"
                self.before[key] = rounded(weights, on_grid) if on_grid else weights
                halves = random.normal(size=(_ROWS, _RANK)), random.normal(size=(_RANK, _COLUMNS))
                change = (halves[0] @ halves[1]) * size * 0.05 / _RANK**0.5
                self.after[key] = self.before[key] + change.astype(np.float32)

    def report(self, kind: str, change: Callable[[dict[str, Floats]], None] | None = None) -> Rung:
        """Returns the rung of a file of the trained weights, changed before they are rounded."""
        weights = dict(self.after)
        if change is not None:
            change(weights)
        path = self._root / f"{kind}.gguf"
        write(path, {name: rounded(one, kind) if kind != "F16" else one for name, one in weights.items()}, kind)
        expected, prints = ExpectedShares(), []
        for name, one in self.after.items():
            after, before = torch.from_numpy(one), torch.from_numpy(self.before[name])
            direction = change_direction(after, before)
            assert direction is not None
            expected.add(before, after, direction, len(self.after))
            prints.append(fingerprint(_theirs(name), one, 256, direction))
        rows, arrays = pack(prints)
        theirs = {one.name: one for one in unpack(rows, arrays)}
        return check_weights(read_header(GgufFile(path)), theirs, _FACTS, silent, expected.result())


def _theirs(name: str) -> str:
    _, layer, matrix, _ = name.split(".")
    return f"model.layers.{layer}.mlp.{matrix.removeprefix('ffn_')}_proj.weight"


def write(path: Path, weights: Mapping[str, Floats], kind: str) -> None:
    """Writes a file of these matrices and no more keys than its layout needs."""
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(_LAYERS)
    for name, one in weights.items():
        if kind == "F16":
            writer.add_tensor(name, one.astype(np.float16))
        else:
            writer.add_tensor(name, quantize_rows(one, kind), raw_dtype=GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def merged_at(model: Model, share: float, of: str = "") -> Callable[[dict[str, Floats]], None]:
    """Returns what puts the training in at another scale, in the tensors whose names hold `of`."""

    def change(weights: dict[str, Floats]) -> None:
        for name in weights:
            if of in name:
                before = model.before[name]
                weights[name] = before + np.float32(share) * (model.after[name] - before)

    return change


def causes(rung: Rung) -> list[str]:
    return [failure.cause for failure in rung.failures]


_WHOLE = bool(os.environ.get("EDGEFT_WHOLE_MATRIX"))
_TYPES = ("F16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_0", "Q3_K", "Q2_K") if _WHOLE else ("F16", "Q8_0", "Q4_K", "Q2_K")


@pytest.mark.parametrize("kind", _TYPES)
@pytest.mark.parametrize("size", [0.3, 0.0005])
def test_a_correct_file_passes_however_little_was_trained(kind: str, size: float, tmp_path: Path) -> None:
    rung = Model(tmp_path, size).report(kind)
    assert causes(rung) == []
    assert rung.warnings == ()
    assert rung.figures["adapter_share_low"] - 0.2 < 1 < rung.figures["adapter_share_high"] + 0.2


@pytest.mark.parametrize("kind", _TYPES)
@pytest.mark.parametrize(
    ("share", "cause"),
    [(0.0, "the adapter is not merged"), (2.0, "the adapter is merged twice"), (0.5, "merged at 0.5 of its scale")],
)
def test_a_training_that_is_not_in_is_found(kind: str, share: float, cause: str, tmp_path: Path) -> None:
    model = Model(tmp_path, 0.3)
    rung = model.report(kind, merged_at(model, share))
    assert len(rung.failures) == 1
    assert cause in causes(rung)[0]
    assert f"({2 * _LAYERS} tensors)" in causes(rung)[0]


@pytest.mark.parametrize("kind", ("F16", "Q8_0", "Q4_K", "Q4_0"))
def test_a_training_that_is_not_in_one_layer_is_found_there(kind: str, tmp_path: Path) -> None:
    model = Model(tmp_path, 0.3)
    rung = model.report(kind, merged_at(model, 0.0, "blk.2."))
    assert [(failure.cause.split(" (")[0], "blk.2." in failure.where) for failure in rung.failures] == [
        ("the adapter is not merged: these are the base model's weights", True)
    ]
    assert "blk.3." not in rung.failures[0].where


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K", "Q8_0"])
def test_what_rounding_takes_back_is_said_and_no_fault(kind: str, tmp_path: Path) -> None:
    """The base lies on the very grid: a small training rounds back to it, and the file is as if not merged."""
    rung = Model(tmp_path, 0.002, on_grid=kind).report(kind)
    assert causes(rung) == []
    assert rung.figures["adapter_share"] < 0.5
    assert ["rounding took much of the training" in one.cause for one in rung.warnings] == [True]
    assert f"{kind} leads the base's weights back" in rung.warnings[0].cause


def zeroed_block(weights: dict[str, Floats]) -> None:
    one = weights["blk.1.ffn_up.weight"].copy()
    one[7, 256:512] = 0
    weights["blk.1.ffn_up.weight"] = one


def zeroed_blocks_of_32(weights: dict[str, Floats]) -> None:
    one = weights["blk.1.ffn_up.weight"].copy()
    one[7, 32:64] = 0
    weights["blk.1.ffn_up.weight"] = one


def shuffled_row(weights: dict[str, Floats]) -> None:
    one = weights["blk.1.ffn_up.weight"].copy()
    one[7] = np.random.default_rng(5).permutation(one[7])
    weights["blk.1.ffn_up.weight"] = one


def scaled_block(weights: dict[str, Floats]) -> None:
    one = weights["blk.1.ffn_up.weight"].copy()
    one[7, :256] *= 2
    weights["blk.1.ffn_up.weight"] = one


@pytest.mark.parametrize("kind", ("F16", "Q8_0", "Q5_0", "Q4_K"))
@pytest.mark.parametrize("damage", [zeroed_block, zeroed_blocks_of_32, shuffled_row, scaled_block])
def test_damage_to_a_part_is_found_there(kind: str, damage: Any, tmp_path: Path) -> None:
    if damage is zeroed_blocks_of_32 and kind in ("Q5_0", "Q4_K"):
        pytest.skip("an eighth of a cell may be below their resolution: docs/parity.md")
    rung = Model(tmp_path, 0.3).report(kind, damage)
    assert causes(rung) == ["weights of one part are damaged, rows 7 to 7"]
    assert rung.failures[0].where.startswith("blk.1.ffn_up.weight")
