"""llama.cpp computes with our F32 file what transformers computes in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convert.models import LLAMA3_ROPE, byte_level_tokenizer, llama, to_gguf
from convert.runtime import logits

# Both sum in float32, in another order: measured 1e-12 to 2e-11. A wrong permutation, scale or bias gives 1e-2 or more.
_MOST_NMSE = 1e-9

_MODELS: dict[str, dict[str, Any]] = {
    "grouped-heads": {},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "llama3-rope": {"rope_parameters": LLAMA3_ROPE},
    "linear-rope": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}},
    "wide-heads": {"head_dim": 128, "num_key_value_heads": 1},
    "mistral": {"mistral": True, "sliding_window": None},
}


@pytest.mark.parametrize("name", _MODELS)
def test_logits(name: str, tmp_path: Path) -> None:
    byte_level_tokenizer(tmp_path, "gpt-2")
    model = llama(tmp_path, **_MODELS[name])
    # 256 positions: four times the context that the Llama 3 scaling in these models starts from.
    ids = torch.randint(0, 460, (1, 256), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(ids).logits[0].double().numpy()
    ours = logits(to_gguf(tmp_path, tmp_path / "m.gguf").path, ids[0].tolist())
    assert np.mean((ours - expected) ** 2) / expected.var() < _MOST_NMSE
