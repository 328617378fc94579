"""What an adapter's files hold, whoever saved them; what is wrong is refused, all of it at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import make_adapter, make_base
from peft import IA3Config, LoraConfig, TrainableTokensConfig
from safetensors.torch import load_file, save_file

from edgeft.artifacts import Adapter, Checkpoint
from edgeft.errors import EdgeftError
from edgeft.weights import CheckpointWeights, MergedWeights
from edgeft.weights.adapter import KNOWN_OPTIONS, AdapterTensors

WRONG = {
    "r": ("x", "no positive number"),
    "lora_alpha": ("32", "no positive number"),
    "rank_pattern": ({"(": 3}, "no regular expression"),
    "alpha_pattern": (3, "no table of positive numbers"),
    "modules_to_save": (3, "no list of names"),
}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    folder = tmp_path_factory.mktemp("adapter")
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"])
    return make_adapter(make_base("llama", folder / "base"), lora, folder / "adapter")


def test_what_is_wrong_is_said_at_once(adapter: Adapter) -> None:
    path = adapter.path / "adapter_config.json"
    whole = path.read_text()
    path.write_text(json.dumps(json.loads(whole) | {key: value for key, (value, _) in WRONG.items()}))
    with pytest.raises(EdgeftError) as caught:
        AdapterTensors(adapter)
    path.write_text(whole)
    said = [problem.what for problem in caught.value.problems]
    assert [what.partition(":")[0] for what in said] == list(WRONG)
    assert all(words in what for what, (_, words) in zip(said, WRONG.values(), strict=True))
    assert not AdapterTensors(adapter).problems


def test_a_rank_that_is_missing(adapter: Adapter) -> None:
    path = adapter.path / "adapter_config.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in whole.items() if key != "r"}))
    with pytest.raises(EdgeftError, match="r: None is no positive number"):
        AdapterTensors(adapter)
    path.write_text(json.dumps(whole))


def rewritten(adapter: Adapter, out: Path, tensors: dict[str, torch.Tensor], **options: Any) -> Adapter:
    """Writes an adapter with other tensors and options; an option of ... is left out."""
    out.mkdir(parents=True)
    config = {key: value for key, value in (adapter.config() | options).items() if value is not ...}
    (out / "adapter_config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out / "adapter_model.safetensors")
    return Adapter.open(out)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return make_base("llama", tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def plain(base: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "down_proj"])
    return make_adapter(base, lora, tmp_path_factory.mktemp("plain") / "adapter")


def tensors_of(adapter: Adapter) -> dict[str, torch.Tensor]:
    return load_file(adapter.weights_path)


def merged(base: Checkpoint, adapter: Adapter) -> dict[str, torch.Tensor]:
    weights = MergedWeights(CheckpointWeights(base), adapter)
    return {name: weights.read(name) for name in sorted(weights.adapted)}


def refused(base: Checkpoint, adapter: Adapter) -> str:
    with pytest.raises(EdgeftError) as caught:
        MergedWeights(CheckpointWeights(base), adapter)
    return str(caught.value)


WRAPPERS: dict[str, Callable[[str], str]] = {
    "torch.compile": lambda key: f"_orig_mod.{key}",
    "torch.compile inside": lambda key: key.replace("base_model.model.", "base_model.model._orig_mod."),
    "DDP": lambda key: f"module.{key}",
    "DDP of a compiled model": lambda key: f"module._orig_mod.{key}",
    "FSDP": lambda key: key.replace(".layers.", "._fsdp_wrapped_module.layers."),
    "recomputation": lambda key: key.replace(".self_attn", "._checkpoint_wrapped_module.self_attn"),
    "the adapter's name": lambda key: key.replace(".weight", ".default.weight"),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_names_from_within_a_wrapper_are_the_modules_own(
    wrapper: str, base: Checkpoint, plain: Adapter, tmp_path: Path
) -> None:
    named = {WRAPPERS[wrapper](key): tensor for key, tensor in tensors_of(plain).items()}
    assert named.keys() != tensors_of(plain).keys()
    wrapped = rewritten(plain, tmp_path / "wrapped", named)
    ours, theirs = merged(base, wrapped), merged(base, plain)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with pytest.raises(EdgeftError, match="peft would not load this tensor"):
        wrapped.require_named_as_peft(named)


def test_peft_own_names_are_left_to_peft(plain: Adapter) -> None:
    plain.require_named_as_peft(tensors_of(plain))


def test_two_adapters_in_one_file_are_refused(base: Checkpoint, plain: Adapter, tmp_path: Path) -> None:
    both = {
        key.replace(".weight", f".{name}.weight"): tensor.clone()
        for key, tensor in tensors_of(plain).items()
        for name in ("default", "other")
    }
    assert "several adapters: default, other" in refused(base, rewritten(plain, tmp_path / "both", both))


@pytest.mark.parametrize("part", ["layers.1", ""])
def test_tensors_that_zero_3_saved_empty_are_named(part: str, base: Checkpoint, plain: Adapter, tmp_path: Path) -> None:
    empty = {key: torch.empty(0) if part in key else tensor for key, tensor in tensors_of(plain).items()}
    said = refused(base, rewritten(plain, tmp_path / "empty", empty))
    count = sum(part in key for key in empty)
    assert f"{count} tensors" in said and "that are empty" in said and "ZeRO-3" in said and (part or "layers.0") in said


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_no_numbers_are_refused(value: float, base: Checkpoint, plain: Adapter, tmp_path: Path) -> None:
    tensors = tensors_of(plain)
    name = next(key for key in tensors if "lora_B" in key)
    tensors[name].flatten()[-1] = value
    said = refused(base, rewritten(plain, tmp_path / "broken", tensors))
    assert name in said and "NaN or infinite" in said and "1 tensor (" in said


def test_an_adapter_without_effect_is_merged_with_a_word(base: Checkpoint, plain: Adapter, tmp_path: Path) -> None:
    flat = {key: tensor * 0 if "lora_B" in key else tensor for key, tensor in tensors_of(plain).items()}
    half = {key: tensor * 0 if "layers.0" in key else tensor for key, tensor in tensors_of(plain).items()}
    weights = CheckpointWeights(base)
    doubts = [
        MergedWeights(weights, rewritten(plain, tmp_path / str(number), tensors)).doubts
        for number, tensors in enumerate((flat, half, tensors_of(plain)))
    ]
    assert doubts[0][0].startswith("the adapter changes nothing: untrained")
    assert doubts[1][0].startswith("2 of its 4 updates are zero")
    assert doubts[2] == []


def without(adapter: Adapter, *parts: str) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in tensors_of(adapter).items() if not all(part in key for part in parts)}


@pytest.mark.parametrize(
    ("parts", "options", "lacking"),
    [
        (("layers.1",), {}, "model.layers.1: mlp.down_proj, self_attn.q_proj"),
        (("layers.0", "down_proj"), {}, "model.layers.0: mlp.down_proj"),
        (("down_proj",), {}, "model.layers.0: mlp.down_proj"),
        (("layers.1",), {"target_modules": r".*\.(q_proj|down_proj)"}, "model.layers.1: mlp.down_proj"),
        (("layers.1",), {"target_modules": "all-linear"}, "model.layers.1: mlp.down_proj"),
        (("layers.1",), {"layers_to_transform": [0]}, ""),
        (("layers.1",), {"layers_to_transform": 0}, ""),
        (("layers.1",), {"target_modules": r".*layers\.0\..*(q_proj|down_proj)"}, ""),
        (("layers.1",), {"exclude_modules": r".*layers\.1\..*"}, ""),
        (("layers.1",), {"target_modules": ["model.layers.0.self_attn.q_proj", "layers.0.mlp.down_proj"]}, ""),
        (("nothing",), {}, ""),
    ],
)
def test_a_file_that_lacks_updates_of_layers_it_targets_is_refused(
    parts: tuple[str, ...], options: dict[str, Any], lacking: str, base: Checkpoint, plain: Adapter, tmp_path: Path
) -> None:
    adapter = rewritten(plain, tmp_path / "lacking", without(plain, *parts), **options)
    if not lacking:
        assert merged(base, adapter)
        return
    said = refused(base, adapter)
    assert lacking in said and "a part of the training is lost" in said


def test_keys_and_values_that_layers_share_are_no_loss(base: Checkpoint, tmp_path: Path) -> None:
    """Gemma 3n's last layers have no keys of their own in transformers, though its files do."""
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "k_proj"])
    whole = make_adapter(base, lora, tmp_path / "whole")
    assert merged(base, rewritten(whole, tmp_path / "shared", without(whole, "layers.1", "k_proj")))


def test_an_unknown_option_that_is_on_is_refused(base: Checkpoint, plain: Adapter, tmp_path: Path) -> None:
    tensors = tensors_of(plain)
    off = rewritten(plain, tmp_path / "off", tensors, option_of_2027=False, other_of_2027=None)
    assert merged(base, off)
    said = refused(base, rewritten(plain, tmp_path / "on", tensors, option_of_2027={"kind": 3}))
    assert "option_of_2027 = {'kind': 3} is not known" in said


def test_the_known_options_are_pefts() -> None:
    theirs = {field.name for kind in (LoraConfig, IA3Config, TrainableTokensConfig) for field in fields(kind)}
    assert theirs == KNOWN_OPTIONS


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_mlx_lms_adapters_are_read(dora: bool, base: Checkpoint, tmp_path: Path) -> None:
    """Its halves are peft's, transposed, and its scale is alpha / rank (mlx_lm/tuner/lora.py: x @ a @ b * scale)."""
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=12, target_modules=["q_proj", "down_proj"], use_dora=dora)
    adapter = make_adapter(base, lora, tmp_path / "peft")
    out = tmp_path / "mlx"
    out.mkdir()
    names = {"lora_A.weight": "lora_a", "lora_B.weight": "lora_b", "lora_magnitude_vector": "m"}
    tensors = {}
    for key, tensor in tensors_of(adapter).items():
        old = next(old for old in names if key.endswith(old))
        name = key.removeprefix("base_model.model.").replace(old, names[old])
        tensors[name] = tensor.mT.contiguous() if tensor.ndim == 2 else tensor
    save_file(tensors, out / "adapters.safetensors")
    options = {"rank": 4, "scale": 3.0, "dropout": 0.0}
    settings = {"fine_tune_type": "dora" if dora else "lora", "lora_parameters": options, "num_layers": 2}
    (out / "adapter_config.json").write_text(json.dumps(settings))
    ours, theirs = merged(base, Adapter.open(out)), merged(base, adapter)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    (out / "adapter_config.json").write_text(json.dumps(settings | {"fine_tune_type": "full"}))
    assert "'full'" in refused(base, Adapter.open(out))
