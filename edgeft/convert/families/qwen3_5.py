"""Qwen3.5, dense: gated delta nets in three blocks of four, gated attention in the fourth.

llama.cpp: conversion/qwen.py, src/models/qwen35.cpp. The head that predicts further tokens (`mtp`) is left out: it was
not trained with the rest, and transformers does not keep it either.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from gguf import MODEL_ARCH, Keys

from edgeft.convert.config_fields import ConfigFields
from edgeft.convert.decoder import (
    add_embeddings,
    add_feed_forward,
    add_head_norms,
    add_norms,
    add_one,
    add_sizes,
    require_activation,
    sizes_of,
)
from edgeft.convert.draft import Draft
from edgeft.convert.gguf_fields import BASE_FREQUENCY, GgufFields
from edgeft.convert.plan import Change, Plan
from edgeft.convert.rope import TABLE, rope_kind

ARCHITECTURES = ("Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration")
GGUF_ARCHITECTURES = ("qwen35",)

_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm"}
_NEIGHBOURS = 4  # float32 numbers on either side
_SECTIONS = [11, 11, 10]  # of the rotated pairs: time, height, width, which are alike for text


def plan(config: ConfigFields) -> Plan:
    """Returns the plan; raises EdgeftError for every key of config.json that cannot be served."""
    draft = Draft(config, MODEL_ARCH.QWEN35)
    require_activation(draft)
    config.require("attention_bias", False, "llama.cpp has none here")
    kinds = config.entries("layer_types")
    if len(kinds) != draft.blocks:
        config.reject(f"{len(kinds)} entries for {draft.blocks} blocks", "layer_types")
    add_sizes(draft)
    _add_rope(draft)
    delta = _Delta(draft)
    draft.key("{arch}.attention.recurrent_layers", [kind == "linear_attention" for kind in kinds])
    draft.key(Keys.LLM.FULL_ATTENTION_INTERVAL, config.count("full_attention_interval", 4))
    add_embeddings(draft, plus_one=True)
    for block, kind in enumerate(kinds):
        add_norms(draft, block, _NORMS, add_one)
        if kind == "linear_attention":
            delta.add(block)
        else:
            _add_gated_attention(draft, block)
        add_feed_forward(draft, block)
    draft.ignore(r"(model\.)?(mtp|visual)\..*")
    return draft.plan()


def config_of(file: GgufFields) -> dict[str, Any]:
    """Returns the config.json of a GGUF file's model, its text part alone: the eyes are in a file of their own."""
    config = sizes_of(file)
    interval = file.count("full_attention_interval", 4)
    usual = [(block + 1) % interval != 0 for block in range(file.blocks)]
    recurrent = file.value("attention.recurrent_layers", usual)
    rotated = file.count("rope.dimension_count")
    sections = list(file.value("rope.dimension_sections") or [])
    head_dim = file.count("ssm.state_size")
    config |= {
        "layer_types": ["linear_attention" if one else "full_attention" for one in recurrent],
        "full_attention_interval": interval,
        "linear_conv_kernel_dim": file.count("ssm.conv_kernel"),
        "linear_key_head_dim": head_dim,
        "linear_value_head_dim": head_dim,
        "linear_num_key_heads": file.count("ssm.group_count"),
        "linear_num_value_heads": file.count("ssm.time_step_rank"),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": file.number("rope.freq_base", BASE_FREQUENCY),
            "partial_rotary_factor": rotated / file.head_dim,
            "mrope_section": sections[:3],
            "mrope_interleaved": True,
        },
    }
    return {"architectures": ["Qwen3_5ForCausalLM"], "model_type": "qwen3_5_text", **config}


def _add_rope(draft: Draft) -> None:
    config, values = draft.config, draft.config.table(TABLE)
    if rope_kind(draft) != "default":
        config.reject(f"RoPE scaling {rope_kind(draft)!r} is not covered", TABLE, "covered: default")
    draft.key(Keys.Rope.FREQ_BASE, config.number("rope_theta", within=TABLE))
    rotated = draft.head_dim * config.number("partial_rotary_factor", 0.25, within=TABLE)
    draft.key(Keys.Rope.DIMENSION_COUNT, int(rotated))
    sections = list(values.get("mrope_section") or _SECTIONS)
    draft.key(Keys.Rope.DIMENSION_SECTIONS, [*sections, 0][:4])


def _add_gated_attention(draft: Draft, block: int) -> None:
    """Adds attention whose query projection gives each head's gate behind its query."""
    source, name, hidden = f"model.layers.{block}.self_attn", f"blk.{block}.attn", draft.hidden
    query, key = draft.heads * draft.head_dim, draft.kv_heads * draft.head_dim
    for letter, rows in (("q", 2 * query), ("k", key), ("v", key)):
        draft.linear(f"{source}.{letter}_proj", f"{name}_{letter}", rows, hidden)
    draft.linear(f"{source}.o_proj", f"{name}_output", hidden, query)
    add_head_norms(draft, block, add_one)


class _Delta:
    """The gated delta nets of a model (Yang et al. 2024).

    transformers keeps the value heads of one key head together, llama.cpp goes through all key heads for the first
    value head of each, then for the second, and so on.
    """

    def __init__(self, draft: Draft) -> None:
        config = draft.config
        self._draft = draft
        self._taps = config.count("linear_conv_kernel_dim")
        self._head_dim = config.count("linear_value_head_dim")
        self._key_heads = config.count("linear_num_key_heads")
        self._value_heads = config.count("linear_num_value_heads")
        if config.count("linear_key_head_dim") != self._head_dim:
            config.reject("llama.cpp wants keys and values of one size here", "linear_value_head_dim")
        if self._value_heads % self._key_heads:
            config.reject(f"{self._key_heads} does not divide linear_num_value_heads", "linear_num_key_heads")
        draft.key(Keys.SSM.CONV_KERNEL, self._taps)
        draft.key(Keys.SSM.STATE_SIZE, self._head_dim)
        draft.key(Keys.SSM.GROUP_COUNT, self._key_heads)
        draft.key(Keys.SSM.TIME_STEP_RANK, self._value_heads)
        draft.key(Keys.SSM.INNER_SIZE, self._head_dim * self._value_heads)

    def add(self, block: int) -> None:
        """Adds the tensors of one block."""
        draft, hidden, value_heads = self._draft, self._draft.hidden, self._value_heads
        keys, values = self._key_heads * self._head_dim, value_heads * self._head_dim
        channels = 2 * keys + values
        source, name = f"model.layers.{block}.linear_attn", f"blk.{block}"
        behind_keys = self._reordered(self._head_dim, start=2 * keys)
        whole_heads = self._reordered(self._head_dim)
        one_a_head = self._reordered(1)
        columns = Change(lambda weight: whole_heads(weight.T).T, lambda weight: whole_heads.undo(weight.T).T)
        convolution = Change(
            lambda weight: behind_keys(weight.squeeze(1)), lambda weight: behind_keys.undo(weight).unsqueeze(1)
        )
        draft.linear(f"{source}.in_proj_qkv", f"{name}.attn_qkv", channels, hidden, behind_keys)
        draft.linear(f"{source}.in_proj_z", f"{name}.attn_gate", values, hidden, whole_heads)
        draft.linear(f"{source}.in_proj_b", f"{name}.ssm_beta", value_heads, hidden, one_a_head)
        draft.linear(f"{source}.in_proj_a", f"{name}.ssm_alpha", value_heads, hidden, one_a_head)
        draft.linear(f"{source}.out_proj", f"{name}.ssm_out", hidden, values, columns)
        draft.tensor(f"{source}.dt_bias", f"{name}.ssm_dt.bias", (value_heads,), one_a_head)
        draft.tensor(f"{source}.A_log", f"{name}.ssm_a", (value_heads,), _decay_of(one_a_head))
        draft.tensor(f"{source}.norm.weight", f"{name}.ssm_norm.weight", (self._head_dim,))
        taps = {f"{source}.conv1d.weight": (channels, 1, self._taps)}
        draft.made(taps, f"{name}.ssm_conv1d.weight", (channels, self._taps), convolution)

    def _reordered(self, head_dim: int, start: int = 0) -> Change:
        """Returns the weight with the rows of the value heads, from `start` on, in llama.cpp's order."""
        a_key_head = self._value_heads // self._key_heads

        def moved(weight: torch.Tensor, outer: int) -> torch.Tensor:
            heads = weight[start:].reshape(outer, -1, head_dim, *weight.shape[1:])
            return torch.cat([weight[:start], heads.transpose(0, 1).flatten(0, 2)])

        return Change(partial(moved, outer=self._key_heads), partial(moved, outer=a_key_head))


def _decay_of(reorder: Change) -> Change:
    """Returns the decay -exp(A) of the heads, in llama.cpp's order."""

    def undo(decay: torch.Tensor) -> torch.Tensor:
        """Returns the bfloat16 number whose exponential this is where there is one, else the nearest float32."""
        exact = torch.log(-decay)
        rounded = exact.bfloat16().float()
        # The logarithm's last bit: of its neighbours one gives the very exponential, as far as any does.
        steps = [exact]
        for direction in (-torch.inf, torch.inf):
            near = exact
            for _ in range(_NEIGHBOURS):
                near = torch.nextafter(near, torch.full_like(near, direction))
                steps.append(near)
        tried = torch.stack([rounded, *steps])
        misses = (-torch.exp(tried) - decay).abs()
        undone: torch.Tensor = reorder.undo(tried.gather(0, misses.argmin(0, keepdim=True)).squeeze(0))
        return undone

    return Change(lambda logarithm: reorder(-torch.exp(logarithm.float())), undo)
