"""The base model's architecture, its first weights, and its training loss."""

from __future__ import annotations

import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM


def build_config(
    vocab_size: int, hidden: int, layers: int, heads: int, context: int, end_of_text: int, turn_end: int
) -> LlamaConfig:
    """A Llama with as many key-value heads as heads, an MLP four times as wide as the model, and tied embeddings."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
        max_position_embeddings=context,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        initializer_range=0.02,
        bos_token_id=None,
        eos_token_id=turn_end,
        pad_token_id=end_of_text,
    )


def build_model(config: LlamaConfig, seed: int, device: str) -> LlamaForCausalLM:
    """Fresh float32 weights: normal(0, 0.02), outputs into the residual stream scaled by 1/sqrt(2 layers) (GPT-2)."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    scale = (2 * config.num_hidden_layers) ** -0.5
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(scale)
            layer.mlp.down_proj.weight.mul_(scale)
    model.to(device)  # type: ignore[arg-type]
    return model


def next_token_logits(model: LlamaForCausalLM, tokens: torch.Tensor) -> torch.Tensor:
    """Logits (rows, positions, vocab) of whole rows of ids (rows, positions), causal, no padding mask, no cache.

    It calls the modules of the model one after another, because its own forward builds an explicit mask under
    torch.compile, and that mask keeps attention from its fused causal kernel.
    """
    inner = model.model
    hidden = inner.embed_tokens(tokens)
    positions = torch.arange(tokens.shape[1], device=tokens.device).unsqueeze(0)
    rotary = inner.rotary_emb(hidden, position_ids=positions)
    for layer in inner.layers:
        hidden = layer(hidden, attention_mask=None, position_ids=positions, position_embeddings=rotary)
    logits: torch.Tensor = model.lm_head(inner.norm(hidden))
    return logits


def weighted_loss(
    model: LlamaForCausalLM, tokens: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy in nats of each next token under its weight, and the same on full-weight tokens alone.

    tokens: int64 (rows, positions). weights: uint8 (rows, positions), in tenths, of each token as a target.
    """
    logits = next_token_logits(model, tokens)
    targets = torch.roll(tokens, -1, dims=1).flatten()
    marks = torch.roll(weights, -1, dims=1).float()
    marks[:, -1] = 0.0
    marks = marks.flatten()
    losses = functional.cross_entropy(logits.flatten(0, 1).float(), targets, reduction="none")
    answers = (marks >= 10).float()
    return (losses * marks).sum() / marks.sum(), (losses * answers).sum().detach() / answers.sum().clamp(min=1)


def autocast(device: str) -> torch.autocast:
    """bfloat16 products on CUDA, plain float32 on a CPU."""
    return torch.autocast("cuda", torch.bfloat16, enabled=device.startswith("cuda"))
