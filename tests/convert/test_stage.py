"""The stage as a whole: an adapter merged on the way, progress, one tensor in memory at a time."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import gguf
import pytest
import torch
from adapters import make_adapter
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from convert.models import byte_level_tokenizer, llama, to_gguf
from edgeft.artifacts import Adapter, Checkpoint
from edgeft.config import ConvertConfig
from edgeft.convert import convert
from edgeft.merge import merge
from edgeft.weights import CheckpointWeights, MergedWeights, TensorSpec

_ADAPTED = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    folder = tmp_path / "model"
    byte_level_tokenizer(folder, "gpt-2")
    llama(folder, torch.bfloat16)
    return Checkpoint.open(folder)


def test_an_adapter_is_folded_in_on_the_way(checkpoint: Checkpoint, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(4, 256, generator=generator), torch.randn(256, 4, generator=generator)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 2}))
    prefix = f"base_model.model.{_ADAPTED}"
    save_file({f"{prefix}.lora_A.weight": a, f"{prefix}.lora_B.weight": b}, adapter / "adapter_model.safetensors")
    weights = MergedWeights(CheckpointWeights(checkpoint), Adapter.open(adapter))
    streamed = convert(weights, checkpoint, ConvertConfig(dtype="bf16"), tmp_path / "streamed.gguf")

    tensors = load_file(checkpoint.path / "model.safetensors")
    base = tensors[f"{_ADAPTED}.weight"]
    tensors[f"{_ADAPTED}.weight"] = (base.float() + 0.5 * (b @ a)).bfloat16()
    assert not torch.equal(tensors[f"{_ADAPTED}.weight"], base)
    save_file(tensors, checkpoint.path / "model.safetensors", {"format": "pt"})
    assert streamed.path.read_bytes() == to_gguf(checkpoint.path, tmp_path / "merged.gguf", "bf16").path.read_bytes()


def test_progress_ends_at_the_total(checkpoint: Checkpoint, tmp_path: Path) -> None:
    calls: list[tuple[float, float]] = []
    weights = CheckpointWeights(checkpoint)
    convert(
        weights,
        checkpoint,
        ConvertConfig(),
        tmp_path / "m.gguf",
        progress=lambda done, total, status="": calls.append((done, total)),
    )
    done = [entry[0] for entry in calls]
    assert done == sorted(done) and len(done) >= len(weights.specs)
    assert calls[-1] == (calls[0][1], calls[0][1])


class _Recording:
    """Weights that note what is read, and how many rows of it."""

    def __init__(self, weights: CheckpointWeights) -> None:
        self._weights = weights
        self.specs: dict[str, TensorSpec] = weights.specs
        self.rows: Counter[str] = Counter()
        self.largest_elements = 0

    def read(self, name: str) -> torch.Tensor:
        return self.read_rows(name, 0, self.specs[name].shape[0])

    def read_rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        rows = self._weights.read_rows(name, start, stop)
        self.rows[name] += len(rows)
        self.largest_elements = max(self.largest_elements, rows.numel())
        return rows

    def whole(self, name: str) -> bool:
        return self._weights.whole(name)


def test_every_row_is_read_once_and_large_tensors_in_parts(tmp_path: Path) -> None:
    byte_level_tokenizer(tmp_path / "model", "gpt-2")
    llama(tmp_path / "model", torch.bfloat16, vocab_size=20000)
    checkpoint = Checkpoint.open(tmp_path / "model")
    weights = _Recording(CheckpointWeights(checkpoint))
    convert(weights, checkpoint, ConvertConfig(), tmp_path / "m.gguf")
    assert weights.rows == {name: spec.shape[0] for name, spec in weights.specs.items()}
    assert weights.largest_elements < 20000 * 256


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_that_unties_gives_the_file_of_the_merged_checkpoint(tmp_path: Path, target: str) -> None:
    byte_level_tokenizer(tmp_path / "model", "gpt-2")
    llama(tmp_path / "model", torch.bfloat16, tie_word_embeddings=True)
    base = Checkpoint.open(tmp_path / "model")
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=[target, "q_proj"])
    adapter = make_adapter(base, config, tmp_path / "adapter")
    weights = MergedWeights(CheckpointWeights(base), adapter)
    streamed = convert(weights, base, ConvertConfig(name="m"), tmp_path / "streamed.gguf")
    merged = merge(base, adapter, tmp_path / "merged")
    staged = convert(CheckpointWeights(merged), merged, ConvertConfig(name="m"), tmp_path / "staged.gguf")
    assert "output.weight" in {tensor.name for tensor in gguf.GGUFReader(staged.path).tensors}
    assert streamed.path.read_bytes() == staged.path.read_bytes()
