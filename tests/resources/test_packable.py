"""A family that is packed has the loss of its records one by one; what would differ is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from edgeft.config import TrainConfig
from edgeft.resources.packable import why_not_packed, with_packing
from edgeft.train.batches import collate
from edgeft.train.fast import accelerate_model, packed_loss
from edgeft.train.packing import pack

SHAPE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "gemma": {},
    "gemma2": {"attn_logit_softcapping": None},
    "gemma3_text": {},
    "granite": {"logits_scaling": 4.0},
    "llama": {},
    "mistral": {},
    "mixtral": EXPERTS,
    "olmo2": {},
    "phi3": {},
    "qwen2": {},
    "qwen3": {},
    "qwen3_moe": EXPERTS,
    "smollm3": {},
}
LENGTHS = (11, 3, 24, 7)


def rows() -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(3)
    ids = [torch.randint(1, 96, (length,), generator=generator).tolist() for length in LENGTHS]
    return [{"input_ids": row, "labels": list(row)} for row in ids]


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_records_do_not_see_one_another(family: str) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SHAPE, **FAMILIES[family])
    assert why_not_packed(config.to_dict(), max(LENGTHS)) is None
    model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.eval()
    with torch.no_grad():
        sums = [float(model(**collate([row])).loss) * (len(row["input_ids"]) - 1) for row in rows()]
        accelerate_model(model)
        ours = float(packed_loss(model, pack(rows())))
    assert ours == pytest.approx(sum(sums) / sum(length - 1 for length in LENGTHS), rel=1e-5)


@pytest.mark.parametrize(
    ("config", "longest", "reason"),
    [
        ({"model_type": "lfm2"}, 8, "of the type lfm2"),
        ({"model_type": "qwen3_5_text"}, 8, "of the type qwen3_5_text"),
        ({"model_type": "gemma2", "attn_logit_softcapping": 50.0}, 8, "no soft cap"),
        ({"model_type": "qwen3", "attention_dropout": 0.1}, 8, "no dropout, and this model's is 0.1"),
        ({"model_type": "qwen3", "attention_dropout": 0.0}, 8, None),
        ({"model_type": "gemma3_text", "sliding_window": 512}, 513, "no window, and this model's is 512 of 513 tokens"),
        ({"model_type": "mistral"}, 5000, "4,096 of 5,000"),
        ({"model_type": "gemma3_text", "sliding_window": 512}, 512, None),
        ({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": False}, 9, None),
    ],
)
def test_what_differs_is_refused(config: dict[str, Any], longest: int, reason: str | None) -> None:
    found = why_not_packed(config, longest)
    assert found is None if reason is None else found is not None and reason in found


def test_what_the_configuration_says_stays() -> None:
    llama = {"model_type": "llama"}
    assert with_packing(TrainConfig(), llama, 8, possible=True).packing is True
    assert with_packing(TrainConfig(), llama, 8, possible=False).packing is False
    assert with_packing(TrainConfig(), {"model_type": "lfm2"}, 8, possible=True).packing is False
    assert with_packing(TrainConfig(packing=False), llama, 8, possible=True).packing is False
    assert with_packing(TrainConfig(packing=True), llama, 8, possible=False).packing is True
