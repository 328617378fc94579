"""Which models can be trained on records one behind another in a row, each seeing itself alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.config import TrainConfig

_PACKED_FAMILIES = (
    *("gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "mixtral", "olmo2"),
    *("phi3", "qwen2", "qwen3", "qwen3_moe", "smollm3"),
)
"""Whose tokens see one another through attention alone, of the kind that `packed_attention` computes. Convolutions and
linear attention would carry one record on into the next."""

_MISTRAL_SLIDING_WINDOW = 4096
"""What transformers takes for a Mistral whose config.json does not say."""


def attention_window(config_json: Mapping[str, Any]) -> int | None:
    """Returns how many tokens some layer sees at most; None where every layer sees all that is before."""
    family = config_json.get("model_type")
    window = config_json.get("sliding_window", _MISTRAL_SLIDING_WINDOW if family == "mistral" else None)
    return int(window) if window is not None and config_json.get("use_sliding_window", True) else None


def why_not_packed(config_json: Mapping[str, Any], longest: int) -> str | None:
    """Returns why a model of this config.json cannot be trained on packed records of up to `longest` tokens; None if it
    can."""
    family = str(config_json.get("model_type"))
    if family not in _PACKED_FAMILIES:
        return f"packed records are not known to be trained apart from one another by models of the type {family}"
    if config_json.get("attn_logit_softcapping"):
        return "attention over packed records has no soft cap, and this model's has one"
    if dropout := config_json.get("attention_dropout"):
        return f"attention over packed records has no dropout, and this model's is {dropout}"
    window = attention_window(config_json)
    if window is not None and window < longest:
        return f"attention over packed records has no window, and this model's is {window:,} of {longest:,} tokens"
    return None


def with_packing(config: TrainConfig, config_json: Mapping[str, Any], longest: int, *, possible: bool) -> TrainConfig:
    """Returns `config` with `packing` decided where it is unset: wherever it is `possible` and changes no gradient."""
    if config.packing is not None:
        return config
    return config.model_copy(update={"packing": possible and why_not_packed(config_json, longest) is None})
