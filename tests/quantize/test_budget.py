"""Files within a budget: what is predicted is near what is measured, and what is asked for is kept."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from convert.cases import CASES
from convert.models import byte_level_tokenizer
from convert.zoo import make
from gguf import GGUFReader
from tiny_model import make_model

from edgeft import hf
from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.config import ConvertConfig
from edgeft.convert import convert, tensor_names
from edgeft.errors import EdgeftError
from edgeft.hf.experts import expert_matrices
from edgeft.llamacpp import file_speed
from edgeft.llamacpp.blocks import dequantize_rows, quantize_rows
from edgeft.quantize import Recipe, quantize
from edgeft.quantize.budget import Budget, FileDivergence, matrix_bytes, quantize_to_budget
from edgeft.quantize.costs import TensorCosts, read_costs, write_costs
from edgeft.quantize.passages import Passage
from edgeft.quantize.sensitivity import as_coded, measure_sensitivity
from edgeft.weights import CheckpointWeights


class Case:
    """A tiny model, its file, passages, and the costs of its tensors."""

    def __init__(self, checkpoint: Checkpoint, out: Path) -> None:
        self.checkpoint = checkpoint
        self.source: GgufFile = convert(CheckpointWeights(checkpoint), checkpoint, ConvertConfig(dtype="f32"), out)
        rng = np.random.default_rng(0)
        vocabulary = self.checkpoint.config()["vocab_size"]
        self.passages = [
            Passage(rng.integers(0, vocabulary, length).tolist(), np.arange(length // 2, length - 1))
            for length in (40, 64, 51)
        ]
        self.names = tensor_names(self.checkpoint)
        self.load = partial(hf.load_model, self.checkpoint, "cpu", torch.float32)
        self.costs: list[TensorCosts] = measure_sensitivity(self.load, self.names, self.passages, {})
        self.measure = FileDivergence(self.source, self.passages)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("budget")
    return Case(make_model(folder / "model", hidden_size=256, intermediate_size=256), folder / "f32.gguf")


@pytest.fixture(scope="module", params=["Mixtral", "Qwen3-MoE"])
def mixture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A model with experts."""
    folder = tmp_path_factory.mktemp("mixture")
    byte_level_tokenizer(folder / "bpe", "qwen2")
    of_family = next(case for case in CASES if case.family == request.param)
    # The width of the experts, which the two families name otherwise: whole blocks.
    widths = {"intermediate_size": 96, "moe_intermediate_size": 64}
    make(replace(of_family, settings={**of_family.settings, **widths}), folder / "model", folder / "bpe")
    return Case(Checkpoint.open(folder / "model"), folder / "f32.gguf")


def test_every_matrix_has_costs_that_fall_with_size(case: Case) -> None:
    matrices = {t.name for t in GGUFReader(case.source.path).tensors if "norm" not in t.name}
    assert {cost.name for cost in case.costs} == matrices
    for cost in case.costs:
        assert cost.kld["Q2_K"] > cost.kld["Q4_K"] > cost.kld["Q6_K"] > 0
        assert cost.size_bytes["Q2_K"] < cost.size_bytes["Q4_K"] < cost.size_bytes["Q6_K"]


def test_the_cost_of_one_tensor_is_what_the_file_loses_by_it(case: Case, tmp_path: Path) -> None:
    """llama.cpp rounds the activations of such a product to 8 bits, which torch does not: so within a third."""
    name = "blk.1.ffn_down.weight"
    recipe = Recipe("Q8_0", {name: "Q4_K", ".*": "F32"}, embedding="F32")
    measured = case.measure(quantize(case.source, recipe, tmp_path / "one.gguf"))
    (cost,) = (cost for cost in case.costs if cost.name == name)
    assert measured == pytest.approx(cost.kld["Q4_K"], rel=1 / 3)


def test_some_rows_of_a_large_matrix_tell_what_all_of_them_lose(case: Case, tmp_path: Path) -> None:
    checkpoint = make_model(tmp_path / "model", hidden_size=256, intermediate_size=4096, num_hidden_layers=1)
    name = "blk.0.ffn_up.weight"
    load = partial(hf.load_model, checkpoint, "cpu", torch.float32)
    (cost,) = measure_sensitivity(load, {"model.layers.0.mlp.up_proj.weight": name}, case.passages, {})
    values = CheckpointWeights(checkpoint).read("model.layers.0.mlp.up_proj.weight").float().numpy()
    errors = {
        kind: np.square(dequantize_rows(quantize_rows(values, kind), kind, 256) - values).sum() for kind in cost.kld
    }
    for kind, kld in cost.kld.items():
        # One row in eight: 131,072 weights, whose squared errors have a mean that is within about a hundredth.
        assert kld / cost.kld["Q4_K"] == pytest.approx(errors[kind] / errors["Q4_K"], rel=0.03)


def test_the_model_is_left_as_it_was(case: Case) -> None:
    again = measure_sensitivity(case.load, case.names, case.passages, {})
    assert [cost.size_bytes for cost in again] == [cost.size_bytes for cost in case.costs]
    for cost, first in zip(again, case.costs, strict=True):
        assert cost.kld["Q4_K"] == pytest.approx(first.kld["Q4_K"], rel=1e-3)


def test_a_size_is_kept_and_beats_the_fixed_recipe_of_that_size(case: Case, tmp_path: Path) -> None:
    fixed = quantize(case.source, "Q3_K_M", tmp_path / "fixed.gguf")
    fitted = quantize_to_budget(
        case.source, case.costs, Budget(max_size_bytes=fixed.size_bytes), case.measure, tmp_path / "fitted.gguf"
    )
    assert fitted.gguf.size_bytes <= fixed.size_bytes
    assert fitted.measured_kld == pytest.approx(case.measure(fitted.gguf))
    assert fitted.measured_kld < case.measure(fixed)


def test_a_source_in_several_files_is_one_source(case: Case, tmp_path: Path) -> None:
    """Its matrices count wherever they are, so the same budget gives the same file."""
    config = ConvertConfig(dtype="f32", random_texts=0)
    weights = CheckpointWeights(case.checkpoint)
    parts = convert(weights, case.checkpoint, config, tmp_path / "parts.gguf", split_max_bytes=1_000_000)
    assert len(parts.parts) > 2
    assert matrix_bytes(parts, case.costs) == matrix_bytes(case.source, case.costs)
    budget = Budget(max_size_bytes=quantize(case.source, "Q4_K_M", tmp_path / "fixed.gguf").size_bytes)
    fitted = quantize_to_budget(parts, case.costs, budget, lambda gguf: 0.0, tmp_path / "new" / "fitted.gguf")
    rest_bytes = parts.size_bytes - matrix_bytes(parts, case.costs)
    assert budget.max_size_bytes is not None
    assert budget.max_size_bytes - rest_bytes < fitted.gguf.size_bytes <= budget.max_size_bytes


def test_a_divergence_is_kept_by_the_file_that_is_built(case: Case, tmp_path: Path) -> None:
    limit = case.measure(quantize(case.source, "Q4_K_M", tmp_path / "fixed.gguf"))
    fitted = quantize_to_budget(case.source, case.costs, Budget(max_kld=limit), case.measure, tmp_path / "fitted.gguf")
    assert case.measure(fitted.gguf) <= limit
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fitted.gguf", "fixed.gguf"]


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_a_file_is_found_though_the_sums_are_wrong_by_changing_factors(
    case: Case, tmp_path: Path, factor: float
) -> None:
    """As when each assignment's divergence is beyond the sum by a factor of its own."""

    def measure(gguf: GgufFile) -> float:
        return factor * case.measure(gguf) * (1.2 if gguf.size_bytes // 64 % 2 else 1.0)

    limit = 2 * sum(cost.kld["Q4_K"] for cost in case.costs)
    fitted = quantize_to_budget(case.source, case.costs, Budget(max_kld=limit), measure, tmp_path / "fitted.gguf")
    assert measure(fitted.gguf) == fitted.measured_kld
    assert 0.6 * limit < fitted.measured_kld <= limit  # a model of few tensors has few sizes


def test_what_cannot_be_had_is_refused_with_what_can(case: Case, tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match="the smallest is"):
        quantize_to_budget(case.source, case.costs, Budget(max_size_bytes=1000), case.measure, tmp_path / "x.gguf")
    with pytest.raises(EdgeftError, match="F16 has nearly none"):
        quantize_to_budget(case.source, case.costs, Budget(max_kld=1e-12), case.measure, tmp_path / "x.gguf")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(EdgeftError, match="no record has a trained token"):
        measure_sensitivity(case.load, case.names, [], {})


def test_the_experts_of_a_block_are_one_tensor(mixture: Case) -> None:
    """The router has no choice: llama.cpp leaves it as it is."""
    tensors = {t.name: t for t in GGUFReader(mixture.source.path).tensors}
    by_name = {cost.name: cost for cost in mixture.costs}
    assert by_name.keys() == {name for name in tensors if "norm" not in name and "gate_inp" not in name}
    for part in ("gate", "up", "down"):
        cost = by_name[f"blk.1.ffn_{part}_exps.weight"]
        n_columns, _, n_experts = (int(size) for size in tensors[cost.name].shape)
        assert n_experts == 4
        assert cost.size_bytes["Q4_0"] == tensors[cost.name].n_elements // 32 * 18 and n_columns % 32 == 0
        assert cost.kld["Q4_0"] > cost.kld["Q5_0"] > cost.kld["Q8_0"] > 0


def test_the_cost_of_experts_is_what_the_file_loses_by_them(mixture: Case, tmp_path: Path) -> None:
    """A token may get other experts when what goes into a router changes: hence half, where a matrix has a third."""
    for part in ("gate", "up", "down"):
        name = f"blk.1.ffn_{part}_exps.weight"
        recipe = Recipe("Q8_0", {name: "Q4_0", ".*": "F32"}, output="F32", embedding="F32")
        measured = mixture.measure(quantize(mixture.source, recipe, tmp_path / "one.gguf"))
        (cost,) = (cost for cost in mixture.costs if cost.name == name)
        assert measured == pytest.approx(cost.kld["Q4_0"], rel=1 / 2)


def test_each_expert_is_quantized_with_the_weights_of_its_own_columns(mixture: Case) -> None:
    """The file's codes are those: what torch computes with is what llama.cpp would read."""
    model, name = mixture.load(), "blk.1.ffn_down_exps.weight"
    matrices = dict(expert_matrices(model, mixture.names))[name]
    values = matrices.numpy().copy()
    importance = np.random.default_rng(0).uniform(0.01, 1, (len(values), values.shape[2])).astype(np.float32)
    coded = as_coded(values, "Q4_0", importance)
    for number, matrix in enumerate(values):
        codes = quantize_rows(matrix, "Q4_0", importance[number])
        np.testing.assert_array_equal(coded[number], dequantize_rows(codes, "Q4_0", values.shape[2]))
    assert not np.array_equal(coded, as_coded(values, "Q4_0", np.roll(importance, 1, axis=0)))
    (cost,) = measure_sensitivity(lambda: model, {"x": name}, mixture.passages, {name: importance})
    assert cost.kld["Q4_0"] > cost.kld["Q8_0"] > 0
    np.testing.assert_array_equal(matrices.numpy(), values)


def test_a_mixture_is_kept_within_a_size(mixture: Case, tmp_path: Path) -> None:
    fixed = quantize(mixture.source, "Q4_0", tmp_path / "fixed.gguf")
    budget = Budget(max_size_bytes=fixed.size_bytes)
    fitted = quantize_to_budget(mixture.source, mixture.costs, budget, mixture.measure, tmp_path / "fitted.gguf")
    assert fitted.gguf.size_bytes <= fixed.size_bytes
    types = {t.name: t.tensor_type.name for t in GGUFReader(fitted.gguf.path).tensors}
    for pattern, kind in fitted.recipe.tensors.items():
        (name,) = (name for name in types if re.fullmatch(pattern, name))
        assert types[name] == kind


def test_costs_are_read_as_they_were_written(case: Case, tmp_path: Path) -> None:
    write_costs(case.costs, tmp_path / "costs.json")
    assert read_costs(tmp_path / "costs.json") == case.costs


def test_the_best_file_that_is_fast_enough(case: Case, tmp_path: Path) -> None:
    """With a device on which speed falls with size, the file is as large as that allows."""
    sizes = [quantize(case.source, name, tmp_path / "fixed.gguf").size_bytes for name in ("Q3_K_M", "Q5_K_M")]
    limit = sum(sizes) / 2

    def speed(gguf: GgufFile) -> float:
        return 1e9 / gguf.size_bytes

    fast = Budget(min_tokens_per_second=1e9 / limit)
    fitted = quantize_to_budget(case.source, case.costs, fast, case.measure, tmp_path / "fitted.gguf", speed=speed)
    assert 0.97 * limit < fitted.gguf.size_bytes <= limit
    assert fitted.tokens_per_second == speed(fitted.gguf)
    with pytest.raises(EdgeftError, match="the fastest that was tried has"):
        slow = Budget(min_tokens_per_second=1e9)
        quantize_to_budget(case.source, case.costs, slow, case.measure, tmp_path / "none.gguf", speed=speed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fitted.gguf", "fixed.gguf"]


def test_a_device_has_a_speed(case: Case) -> None:
    assert file_speed(case.source, threads=1).tokens_per_second > 0
