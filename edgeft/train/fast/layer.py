"""A decoder layer of the Llama kind with adapters, as one differentiable function.

norm, q k v, rotary positions, attention, o, norm, gate and up, SwiGLU, down. Written out forward and backward, so that
every product takes its adapter's part and the residual along (see `matrices.py`), gradients are written where their
inputs lay, and nothing is kept that the backward pass can do without. With `recompute` only the layer's input is kept
(Chen et al. 2016), and the recomputation leaves out the last product, which no gradient needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from edgeft.resources.layers import room
from edgeft.train.fast import ops
from edgeft.train.fast.attention import Packing, attend
from edgeft.train.fast.matrices import Group
from edgeft.train.fast.rotary import Heads, rotate, rotate_backward


@dataclass(frozen=True)
class LayerParts:
    """What a layer computes with; the norms are ((width,) weight, epsilon).

    `gather` is called before the weights are read, with 1 going forward and -1 going back (see `sharding.py`).
    """

    qkv: Group
    output: Group
    gate_up: Group
    down: Group
    attention_norm: tuple[torch.Tensor, float]
    mlp_norm: tuple[torch.Tensor, float]
    heads: Heads
    scaling: float
    gather: Callable[[int], None] | None = None

    @property
    def groups(self) -> tuple[Group, Group, Group, Group]:
        """All of them, in the order of the gradients."""
        return self.qkv, self.output, self.gate_up, self.down

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """The adapters' parameters, in the order of the gradients."""
        return [p for group in self.groups for p in group.parameters]


@dataclass(frozen=True)
class Batch:
    """The sequences of one row, and the angles of their places: cos and sin, each (tokens, head_dim)."""

    packing: Packing
    cos: torch.Tensor
    sin: torch.Tensor


@dataclass
class Kept:
    """What the backward pass needs of the forward pass; matrices over tokens, room for adapters behind their rows."""

    normed_in: torch.Tensor
    rstd_in: torch.Tensor
    qkv: torch.Tensor
    rstd_heads: torch.Tensor | None
    attention_inputs: tuple[torch.Tensor, ...]
    attended: torch.Tensor
    low_output: torch.Tensor
    normed_mid: torch.Tensor
    rstd_mid: torch.Tensor
    gate_up: torch.Tensor
    low_down: torch.Tensor


def _wide(tokens: int, group_width: int, like: torch.Tensor) -> torch.Tensor:
    return torch.empty((tokens, room(group_width)), dtype=like.dtype, device=like.device)


def _normed(x: torch.Tensor, norm: tuple[torch.Tensor, float], group: Group) -> tuple[torch.Tensor, torch.Tensor]:
    wide = _wide(len(x), group.n_in + group.rank, x)
    rstd = ops.rms_norm(x, norm[0], norm[1], wide[:, : group.n_in])
    return wide, rstd


def _product(wide: torch.Tensor, group: Group, out: torch.Tensor | None = None) -> torch.Tensor:
    """Returns the layers' outputs, (tokens, n_out), of the inputs in `wide`; adds x A^T to `wide`, and to `out` all."""
    matrix = group.matrix()
    n_in, n_out, width = group.n_in, group.n_out, group.n_in + group.rank
    if group.rank:
        torch.mm(wide[:, :n_in], matrix[n_out : n_out + group.rank, :n_in].t(), out=wide[:, n_in:width])
    if out is not None:
        out.addmm_(wide[:, :width], matrix[:n_out, :width].t())
    else:
        out = _wide(len(wide), n_out + group.rank, wide)[:, :n_out]
        torch.mm(wide[:, :width], matrix[:n_out, :width].t(), out=out)
    if group.bias is not None:
        out += group.bias
    return out


def _product_backward(grad: torch.Tensor, group: Group) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the gradient of the input, (tokens, n_in), from `grad`, (tokens, n_out) with room for `rank` more.

    The second result is the gradient of x A^T, (tokens, rank), written into that room.
    """
    matrix = group.matrix()
    n_in, n_out = group.n_in, group.n_out
    low = grad[:, n_out : n_out + group.rank]
    if group.rank:
        torch.mm(grad[:, :n_out], matrix[:n_out, n_in : n_in + group.rank], out=low)
    return torch.mm(grad[:, : n_out + group.rank], matrix[: n_out + group.rank, :n_in]), low


def _adapter_gradients(
    group: Group, grad: torch.Tensor, low_grad: torch.Tensor, x: torch.Tensor, low: torch.Tensor
) -> list[torch.Tensor]:
    if not group.rank:
        return []
    return group.split_gradients(low_grad.t() @ x[:, : group.n_in], grad[:, : group.n_out].t() @ low)


def _attention_half(x: torch.Tensor, parts: LayerParts, batch: Batch, graph: bool) -> tuple[Any, ...]:
    normed, rstd = _normed(x, parts.attention_norm, parts.qkv)
    qkv = _product(normed, parts.qkv)
    rstd_heads = rotate(qkv, batch.cos, batch.sin, parts.heads)
    inputs = parts.heads.split(qkv)
    if graph:  # attention's own backward pass is torch's
        inputs = (inputs[0].detach(), inputs[1].detach(), inputs[2].detach())
        for tensor in inputs:
            tensor.requires_grad_()
    with torch.set_grad_enabled(graph):
        attended = attend(*inputs, batch.packing, parts.scaling).flatten(1)
    return normed, rstd, qkv, rstd_heads, inputs, attended


def _run(
    x: torch.Tensor,
    parts: LayerParts,
    batch: Batch,
    *,
    graph: bool,
    in_place: bool,
    low_down: torch.Tensor | None = None,
) -> tuple[torch.Tensor, Kept]:
    """Returns the layer's output, (tokens, width); writes over `x` when `in_place`.

    With `low_down`, the adapter's part of the last product, from an earlier run, the last product is left out.
    """
    normed_in, rstd_in, qkv, rstd_heads, inputs, attended = _attention_half(x, parts, batch, graph)
    o, flat = parts.output, attended.detach()
    matrix = o.matrix()
    low_output = flat @ matrix[o.n_out : o.n_out + o.rank, : o.n_in].t()
    middle = x if in_place else x.clone()
    middle.addmm_(flat, matrix[: o.n_out, : o.n_in].t())
    middle.addmm_(low_output, matrix[: o.n_out, o.n_in : o.n_in + o.rank].t())
    if o.bias is not None:
        middle += o.bias
    normed, rstd = _normed(middle, parts.mlp_norm, parts.gate_up)
    gate_up = _product(normed, parts.gate_up)
    if low_down is None:
        down = parts.down
        hidden = _wide(len(x), down.n_in + down.rank, x)
        ops.swiglu(gate_up, hidden[:, : down.n_in])
        middle = _product(hidden, down, out=middle)
        low_down = hidden[:, down.n_in : down.n_in + down.rank].clone()
    before = (normed_in, rstd_in, qkv, rstd_heads, inputs, attended)
    return middle, Kept(*before, low_output, normed, rstd, gate_up, low_down)


def _mlp_backward(
    grad: torch.Tensor, kept: Kept, parts: LayerParts
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Returns the gradient of the MLP's normed input, and those of the adapters of gate and up, and of down."""
    down, gate_up = parts.down, parts.gate_up
    wide = _wide(len(grad), down.n_out + down.rank, grad)
    wide[:, : down.n_out] = grad
    grad_hidden, low_grad = _product_backward(wide, down)
    ops.swiglu_backward(kept.gate_up, grad_hidden)  # grad_hidden is the hidden state from here on
    of_down = _adapter_gradients(down, grad, low_grad, grad_hidden, kept.low_down)
    del grad_hidden, wide
    grads = _with_room(kept.gate_up, gate_up)
    grad_normed, low_grad = _product_backward(grads, gate_up)
    low = kept.normed_mid[:, gate_up.n_in : gate_up.n_in + gate_up.rank]
    return grad_normed, _adapter_gradients(gate_up, grads, low_grad, kept.normed_mid, low), of_down


def _with_room(matrix: torch.Tensor, group: Group) -> torch.Tensor:
    """Returns an output of `_product` with the room behind its rows."""
    return matrix.as_strided((len(matrix), group.n_out + group.rank), matrix.stride())


def _backward(
    grad: torch.Tensor, kept: Kept, parts: LayerParts, batch: Batch, needs_input: bool
) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
    grad_normed, of_gate_up, of_down = _mlp_backward(grad, kept, parts)
    output, qkv, heads = parts.output, parts.qkv, parts.heads
    middle = _wide(len(grad), output.n_out + output.rank, grad)
    grad_middle = middle[:, : output.n_out]
    ops.rms_norm_backward(
        grad_normed, kept.normed_mid[:, : output.n_out], parts.mlp_norm[0], kept.rstd_mid, grad, grad_middle
    )
    grad_attended, low_grad = _product_backward(middle, output)
    of_output = _adapter_gradients(output, middle, low_grad, kept.attended.detach(), kept.low_output)
    of_inputs = torch.autograd.grad(kept.attended, kept.attention_inputs, grad_attended)
    wide = _wide(len(grad), qkv.n_out + qkv.rank, grad)
    rotate_backward(
        (of_inputs[0], of_inputs[1], of_inputs[2]), kept.qkv, batch.cos, batch.sin, kept.rstd_heads, heads,
        wide[:, : qkv.n_out],
    )  # fmt: skip
    grad_normed, low_grad = _product_backward(wide, qkv)
    low = kept.normed_in[:, qkv.n_in : qkv.n_in + qkv.rank]
    of_qkv = _adapter_gradients(qkv, wide, low_grad, kept.normed_in, low)
    grads = [*of_qkv, *of_output, *of_gate_up, *of_down]
    if not needs_input:
        return None, grads
    result = torch.empty_like(grad, memory_format=torch.contiguous_format)
    ops.rms_norm_backward(
        grad_normed, kept.normed_in[:, : qkv.n_in], parts.attention_norm[0], kept.rstd_in, grad_middle, result
    )
    return result, grads


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, parts: LayerParts, batch: Batch, recompute: bool, graph: bool, *_: torch.Tensor
    ) -> torch.Tensor:
        ctx.parts, ctx.batch = parts, batch
        if parts.gather is not None:
            parts.gather(1)
        in_place = not (graph and recompute)
        output, kept = _run(x[0], parts, batch, graph=graph and not recompute, in_place=in_place)
        if graph:
            ctx.kept = (x[0], kept.low_down) if recompute else kept
        if not in_place:
            return output[None]
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        kept, ctx.kept = ctx.kept, None
        if ctx.parts.gather is not None:
            ctx.parts.gather(-1)
        if isinstance(kept, tuple):
            x, low_down = kept
            kept = _run(x, ctx.parts, ctx.batch, graph=True, in_place=True, low_down=low_down)[1]
        grad_x, grads = _backward(grad[0], kept, ctx.parts, ctx.batch, ctx.needs_input_grad[0])
        return (None if grad_x is None else grad_x[None], None, None, None, None, *grads)


def run_layer(x: torch.Tensor, parts: LayerParts, batch: Batch, *, recompute: bool) -> torch.Tensor:
    """Returns the layer's output, (1, tokens, width), from its input of that shape, which it may write over.

    Gradients flow to the input and to `parts.parameters`, once: the backward pass writes over what was kept.
    """
    graph = torch.is_grad_enabled()
    output = _Layer.apply(x, parts, batch, recompute, graph, *parts.parameters)  # type: ignore[no-untyped-call]
    assert isinstance(output, torch.Tensor)
    return output
