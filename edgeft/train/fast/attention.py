"""Causal attention over packed sequences: each sees itself alone, and there is no mask to store."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import itertools
from dataclasses import dataclass
from typing import Any

import torch

PACKED = "edgeft_packed"
"""The name under which the models of transformers find `packed_attention`."""


def can_attend(device: str) -> bool:
    """Returns whether `attend` works on such a device: on CUDA it needs torch 2.10 and compute capability 8.0."""
    if device != "cuda":
        return True
    return importlib.util.find_spec("torch.nn.attention.varlen") is not None and (
        torch.cuda.get_device_capability() >= (8, 0)
    )


@dataclass(frozen=True)
class Packing:
    """Where the sequences of one row begin.

    Attributes:
        boundaries: (n_sequences + 1,) int32 places of the sequences' first tokens, and the number of tokens.
        longest: tokens of the longest sequence; a number, so that nothing waits for the device.
    """

    boundaries: torch.Tensor
    longest: int


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packing: Packing, scaling: float
) -> torch.Tensor:
    """Returns (tokens, n_query, dim) from such queries, and keys and values (tokens, n_kv, dim).

    FlashAttention (Dao 2023) with variable lengths on CUDA; sequence by sequence elsewhere.
    """
    if query.is_cuda:
        return _varlen(query, key, value, packing, scaling)
    outputs = []
    places = packing.boundaries.tolist()
    for start, end in itertools.pairwise(places):
        q, k, v = (tensor[start:end].transpose(0, 1)[None] for tensor in (query, key, value))
        output = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, enable_gqa=True
        )
        outputs.append(output[0].transpose(0, 1))
    return torch.cat(outputs)


def _varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packing: Packing, scaling: float
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn  # torch 2.10 and newer

    options = dict(_varlen_options(query.shape[1] != key.shape[1]))
    places, longest = packing.boundaries, packing.longest
    result = varlen_attn(query, key, value, places, places, longest, longest, scale=scaling, **options)
    assert isinstance(result, torch.Tensor)
    return result


@functools.cache
def _varlen_options(grouped: bool) -> tuple[tuple[str, Any], ...]:
    """Returns how this version of torch is told of causal attention and of grouped heads."""
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    causal: tuple[str, Any] = ("window_size", (-1, 0)) if "window_size" in known else ("is_causal", True)
    return (causal, ("enable_gqa", grouped)) if "enable_gqa" in known else (causal,)  # 2.11 takes them without a word


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """`attend` as transformers' models call it: (1, heads, tokens, dim) in, (1, tokens, heads, dim) out."""
    # With weights in float32 autocast leaves queries and keys in float32 behind the rotation, DoRA over 4 bits the
    # values, too; FlashAttention takes 16 bits alone.
    dtype = torch.bfloat16 if value.is_cuda else value.dtype
    q, k, v = (tensor[0].transpose(0, 1).to(dtype) for tensor in (query, key, value))
    return attend(q, k, v, Packing(cu_seq_lens_q, max_length_q), scaling)[None], None
