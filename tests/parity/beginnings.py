"""Where the hidden states of a file with a fault begin to differ from the model's."""

from __future__ import annotations

_ATTENTION = "layer 0, attention"
_AT_THE_ADAPTER = r"layer 0, .* at blk\.0\.attn_q\.weight"
BEGINS: dict[str, str] = {
    "RoPE base": _ATTENTION,
    "RoPE factors missing": _ATTENTION,
    "RoPE factors wrong": _ATTENTION,
    "RoPE scaling type": _ATTENTION,
    "norm epsilon": r"layer 0, norm .* at blk\.0\.attn_norm",
    "soft cap of the logits": r"first in logits .*token_embd\.weight \(model\.embed_tokens\.weight\)",
    "soft cap of attention": _ATTENTION,
    "sliding window ignored": _ATTENTION,
    "sliding window of another length": _ATTENTION,
    "q and k not permuted": r"at blk\.0\.attn_q\.weight \(model\.layers\.0\.self_attn\.q_proj\.weight\)",
    "a norm's 1 missing": r"layer 0, norm .* at blk\.0\.attn_norm",
    "a norm's 1 added": r"layer 1, norm .* at blk\.1\.attn_norm",
    "a tensor zeroed": r"layer 1, matrix product at blk\.1\.ffn_down.*: relative error 1, ",
    "a tensor transposed": r"layer 0, matrix product at blk\.0\.attn_output",
    "a tensor swapped with its neighbour layer's": r"layer 0, matrix product at blk\.0\.ffn_up",
    "gate and up swapped": r"layer 0, matrix product at blk\.0\.ffn_gate",
    "a layer written twice": r"layer 1, matrix product at blk\.1\.attn_v",
    "one block damaged": r"layer 1, matrix product at blk\.1\.ffn_down",
    "a sign flipped": r"layer 0, matrix product at blk\.0\.ffn_up.*: relative error 2, ",
    "a tensor at another scale": r"layer 0, matrix product at blk\.0\.ffn_up.*: relative error 0\.5, ",
    "a norm left at ones": r"layer 1, norm .* at blk\.1\.attn_norm",
    "not a number": r"layer 0, matrix product at blk\.0\.ffn_up.*: relative error nan, ",
    "embeddings tied wrongly": r"first in matrix product at token_embd\.weight",
    "the embedding for an output": r"first in matrix product at output\.weight \(lm_head\.weight\)",
    "another model's weights": r"first in embedding at token_embd\.weight",
    "a layer rounded to far fewer bits": r"layer 1, matrix product at blk\.1\.ffn_down",
    "adapter not merged": _AT_THE_ADAPTER,
    "adapter merged twice": _AT_THE_ADAPTER,
    "adapter at half scale": _AT_THE_ADAPTER,
    "adapter not merged in one tensor": r"layer 1, .* at blk\.1\.attn_q\.weight",
}
"""Where hidden states must be found to differ first. Of the other faults none moves them beyond the noise floor."""
