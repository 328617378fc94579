"""Adapters combined by weights: what peft makes of them on the base itself, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import edit_config, make_adapter, make_base
from click.testing import CliRunner
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from edgeft import hf
from edgeft.artifacts import BASE_RECORD, Adapter, Checkpoint
from edgeft.cli import main
from edgeft.combine import combine_adapters
from edgeft.errors import EdgeftError
from edgeft.files import write_json
from edgeft.weights import CheckpointWeights, MergedWeights

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WEIGHTS = (0.7, -0.3)


def lora(**settings: Any) -> LoraConfig:
    return LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6, "target_modules": LINEAR} | settings)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    folder = tmp_path_factory.mktemp("bases")
    return {name: make_base(name, folder / name) for name in ("llama", "gpt2", "mixtral")}


def adapters(base: Checkpoint, folder: Path, *configs: LoraConfig) -> list[Adapter]:
    """Adapters with other weights each."""
    made = [make_adapter(base, config, folder / f"{number}") for number, config in enumerate(configs)]
    for number, adapter in enumerate(made[1:], start=1):
        path = adapter.path / "adapter_model.safetensors"
        tensors = {name: tensor.roll(number, -1).contiguous() for name, tensor in load_file(path).items()}
        save_file(tensors, path)
    return made


def updates(base: Checkpoint, adapter: Adapter) -> dict[str, torch.Tensor]:
    """What an adapter adds to each weight that it changes."""
    weights = MergedWeights(CheckpointWeights(base), adapter)
    pairs = {name: weights.before_and_after(name) for name in sorted(weights.adapted)}
    return {name: after - before for name, (before, after) in pairs.items()}


def theirs(base: Checkpoint, given: list[Adapter], seed: int, **settings: Any) -> dict[str, torch.Tensor]:
    """The same of peft's combination on the base with its weights."""
    model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.path), str(given[0].path), "0")
    for number, adapter in enumerate(given[1:], start=1):
        model.load_adapter(str(adapter.path), str(number))
    torch.manual_seed(seed)
    model.add_weighted_adapter([str(number) for number in range(len(given))], list(WEIGHTS), "both", **settings)
    found = {}
    for name, module in model.get_base_model().named_modules():
        if "both" in getattr(module, "lora_A", {}):
            found[f"{name}.weight"] = module.get_delta_weight("both").detach()
    return found


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        # The base's weights are added and taken away again: their last bits.
        torch.testing.assert_close(ours[name], expected, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("how", hf.COMBINE_METHODS)
def test_the_combined_adapter_is_the_one_that_peft_makes(
    how: Any, bases: dict[str, Checkpoint], tmp_path: Path
) -> None:
    base = bases["llama"]
    given = adapters(base, tmp_path, lora(), lora(lora_alpha=3, target_modules=["q_proj", "down_proj"]))
    density = None if how in ("linear", "cat", "svd") else 0.5
    combined = combine_adapters(base, given, hf.Combining(how, WEIGHTS, density), tmp_path / "out")
    ours = updates(base, combined)
    assert_same(ours, theirs(base, given, 0, combination_type=how, density=density))
    assert max(float(update.abs().max()) for update in ours.values()) > 0.01
    assert sorted(path.name for path in combined.path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("how", ["cat", "svd"])
def test_the_exact_methods_are_the_weighted_sum(
    how: Any, name: str, bases: dict[str, Checkpoint], tmp_path: Path
) -> None:
    """With what peft's own way gets wrong: rsLoRA, patterns, and layers that one adapter alone has."""
    base = bases[name]
    targets = ["c_attn", "c_fc"] if name == "gpt2" else ["q_proj", "up_proj"]
    gpt2 = {"fan_in_fan_out": name == "gpt2"}
    one = lora(target_modules=targets, use_rslora=True, layers_to_transform=[0], **gpt2)
    two = lora(target_modules=targets, r=3, rank_pattern={targets[0]: 2}, alpha_pattern={targets[1]: 9}, **gpt2)
    given = adapters(base, tmp_path, one, two)
    rank = 7 if how == "svd" else None
    combined = combine_adapters(base, given, hf.Combining(how, WEIGHTS, rank=rank), tmp_path / "out")
    apart = [updates(base, adapter) for adapter in given]
    names = sorted(apart[0].keys() | apart[1].keys())
    nothing = torch.zeros(())
    pairs = {n: [w * found.get(n, nothing) for w, found in zip(WEIGHTS, apart, strict=True)] for n in names}
    assert_same(updates(base, combined), {n: one + two for n, (one, two) in pairs.items()})
    assert combined.config()["r"] == 7


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_combines_the_same(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    base = bases["llama"]
    given = adapters(base, tmp_path, lora(), lora(lora_alpha=3))
    combining = hf.Combining("ties_svd", WEIGHTS, 0.5)
    one, two = (updates(base, combine_adapters(base, given, combining, tmp_path / d, d)) for d in ("cpu", "cuda"))
    for name, expected in one.items():
        torch.testing.assert_close(two[name], expected, rtol=1e-4, atol=1e-5, msg=name)


def test_dare_leaves_out_by_the_seed(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    base = bases["llama"]
    given = adapters(base, tmp_path, lora(target_modules=["q_proj"]), lora(target_modules=["q_proj"]))
    found = []
    for number, seed in enumerate((0, 0, 1)):
        combining = hf.Combining("dare_linear", WEIGHTS, 0.5, seed=seed)
        found.append(updates(base, combine_adapters(base, given, combining, tmp_path / f"out{number}")))
    same = [all(torch.equal(one[n], two[n]) for n in one) for one, two in itertools.pairwise(found)]
    assert same == [True, False]


def test_everything_that_is_wrong_is_told_at_once(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    base = bases["llama"]
    plain, dora = lora(target_modules=["q_proj"]), lora(target_modules=["q_proj"], use_dora=True)
    saved = lora(target_modules=["q_proj"], modules_to_save=["lm_head"], r=2)
    given = adapters(base, tmp_path, plain, dora, saved, plain)
    write_json(given[3].path / BASE_RECORD, {"fingerprint": "another"})
    with pytest.raises(EdgeftError) as caught:
        combine_adapters(base, given, hf.Combining("ties", WEIGHTS, rank=3), tmp_path / "out")
    told = "\n".join(str(problem) for problem in caught.value.problems)
    wrong = ("2 weights for 4", "--density", "no rank to choose", "DoRA", "saved whole", "another base", "one rank")
    for words in wrong:
        assert words in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("base_name", "settings", "words"),
    [
        ("llama", {"trainable_token_indices": [3]}, "trained tokens"),
        ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True, "lora_bias": True}, "trained biases"),
        ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True, "bias": "all"}, "beside its LoRA"),
        ("mixtral", {"target_modules": ["q_proj"], "target_parameters": ["experts.down_proj"]}, "experts"),
    ],
)
def test_what_peft_would_pass_over_is_refused(
    base_name: str, settings: dict[str, Any], words: str, bases: dict[str, Checkpoint], tmp_path: Path
) -> None:
    base = bases[base_name]
    config = lora(**{"target_modules": ["q_proj"]} | settings)
    given = [make_adapter(base, config, tmp_path / "one"), make_adapter(base, config, tmp_path / "two")]
    with pytest.raises(EdgeftError, match=words):
        combine_adapters(base, given, hf.Combining("cat", WEIGHTS), tmp_path / "out")


def test_the_command(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    base = bases["llama"]
    given = adapters(base, tmp_path, lora(target_modules=["q_proj"]), lora(target_modules=["v_proj"], r=2))
    edit_config(given[0], {"base_model_name_or_path": "owner/model"})
    arguments = ["combine-adapters", str(base.path), *(str(adapter.path) for adapter in given), "--how", "cat"]
    out = tmp_path / "out"
    result = CliRunner().invoke(main, [*arguments, "--weights", "0.5,1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "rank 6, 2 adapters by cat" in result.stdout
    config = Adapter.open(out).config()
    assert (config["base_model_name_or_path"], config["target_modules"]) == ("owner/model", ["q_proj", "v_proj"])
    again = CliRunner().invoke(main, [*arguments, "--weights", "0.5,1", "--out", str(out)])
    assert again.exit_code == 1
    for weights in ("0.5,nan", "1,inf"):
        wrong = CliRunner().invoke(main, [*arguments, "--weights", weights, "--out", str(tmp_path / "other")])
        assert wrong.exit_code == 1 and "is no list of numbers" in wrong.output
    wrong = CliRunner().invoke(main, [*arguments, "--weights", "a,1", "--out", str(tmp_path / "other")])
    assert wrong.exit_code == 1
    assert list(tmp_path.glob("other*")) == []


def test_the_command_offers_every_method() -> None:
    command: Any = main.commands["combine-adapters"]
    (option,) = (parameter for parameter in command.params if parameter.name == "how")
    assert set(option.type.choices) == set(hf.COMBINE_METHODS)
