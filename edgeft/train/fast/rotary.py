"""Rotary positions (Su et al. 2021) of queries and keys, after their own norms where a model has such (Qwen3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class HeadNorms:
    """RMSNorm weights of one head's queries and keys, each (head_dim,)."""

    query: torch.Tensor
    key: torch.Tensor
    eps: float


@dataclass(frozen=True)
class Heads:
    """How a row of queries, keys and values divides: `n_query` heads, then `n_kv`, then `n_kv`, each `dim` wide."""

    n_query: int
    n_kv: int
    dim: int
    norms: HeadNorms | None = None

    @property
    def n_rotated(self) -> int:
        """Query and key heads."""
        return self.n_query + self.n_kv

    def split(self, row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns views: queries (tokens, n_query, dim), keys and values (tokens, n_kv, dim)."""
        parts = torch.split(row, [self.n_query * self.dim, self.n_kv * self.dim, self.n_kv * self.dim], 1)
        query, key, value = (part.view(len(row), -1, self.dim) for part in parts)
        return query, key, value


def rotate(qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, heads: Heads) -> torch.Tensor | None:
    """Normalizes and rotates queries and keys in place.

    `qkv` is (tokens, width), `cos` and `sin` (tokens, dim) with equal halves. Returns the heads' 1 / rms, (tokens,
    n_rotated) float32, where they have norms.
    """
    norms = heads.norms
    shape = (len(qkv), heads.n_rotated)
    rstd = None if norms is None else torch.empty(shape, dtype=torch.float32, device=qkv.device)
    if qkv.is_cuda:
        weights = (qkv, qkv) if norms is None else (norms.query, norms.key)
        _kernels().rope_forward[(len(qkv),)](
            qkv, cos, sin, *weights, qkv if rstd is None else rstd, qkv.stride(0), cos.stride(0), heads.n_query,
            heads.n_rotated, 0.0 if norms is None else norms.eps, normed=norms is not None, half=heads.dim // 2,
            block=_next_power_of_two(heads.n_rotated), num_warps=8,
        )  # fmt: skip
        return rstd
    rotated = qkv[:, : heads.n_rotated * heads.dim].view(len(qkv), -1, heads.dim)
    values = rotated.float()
    if norms is not None and rstd is not None:
        rstd.copy_(torch.rsqrt(values.square().mean(2) + norms.eps))
        values = values * rstd[:, :, None] * _weights(heads, norms)
    rotated.copy_(_turned(values, cos.float(), sin.float()))
    return rstd


def rotate_backward(
    grads: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    rstd: torch.Tensor | None,
    heads: Heads,
    out: torch.Tensor,
) -> None:
    """Writes the gradient of the row that `rotate` was given to `out`, from those of queries, keys and values."""
    dq, dk, dv = (grad.contiguous() for grad in grads)
    norms = heads.norms
    if out.is_cuda:
        weights = (qkv, qkv) if norms is None else (norms.query, norms.key)
        _kernels().rope_backward[(len(out),)](
            dq, dk, dv, qkv, cos, sin, *weights, qkv if rstd is None else rstd, out, qkv.stride(0), out.stride(0),
            cos.stride(0), heads.n_query, heads.n_kv, normed=norms is not None, half=heads.dim // 2,
            block=_next_power_of_two(heads.n_query + 2 * heads.n_kv), num_warps=8,
        )  # fmt: skip
        return
    width = heads.n_rotated * heads.dim
    grad = _turned(torch.cat((dq, dk), 1).float(), cos.float(), -sin.float())
    if norms is not None and rstd is not None:
        weight = _weights(heads, norms)
        normed = _turned(qkv[:, :width].view(len(qkv), -1, heads.dim).float(), cos.float(), -sin.float())
        grad = rstd[:, :, None] * (grad * weight - normed / weight * (grad * normed).mean(2, keepdim=True))
    out[:, :width] = grad.flatten(1)
    out[:, width:] = dv.flatten(1)


def _weights(heads: Heads, norms: HeadNorms) -> torch.Tensor:
    rows = [norms.query] * heads.n_query + [norms.key] * heads.n_kv
    return torch.stack(rows).float()


def _turned(values: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    low, high = values.chunk(2, 2)
    return values * cos[:, None] + torch.cat((-high, low), 2) * sin[:, None]


def _next_power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _kernels() -> Any:
    from edgeft.train.fast import triton_kernels

    return triton_kernels
