"""The element-wise steps of a decoder layer: a Triton kernel on CUDA, and its plain torch twin elsewhere.

Matrices are (tokens, width) with unit stride along a row. A row may be longer than it is wide: the room behind it holds
the adapter's part of a product (see `matrices.py`).
"""

from __future__ import annotations

from typing import Any

import torch

IGNORED = -100
_SWIGLU_BLOCK = 2048
_VOCABULARY_BLOCK = 8192


def _kernels() -> Any:
    from edgeft.train.fast import triton_kernels  # Triton comes with torch for CUDA only

    return triton_kernels


def _next_power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, out: torch.Tensor) -> torch.Tensor:
    """Writes x / rms(x) * weight (Zhang & Sennrich 2019) to `out`; returns 1 / rms(x), (tokens,) float32."""
    tokens, width = x.shape
    if x.is_cuda:
        rstd = torch.empty(tokens, dtype=torch.float32, device=x.device)
        block = _next_power_of_two(width)
        _kernels().rms_norm_forward[(tokens,)](
            x, weight, out, rstd, x.stride(0), out.stride(0), width, eps, block=block, num_warps=_warps(block)
        )
        return rstd
    values = x.float()
    rstd = torch.rsqrt(values.square().mean(1) + eps)
    out.copy_(values * rstd[:, None] * weight.float())
    return rstd


def rms_norm_backward(
    grad: torch.Tensor,
    y: torch.Tensor,
    weight: torch.Tensor,
    rstd: torch.Tensor,
    residual: torch.Tensor | None,
    out: torch.Tensor,
) -> None:
    """Writes the gradient through the norm, plus `residual`, to `out`.

    It starts from the norm's output, which the next layer's adapter keeps anyway; so the input need not be kept, and no
    weight may be zero.
    """
    tokens, width = y.shape
    if grad.is_cuda:
        added = torch.zeros(width, dtype=grad.dtype, device=grad.device)[None] if residual is None else residual
        block = _next_power_of_two(width)
        strides = (grad.stride(0), y.stride(0), 0 if residual is None else added.stride(0), out.stride(0))
        _kernels().rms_norm_backward[(tokens,)](
            grad, y, weight, rstd, added, out, *strides, width, block=block, num_warps=_warps(block)
        )
        return
    dy, normed, scale = grad.float(), y.float(), weight.float()
    dx = rstd[:, None] * (dy * scale - normed / scale * (dy * normed).mean(1, keepdim=True))
    out.copy_(dx if residual is None else dx + residual.float())


def _warps(block: int) -> int:
    return max(1, min(16, block // 512))


def swiglu(gate_up: torch.Tensor, out: torch.Tensor) -> None:
    """Writes silu(gate) * up (Shazeer 2020) to `out`, (tokens, width), from both halves of (tokens, 2 width)."""
    tokens, width = out.shape
    if out.is_cuda:
        grid = (tokens, -(-width // _SWIGLU_BLOCK))
        _kernels().swiglu_forward[grid](
            gate_up, out, gate_up.stride(0), out.stride(0), width, block=_SWIGLU_BLOCK, num_warps=8
        )
        return
    gate, up = gate_up[:, :width], gate_up[:, width:]
    out.copy_(torch.nn.functional.silu(gate) * up)


def swiglu_backward(gate_up: torch.Tensor, grad: torch.Tensor) -> None:
    """In place: `gate_up` becomes its gradient, and `grad`, the gradient of the output, becomes the output again."""
    tokens, width = grad.shape
    if grad.is_cuda:
        grid = (tokens, -(-width // _SWIGLU_BLOCK))
        _kernels().swiglu_backward[grid](
            gate_up, grad, gate_up.stride(0), grad.stride(0), width, block=_SWIGLU_BLOCK, num_warps=8
        )
        return
    gate, up, dy = gate_up[:, :width].float(), gate_up[:, width:].float(), grad.float()
    sigmoid = torch.sigmoid(gate)
    silu = gate * sigmoid
    of_gate, of_up, output = dy * up * sigmoid * (1 + gate - silu), dy * silu, silu * up
    gate_up[:, :width] = of_gate
    gate_up[:, width:] = of_up
    grad.copy_(output)


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, divisor: torch.Tensor) -> torch.Tensor:
    """Returns the loss of each row, (rows,) float32 nats; `logits` becomes its gradient, divided by `divisor`.

    `targets` is (rows,) int64, each a column of `logits`; `divisor` a float32 tensor with one element, so that nothing
    waits for its value.
    """
    if logits.is_cuda:
        losses = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
        _kernels().cross_entropy[(len(logits),)](
            logits, targets, losses, divisor, logits.stride(0), logits.shape[1], block=_VOCABULARY_BLOCK, num_warps=16
        )
        return losses
    rows = torch.arange(len(targets))
    logs = torch.log_softmax(logits.float(), 1)
    slope = logs.exp()
    slope[rows, targets] -= 1
    logits.copy_(slope / divisor)
    return -logs[rows, targets]
