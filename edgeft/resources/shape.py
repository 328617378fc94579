"""The shape of a decoder of the Llama kind, read from config.json: what memory and time follow from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeft.errors import EdgeftError, Problem
from edgeft.resources.packable import attention_window

_FAST_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""Whose decoder layers are those of `train/fast/layer.py`. Others have the same names and, say, scaled residuals."""

_HEAD_NORMS = ("qwen3", "gemma3", "gemma3_text", "olmo2")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def has_fast_layers(config_json: Mapping[str, Any]) -> bool:
    """Returns whether the fast decoder layers compute what a model of this config.json does."""
    family = config_json.get("model_type")
    windowed = attention_window(config_json) is not None
    return family in _FAST_FAMILIES and not windowed and config_json.get("hidden_act", "silu") == "silu"


@dataclass(frozen=True)
class ModelShape:
    """Numbers of a dense decoder: attention of `n_heads` query and `n_kv_heads` key and value heads, a gated MLP.

    Attributes:
        width: of the residual stream.
        inner: width inside the MLP.
        tied: one matrix is embedding and output.
        head_norms: queries and keys are normalized head by head.
        fast: the fast decoder layers can stand for its own.
    """

    width: int
    inner: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_vocab: int
    tied: bool
    head_norms: bool = False
    fast: bool = True

    @classmethod
    def read(cls, config_json: Mapping[str, Any], where: str = "config.json") -> ModelShape:
        """Reads config.json; raises EdgeftError, all keys at once, where it describes no such decoder."""
        nested = config_json.get("text_config")
        values = nested if isinstance(nested, Mapping) and nested else config_json
        keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
        problems = [Problem("no positive whole number", f"{where}: {key}") for key in keys if not _count(values, key)]
        experts = [key for key in _EXPERTS if (_count(values, key) or 0) > 1]
        problems += [Problem("there is no estimate for mixtures of experts", f"{where}: {key}") for key in experts]
        if problems:
            raise EdgeftError(problems)
        width, inner, n_layers, n_heads, n_vocab = (int(values[key]) for key in keys)
        return cls(
            width=width,
            inner=inner,
            n_layers=n_layers,
            n_heads=n_heads,
            n_kv_heads=_count(values, "num_key_value_heads") or n_heads,
            head_dim=_count(values, "head_dim") or width // n_heads,
            n_vocab=n_vocab,
            tied=bool(config_json.get("tie_word_embeddings", str(values.get("model_type")).startswith("gemma"))),
            head_norms=values.get("model_type") in _HEAD_NORMS,
            fast=has_fast_layers(config_json),
        )

    @property
    def n_query(self) -> int:
        """Width of all query heads."""
        return self.n_heads * self.head_dim

    @property
    def n_kv(self) -> int:
        """Width of all key heads, and of all value heads."""
        return self.n_kv_heads * self.head_dim

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(n_in, n_out) of each linear layer in a decoder layer."""
        return {
            "q_proj": (self.width, self.n_query),
            "k_proj": (self.width, self.n_kv),
            "v_proj": (self.width, self.n_kv),
            "o_proj": (self.n_query, self.width),
            "gate_proj": (self.width, self.inner),
            "up_proj": (self.width, self.inner),
            "down_proj": (self.inner, self.width),
        }

    @property
    def linear_weights(self) -> int:
        """Weights of all linear layers of all decoder layers."""
        return self.n_layers * sum(n_in * n_out for n_in, n_out in self.linears.values())

    @property
    def embedding_weights(self) -> int:
        """Weights of the embedding, and of the output where it is another matrix."""
        return (1 if self.tied else 2) * self.n_vocab * self.width

    @property
    def weights(self) -> int:
        """All of them."""
        return self.linear_weights + self.embedding_weights + (2 * self.n_layers + 1) * self.width

    def adapter_weights(self, rank: int, targets: Iterable[str]) -> int:
        """Weights of a LoRA adapter on the layers named; a name that there is not counts nothing."""
        sizes = self.linears
        return self.n_layers * rank * sum(sum(sizes[target]) for target in set(targets) & sizes.keys())


def _count(values: Mapping[str, Any], key: str) -> int | None:
    value = values.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
