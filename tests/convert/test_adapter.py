"""llama.cpp with a GGUF LoRA computes what peft computes with the adapter active."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapters import make_adapter
from peft import IA3Config, LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

from convert.models import byte_level_tokenizer, llama, to_gguf
from edgeft.artifacts import Adapter, Checkpoint, GgufFile
from edgeft.config import ConvertConfig
from edgeft.convert import convert
from edgeft.convert.adapter import convert_adapter
from edgeft.errors import EdgeftError
from edgeft.llamacpp import Engine
from edgeft.weights import CheckpointWeights, MergedWeights

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = torch.randint(0, 460, (96,), generator=torch.Generator().manual_seed(0)).tolist()
# Both sum in float32, in another order: measured 1e-12. A wrong scale or permutation gives 1e-2 or more.
MOST_NMSE = 1e-9
CASES: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": LINEAR},
    "rslora": {"target_modules": LINEAR, "use_rslora": True},
    "patterns": {
        "target_modules": LINEAR,
        "rank_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 8},
        "alpha_pattern": {"q_proj": 5, "up_proj": 7},
    },
    "output and embedding": {"target_modules": ["lm_head", "embed_tokens", "k_proj"]},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("adapter") / "base"
    byte_level_tokenizer(folder, "gpt-2")
    llama(folder)
    return Checkpoint.open(folder)


@pytest.fixture(scope="module")
def base_gguf(base: Checkpoint) -> GgufFile:
    return to_gguf(base.path, base.path.parent / "base.gguf")


def lora(**settings: Any) -> LoraConfig:
    return LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6} | settings)


def merged(base: Checkpoint, adapter: Adapter) -> MergedWeights:
    return MergedWeights(CheckpointWeights(base), adapter)


def run(gguf: GgufFile, adapter: GgufFile | None = None) -> np.ndarray[Any, Any]:
    with Engine(gguf, 128, exact_kv=True, threads=1, adapter=adapter) as engine:
        return engine.logits(IDS)


def nmse(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> float:
    return float(np.mean((ours - theirs) ** 2) / theirs.var())


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_the_active_adapter(
    base: Checkpoint, base_gguf: GgufFile, tmp_path: Path, case: str
) -> None:
    adapter = make_adapter(base, lora(**CASES[case]), tmp_path / "adapter")
    made = convert_adapter(merged(base, adapter), base, tmp_path / "lora.gguf")
    assert set(made.errors.values()) == {0.0}
    live = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.path), str(adapter.path))
    with torch.no_grad():
        theirs = live(torch.tensor([IDS])).logits[0].double().numpy()
    ours = run(base_gguf, GgufFile.open(made.path))
    assert nmse(ours, theirs) < MOST_NMSE
    assert nmse(run(base_gguf), theirs) > 1e-3


def test_two_adapters_on_one_file_are_each_its_merged_file(
    base: Checkpoint, base_gguf: GgufFile, tmp_path: Path
) -> None:
    for name, config in (("one", lora(**CASES["plain"])), ("two", lora(**CASES["patterns"], use_rslora=True))):
        adapter = make_adapter(base, config, tmp_path / name)
        made = convert_adapter(merged(base, adapter), base, tmp_path / f"{name}-lora.gguf")
        whole = convert(
            merged(base, adapter), base, ConvertConfig(dtype="f32", random_texts=0), tmp_path / f"{name}.gguf"
        )
        assert nmse(run(base_gguf, GgufFile(made.path)), run(whole)) < MOST_NMSE


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (lora(target_modules=["q_proj"], use_dora=True), "not low-rank"),
        (lora(target_modules=["q_proj"], modules_to_save=["lm_head"]), "not low-rank"),
        (lora(target_modules=["q_proj"], modules_to_save=["norm"]), "vector"),
        (lora(target_modules=["q_proj"], trainable_token_indices=[3]), "not low-rank"),
        (IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj"], feedforward_modules=[]), "not low-rank"),
    ],
)
def test_what_the_format_cannot_say_is_refused(base: Checkpoint, tmp_path: Path, config: Any, words: str) -> None:
    adapter = make_adapter(base, config, tmp_path / "adapter")
    with pytest.raises(EdgeftError, match=words) as caught:
        convert_adapter(merged(base, adapter), base, tmp_path / "lora.gguf")
    assert ("extract-adapter" in str(caught.value)) == (words != "vector")
    assert not (tmp_path / "lora.gguf").exists()


def test_an_untied_output_is_refused(tmp_path: Path) -> None:
    byte_level_tokenizer(tmp_path / "base", "gpt-2")
    llama(tmp_path / "base", tie_word_embeddings=True)
    tied = Checkpoint.open(tmp_path / "base")
    adapter = make_adapter(tied, lora(target_modules=["lm_head"]), tmp_path / "adapter")
    with pytest.raises(EdgeftError, match="differ"):
        convert_adapter(merged(tied, adapter), tied, tmp_path / "lora.gguf")


@pytest.mark.parametrize("settings", [{"trainable_token_indices": [3]}, {"target_modules": ["embed_tokens"]}], ids=str)
def test_an_embedding_that_is_the_output_too_is_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    """llama.cpp would load the file, and end on an assertion at the first token."""
    byte_level_tokenizer(tmp_path / "base", "gpt-2")
    llama(tmp_path / "base", tie_word_embeddings=True)
    tied = Checkpoint.open(tmp_path / "base")
    adapter = make_adapter(tied, lora(**{"target_modules": ["q_proj"]} | settings), tmp_path / "adapter")
    with pytest.raises(EdgeftError, match=r"embedding|differ"):
        convert_adapter(merged(tied, adapter), tied, tmp_path / "lora.gguf", rank=4)
    assert not (tmp_path / "lora.gguf").exists()


def test_an_extracted_lora_has_its_measured_error(base: Checkpoint, base_gguf: GgufFile, tmp_path: Path) -> None:
    config = lora(target_modules=["q_proj", "down_proj"], use_dora=True)
    weights = merged(base, make_adapter(base, config, tmp_path / "adapter"))
    whole = convert(weights, base, ConvertConfig(dtype="f32", random_texts=0), tmp_path / "whole.gguf")
    found = {}
    for rank in (8, 64, 256):
        made = convert_adapter(weights, base, tmp_path / f"{rank}.gguf", rank)
        found[rank] = max(made.errors.values()), nmse(run(base_gguf, GgufFile(made.path)), run(whole))
    before, after = weights.before_and_after("model.layers.0.mlp.down_proj.weight")
    values = torch.linalg.svdvals((after - before).double())
    made = convert_adapter(weights, base, tmp_path / "again.gguf", 8)
    lost = float(values[8:].norm() / values.norm())
    assert made.errors["blk.0.ffn_down.weight"] == pytest.approx(lost, rel=1e-6)
    assert found[8][0] > found[64][0] > found[256][0] and found[256][0] < 1e-6
    assert found[8][1] > found[64][1] > found[256][1] and found[256][1] < MOST_NMSE


def test_an_adapter_of_another_model_is_refused(base: Checkpoint, base_gguf: GgufFile, tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match="adapter"):
        run(base_gguf, base_gguf)
