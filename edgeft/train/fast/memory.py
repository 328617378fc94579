"""What fits into the GPU: whether activations are kept or computed again, and weights kept dequantized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from edgeft.train.fast.layer import LayerParts
from edgeft.train.fast.matrices import room

_SPARE = 0.08
"""Share of the GPU that is left for the allocator, the optimizer and what is not counted."""


@dataclass(frozen=True)
class MemoryPlan:
    """`recompute`: keep each layer's input alone; `resident`: keep the weights in 2 bytes each."""

    recompute: bool
    resident: bool


def plan_memory(parts: Sequence[LayerParts], tokens: int, n_vocab: int, recompute: bool | None) -> MemoryPlan:
    """Decides from the free memory of the GPU; `recompute` unset: only when keeping everything does not fit.

    `tokens` is the most that a batch holds. What is computed is the same either way, to the bit.
    """
    device = parts[0].qkv.device
    if device.type != "cuda":
        return MemoryPlan(recompute=bool(recompute), resident=False)
    torch.cuda.empty_cache()
    free, whole = torch.cuda.mem_get_info(device)
    free -= int(_SPARE * whole)
    kept = sum(_kept_bytes(part) for part in parts) * tokens
    once = max(_working_bytes(part) for part in parts) * tokens + 3 * 2048 * n_vocab * 2
    if recompute is None:
        recompute = kept + once > free
    if recompute:
        kept = sum(2 * part.qkv.n_in for part in parts) * tokens
    weights = sum(2 * (g.n_out + g.rank) * room(g.n_in + g.rank) for part in parts for g in part.groups)
    # Whoever asks for recomputation has little memory, or wants to use little.
    return MemoryPlan(recompute, not recompute and kept + once + weights < free)


def _kept_bytes(part: LayerParts) -> int:
    """Bytes a token of what a layer keeps for its backward pass."""
    rows = [room(part.qkv.n_in + part.qkv.rank), room(part.qkv.n_out + part.qkv.rank), part.output.n_in]
    rows += [room(part.gate_up.n_in + part.gate_up.rank), room(part.gate_up.n_out + part.gate_up.rank)]
    return 2 * sum(rows)


def _working_bytes(part: LayerParts) -> int:
    """Bytes a token of what a layer holds for a moment, at most."""
    return _kept_bytes(part) + 2 * (2 * part.down.n_in + 6 * part.qkv.n_in)
