"""What decoder-only transformers have in common: sizes, embeddings, attention, feed-forward."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from gguf import Keys

from edgeft.convert.draft import Draft
from edgeft.convert.gguf_fields import GgufFields
from edgeft.convert.plan import Change, stack
from edgeft.convert.rope import permuted_rows


def add_sizes(
    draft: Draft,
    *,
    windowless: bool = False,
    feed_forward: bool = True,
    head_size: bool = True,
    epsilon: str = "rms_norm_eps",
) -> None:
    """Adds the keys of sizes and the epsilon of the norms.

    `windowless` is for an architecture that llama.cpp gives no sliding window: the context that the file states is
    then at most the model's window, as both compute the same within it only.
    """
    config = draft.config
    draft.key(Keys.LLM.BLOCK_COUNT, draft.blocks)
    context = config.count("max_position_embeddings")
    draft.key(Keys.LLM.CONTEXT_LENGTH, min(context, _window(draft) or context) if windowless else context)
    draft.key(Keys.LLM.EMBEDDING_LENGTH, draft.hidden)
    if feed_forward:
        draft.key(Keys.LLM.FEED_FORWARD_LENGTH, config.count("intermediate_size"))
    draft.key(Keys.Attention.HEAD_COUNT, draft.heads)
    draft.key(Keys.Attention.HEAD_COUNT_KV, draft.kv_heads)
    if head_size and config.value("head_dim") is not None:
        draft.key(Keys.Attention.KEY_LENGTH, draft.head_dim)
        draft.key(Keys.Attention.VALUE_LENGTH, draft.head_dim)
    draft.key(Keys.Attention.LAYERNORM_RMS_EPS, config.number(epsilon))
    if draft.head_dim % 2:
        config.reject(f"{draft.head_dim} is odd: rotary embeddings need pairs", "head_dim")
    if draft.heads % draft.kv_heads:
        config.reject(f"{draft.kv_heads} does not divide num_attention_heads, {draft.heads}", "num_key_value_heads")


def add_window(draft: Draft, *, every: int) -> None:
    """Adds the sliding window, and which blocks have it unless all do but each `every`-th, as llama.cpp assumes."""
    kinds = draft.config.entries("layer_types")
    if len(kinds) != draft.blocks:
        draft.config.reject(f"{len(kinds)} entries for {draft.blocks} blocks", "layer_types")
    sliding = [kind == "sliding_attention" for kind in kinds]
    if not any(sliding):
        return
    draft.key(Keys.Attention.SLIDING_WINDOW, draft.config.count("sliding_window"))
    if sliding != [(block + 1) % every != 0 for block in range(draft.blocks)]:
        draft.key(Keys.Attention.SLIDING_WINDOW_PATTERN, sliding)


def require_whole_heads(draft: Draft) -> None:
    """Notes a problem unless the heads make up the hidden size, for architectures that llama.cpp loads only so."""
    if draft.heads * draft.head_dim != draft.hidden:
        draft.config.reject(f"{draft.heads} heads of {draft.head_dim} are not the hidden size", "head_dim")


def query_scale_of(sizes: Draft | GgufFields, largest_blocks: int) -> int:
    """Returns what llama.cpp scales Gemma's queries by: the largest model's by hidden size / heads."""
    return sizes.hidden // sizes.heads if sizes.blocks == largest_blocks else sizes.head_dim


def require_query_scale(draft: Draft, largest_blocks: int) -> None:
    """Notes a problem unless Gemma's queries are scaled as in llama.cpp."""
    scalar = query_scale_of(draft, largest_blocks)
    draft.config.require("query_pre_attn_scalar", scalar, f"llama.cpp computes with {scalar}")


def _window(draft: Draft) -> int | None:
    """Returns the sliding window that any layer has."""
    window, kinds = draft.config.value("sliding_window"), draft.config.entries("layer_types")
    unused = "sliding_attention" not in kinds if kinds else draft.config.value("use_sliding_window") is False
    return None if window is None or unused else draft.config.count("sliding_window")


def require_activation(draft: Draft, key: str = "hidden_act", wanted: str = "silu") -> None:
    """Notes a problem unless the feed-forward layers compute what llama.cpp does."""
    draft.config.require(key, wanted, f"llama.cpp computes {wanted} here")


def add_embeddings(
    draft: Draft, *, norm: str = "model.norm", norm_name: str = "output_norm", plus_one: bool = False
) -> None:
    """Adds the embedding, the last norm, and the output matrix.

    llama.cpp takes the embedding where there is no output matrix; a tied checkpoint may still carry its copy.
    """
    size = (draft.vocab, draft.hidden)
    draft.tensor("model.embed_tokens.weight", "token_embd.weight", size)
    draft.tensor(f"{norm}.weight", f"{norm_name}.weight", (draft.hidden,), add_one if plus_one else None)
    draft.tensor("lm_head.weight", "output.weight", size, optional=draft.config.flag("tie_word_embeddings"))


def add_norms(draft: Draft, block: int, names: dict[str, str], make: Change | None = None) -> None:
    """Adds norms of the hidden size: checkpoint's name -> GGUF's."""
    for source, name in names.items():
        draft.tensor(f"model.layers.{block}.{source}.weight", f"blk.{block}.{name}.weight", (draft.hidden,), make)


LLAMA_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
GEMMA_NORMS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def add_attention(draft: Draft, block: int, *, permuted: bool = False, biased: Collection[str] = ()) -> None:
    """Adds the four projections; `biased` names those with a bias (q, k, v, o), `permuted` as in `permuted_rows`."""
    source, name = f"model.layers.{block}.self_attn", f"blk.{block}.attn"
    query, key = draft.heads * draft.head_dim, draft.kv_heads * draft.head_dim
    makes: dict[str, Change] = {}
    if permuted:
        makes = {"q": permuted_rows(draft.heads), "k": permuted_rows(draft.kv_heads)}
    for letter, rows in (("q", query), ("k", key), ("v", key)):
        draft.linear(
            f"{source}.{letter}_proj",
            f"{name}_{letter}",
            rows,
            draft.hidden,
            makes.get(letter),
            bias=letter in biased,
        )
    draft.linear(f"{source}.o_proj", f"{name}_output", draft.hidden, query, bias="o" in biased)


def add_head_norms(draft: Draft, block: int, make: Change | None = None) -> None:
    """Adds the norms of the queries and keys within each head."""
    for letter in ("q", "k"):
        source, name = f"model.layers.{block}.self_attn.{letter}_norm", f"blk.{block}.attn_{letter}_norm"
        draft.tensor(f"{source}.weight", f"{name}.weight", (draft.head_dim,), make)


def add_feed_forward(draft: Draft, block: int, width: int | None = None, *, bias: bool = False) -> None:
    """Adds the gated feed-forward layer."""
    width = width or draft.config.count("intermediate_size")
    source, name = f"model.layers.{block}.mlp", f"blk.{block}.ffn"
    for letter, outputs, inputs in (
        ("gate", width, draft.hidden),
        ("up", width, draft.hidden),
        ("down", draft.hidden, width),
    ):
        draft.linear(f"{source}.{letter}_proj", f"{name}_{letter}", outputs, inputs, bias=bias)


def add_experts(draft: Draft, block: int, source: str, names: dict[str, str], width: int, count: int) -> None:
    """Adds the router and the experts of a block, stacked; `names` are the checkpoint's for gate, up and down."""
    experts = f"model.layers.{block}.{source}"
    router = (count, draft.hidden)
    draft.tensor(f"{experts}.gate.weight", f"blk.{block}.ffn_gate_inp.weight", router)
    for role, name in names.items():
        shape = (draft.hidden, width) if role == "down" else (width, draft.hidden)
        sources = {f"{experts}.experts.{number}.{name}.weight": shape for number in range(count)}
        draft.made(sources, f"blk.{block}.ffn_{role}_exps.weight", (count, *shape), stack)


def _plus_one(weight: torch.Tensor) -> torch.Tensor:
    return weight.float() + 1


def _minus_one(weight: torch.Tensor) -> torch.Tensor:
    """Returns the bfloat16 number that gives the same sum where there is one: the sum has lost the digits below 2^-24.

    That is what the model was, as all of Gemma's are bfloat16.
    """
    exact = weight - 1
    rounded = exact.bfloat16().float()
    return torch.where(_plus_one(rounded) == weight, rounded, exact)


add_one = Change(_plus_one, _minus_one)
"""weight + 1 in float32: Gemma's norms multiply by that, llama.cpp's by the weight itself."""


def sizes_of(file: GgufFields, *, epsilon: str = "rms_norm_eps", activation: str = "hidden_act") -> dict[str, Any]:
    """Returns the part of config.json that `add_sizes` and `add_embeddings` make a file's sizes of."""
    # As the sizes say where the file is silent: the converter states a size of heads that config.json does.
    stated = {} if file.value("attention.key_length") is None else {"head_dim": file.head_dim}
    return {
        "vocab_size": file.vocab,
        "num_hidden_layers": file.blocks,
        "max_position_embeddings": file.context,
        "hidden_size": file.hidden,
        "intermediate_size": max(file.each_block("feed_forward_length")),
        "num_attention_heads": file.heads,
        "num_key_value_heads": max(file.each_block("attention.head_count_kv")),
        **stated,
        epsilon: file.number("attention.layer_norm_rms_epsilon"),
        activation: "silu" if activation == "hidden_act" else "gelu_pytorch_tanh",
        "tie_word_embeddings": not file.has("output.weight"),
    }


def window_of(file: GgufFields, *, every: int) -> dict[str, Any]:
    """Returns the sliding window, and the kinds of layers, that `add_window` makes the keys of."""
    window = file.value("attention.sliding_window", 0)
    usual = [(block + 1) % every != 0 for block in range(file.blocks)]
    pattern = file.value("attention.sliding_window_pattern", usual)
    if isinstance(pattern, int) and not isinstance(pattern, bool):
        pattern = [(block + 1) % pattern != 0 for block in range(file.blocks)]
    if not isinstance(pattern, list) or len(pattern) != file.blocks:
        file.reject(f"{pattern!r} says nothing of {file.blocks} blocks", "attention.sliding_window_pattern")
        pattern = usual
    if not window:
        pattern = [False] * file.blocks
    file.amend("attention.sliding_window_pattern", pattern if window else usual)
    kinds = ["sliding_attention" if sliding else "full_attention" for sliding in pattern]
    return {"sliding_window": window or None, "layer_types": kinds}
