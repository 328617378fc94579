"""On a CUDA GPU: the whole way at the shape of Llama-3.2-1B with its tokenizer, random weights.

EDGEFT_TOKENIZERS names a folder that holds `llama-3/tokenizer.json` and its configuration; without it there is nothing
to test with.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import write_records
from transformers import LlamaConfig, LlamaForCausalLM

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
TOKENIZER = Path(os.environ.get("EDGEFT_TOKENIZERS", "")) / "llama-3"
LLAMA_3_2_1B: dict[str, Any] = {
    "vocab_size": 128_320,  # 128,256 and the padding token that some distributions of its tokenizer add
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "bos_token_id": 128_000,
    "eos_token_id": [128_001, 128_009],
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
    },
}
CONFIG = """
[model]
base = "base"
[dataset]
train = "train.jsonl"
test = "test.jsonl"
[train]
device = "cuda"
epochs = 4
batch_size = 16
learning_rate = 1e-3
evaluations = 4
[parity]
records = 8
max_new_tokens = 24
# Random weights predict nearly evenly: the top token changes with small errors that cost no likelihood.
quantization = { mean_kld = 0.1, top1 = 0.5, ppl_ratio = 1.2 }
[eval]
records = 8
max_new_tokens = 24
[run]
directory = "run"
"""


@pytest.mark.skipif(not TOKENIZER.is_dir(), reason="EDGEFT_TOKENIZERS names no folder with llama-3 in it")
def test_the_whole_way_at_the_shape_of_llama_3_2_1b(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from edgeft.cli import main

    torch.manual_seed(0)
    with torch.device("cuda"):
        model = LlamaForCausalLM(LlamaConfig(dtype="bfloat16", **LLAMA_3_2_1B))
    torch.nn.Module.to(model, torch.bfloat16).save_pretrained(tmp_path / "base")
    del model
    torch.cuda.empty_cache()
    shutil.copytree(TOKENIZER, tmp_path / "base", dirs_exist_ok=True)
    write_records(tmp_path / "train.jsonl", 320)
    write_records(tmp_path / "test.jsonl", 16, seed=1)
    (tmp_path / "edgeft.toml").write_text(CONFIG)
    result = CliRunner().invoke(main, ["run", "-c", str(tmp_path / "edgeft.toml")])
    print(result.output)
    assert result.exit_code == 0, result.stderr
    rows = {row["name"]: row for row in json.loads((tmp_path / "run" / "summary.json").read_text())}
    assert {rows[name]["verdict"] for name in ("F16", "Q8_0", "Q4_K_M")} == {"pass"}
    training = json.loads((tmp_path / "run" / "adapter" / "training.json").read_text())
    assert training["device"] == "cuda"
    assert training["last_loss"] < 0.7 * training["first_loss"]
