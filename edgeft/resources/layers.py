"""What one decoder layer keeps for its backward pass, and holds while it runs: bytes for each token of the batch.

Each number is a tensor of a layer's code: `train/fast/layer.py` for the fast layers, transformers' Llama layer with
peft's LoRA on bitsandbytes' Linear4bit for the others. Tests count what is really kept.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from edgeft.resources.shape import ModelShape

_ROOM = 64
"""Rows of the fast layers are a multiple of this long: 128 bytes of bfloat16, a cache line."""
_GROUPS = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
"""Linear layers that share an input, and so a matrix, in the fast layers."""
_FLOAT32 = 4


def room(width: int) -> int:
    """Returns the length of rows that hold `width` numbers."""
    return -(-width // _ROOM) * _ROOM


@dataclass(frozen=True)
class GroupShape:
    """Linear layers of one input; `rank` of their adapters together, a multiple of 8."""

    n_in: int
    n_out: int
    rank: int

    @property
    def matrix(self) -> int:
        """Numbers in the group's dequantized matrix."""
        return (self.n_out + self.rank) * room(self.n_in + self.rank)


def groups(shape: ModelShape, rank: int, targets: Collection[str]) -> list[GroupShape]:
    """Returns the groups: q k v; o; gate and up; down."""
    sizes = shape.linears
    found = []
    for names in _GROUPS:
        ranks = rank * sum(name in targets for name in names)
        found.append(GroupShape(sizes[names[0]][0], sum(sizes[name][1] for name in names), -(-ranks // 8) * 8))
    return found


def fast_kept(shape: ModelShape, rank: int, targets: Collection[str], number: int) -> int:
    """Bytes a token that a fast layer keeps (`Kept`); `number` is the bytes of an activation."""
    qkv, output, gate_up, down = groups(shape, rank, targets)
    rows = room(qkv.n_in + qkv.rank) + room(qkv.n_out + qkv.rank) + shape.n_query + output.rank
    rows += room(gate_up.n_in + gate_up.rank) + room(gate_up.n_out + gate_up.rank) + down.rank
    rstd = 2 + (shape.n_heads + shape.n_kv_heads if shape.head_norms else 0)
    return number * rows + _FLOAT32 * (rstd + shape.n_heads)  # a logarithm of the sum of exponentials for each head


def fast_input(shape: ModelShape, rank: int, targets: Collection[str], number: int) -> int:
    """Bytes a token that a fast layer keeps when it is computed again: its input, and down's part of the adapter."""
    return number * (shape.width + groups(shape, rank, targets)[3].rank)


def fast_working(shape: ModelShape, rank: int, targets: Collection[str], number: int) -> int:
    """Bytes a token that the backward pass of a fast layer holds beside what was kept, at most."""
    qkv, output, _, down = groups(shape, rank, targets)
    mlp = number * (shape.width + room(down.n_out + down.rank) + shape.inner)
    held = number * (2 * shape.width + room(output.n_out + output.rank) + shape.n_query)
    rotated = number * (shape.n_query + 2 * shape.n_kv + room(qkv.n_out + qkv.rank))
    return max(mlp, held + max(attention_working(shape, number), rotated))


def attention_working(shape: ModelShape, number: int) -> int:
    """Bytes a token of FlashAttention's backward pass: gradients, those of keys and values once for every query head.

    It sums the gradient of the queries in float32.
    """
    expanded = 2 * shape.n_query if shape.n_kv_heads < shape.n_heads else 0
    return number * (shape.n_query + 2 * shape.n_kv + expanded) + _FLOAT32 * (shape.n_query + shape.n_heads)


def plain_kept(shape: ModelShape, rank: int, targets: Collection[str], number: int, padded_to: int = 0) -> int:
    """Bytes a token that a layer of transformers keeps, with peft's adapters, bitsandbytes' products and autocast.

    Packed, activations are `number` bytes wide but for what RMSNorm keeps, float32. Padded, to as many tokens, peft's
    preparation makes the residual stream float32: the products return float32, and each adapter keeps its own rounded
    copy of its input. Attention then has keys and values once for every query head, and makes numbers of its mask.
    """
    lows = rank * sum(target in targets for target in shape.linears)
    norms = 2 * (shape.width + 1)
    kv_width = shape.n_query if padded_to else shape.n_kv
    rounded = lows + padded_to + 2 * shape.n_query + 2 * kv_width + (shape.inner if "down_proj" in targets else 0)
    exact = norms + shape.n_heads
    if padded_to and number < _FLOAT32:
        copies = sum(target in targets for target in (*_GROUPS[0], *_GROUPS[2]))
        return _FLOAT32 * (exact + 3 * shape.inner) + number * (rounded + copies * shape.width)
    inputs = sum(any(target in targets for target in group) for group in (_GROUPS[0], _GROUPS[2]))
    return _FLOAT32 * exact + number * (rounded + inputs * shape.width + 3 * shape.inner)


def plain_working(shape: ModelShape, number: int, *, padded: bool) -> int:
    """Bytes a token that the backward pass of such a layer holds beside what was kept, at most.

    In the MLP four gradients as wide as it is inside; in attention those of the heads, and of what they were made from.
    """
    wide = _FLOAT32 if padded else number
    stream = 2 * wide * shape.width
    attention = attention_working(shape, number) + wide * (shape.n_query + 2 * shape.n_kv)
    return stream + max(4 * wide * shape.inner, attention)
