"""Each Triton kernel against its plain torch twin: fresh random numbers, room behind the rows, every width."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from edgeft.train.fast import ops
from edgeft.train.fast.attention import Packing, attend
from edgeft.train.fast.loss import linear_cross_entropy
from edgeft.train.fast.rotary import HeadNorms, Heads, rotate, rotate_backward

CUDA = torch.cuda.is_available()
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not CUDA, reason="needs a GPU")])]
TOKENS = 37


def near(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return float((ours.cpu() - theirs).norm() / theirs.norm()) < 1e-5  # float32 sums in another order


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("width", [96, 1024, 3000])
def test_rms_norm(device: str, width: int) -> None:
    """Forward and backward are what autograd makes of the formula."""
    x, grad, residual = (torch.randn(TOKENS, width) for _ in range(3))
    weight = torch.rand(width) + 0.5
    leaf = x.clone().requires_grad_()
    wanted = leaf * torch.rsqrt(leaf.square().mean(1, keepdim=True) + 1e-5) * weight
    wanted.backward(grad)  # type: ignore[no-untyped-call]
    wide = torch.full((TOKENS, width + 32), torch.nan, device=device)
    y, out = wide[:, :width], torch.empty(TOKENS, width, device=device)
    rstd = ops.rms_norm(x.to(device), weight.to(device), 1e-5, y)
    ops.rms_norm_backward(grad.to(device), y, weight.to(device), rstd, residual.to(device), out)
    assert leaf.grad is not None
    assert near(y, wanted.detach())
    assert near(out, leaf.grad + residual)
    assert wide[:, width:].isnan().all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("width", [64, 3000])
def test_swiglu(device: str, width: int) -> None:
    gate_up, grad = torch.randn(TOKENS, 2 * width), torch.randn(TOKENS, width)
    leaf = gate_up.clone().requires_grad_()
    wanted = torch.nn.functional.silu(leaf[:, :width]) * leaf[:, width:]
    wanted.backward(grad)  # type: ignore[no-untyped-call]
    moved, back, out = gate_up.to(device), grad.to(device), torch.empty(TOKENS, width, device=device)
    ops.swiglu(moved, out)
    ops.swiglu_backward(moved, back)
    assert leaf.grad is not None
    assert near(out, wanted.detach())
    assert near(moved, leaf.grad)
    assert near(back, wanted.detach())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("normed", [False, True])
def test_rotary_positions(device: str, normed: bool) -> None:
    dim, width = 16, 10 * 16
    norms = [torch.rand(dim) + 0.5 for _ in range(2)]
    angles = (torch.rand(TOKENS, dim // 2) * 6).repeat(1, 2)
    qkv, grad = torch.randn(TOKENS, width), torch.randn(TOKENS, width)
    leaf = qkv.clone().requires_grad_()
    heads = leaf.view(TOKENS, 10, dim)
    rotated = heads[:, :8]
    if normed:
        rotated = rotated * torch.rsqrt(rotated.square().mean(2, keepdim=True) + 1e-6)
        rotated = rotated * torch.stack([norms[0]] * 6 + [norms[1]] * 2)
    low, high = rotated.chunk(2, 2)
    turned = rotated * angles.cos()[:, None] + torch.cat((-high, low), 2) * angles.sin()[:, None]
    wanted = torch.cat((turned, heads[:, 8:]), 1).flatten(1)
    wanted.backward(grad)  # type: ignore[no-untyped-call]
    layout = Heads(6, 2, dim, HeadNorms(norms[0].to(device), norms[1].to(device), 1e-6) if normed else None)
    row, cos, sin = qkv.to(device), angles.cos().to(device), angles.sin().to(device)
    rstd = rotate(row, cos, sin, layout)
    assert near(row, wanted.detach())
    out = torch.empty_like(row)
    rotate_backward(layout.split(grad.to(device)), row, cos, sin, rstd, layout, out)
    assert leaf.grad is not None
    assert near(out, leaf.grad)


@pytest.mark.parametrize("device", DEVICES)
def test_the_loss_of_the_trained_places(device: str) -> None:
    """More rows than a chunk; the gradient of the rest is zero."""
    hidden, head = torch.randn(5000, 24), torch.randn(700, 24)
    places = torch.randperm(5000)[:4500]
    targets = torch.randint(0, 700, (4500,))
    leaf = hidden.clone().requires_grad_()
    wanted = torch.nn.functional.cross_entropy(leaf[places] @ head.t(), targets, reduction="sum") / 3
    wanted.backward()  # type: ignore[no-untyped-call]
    moved = hidden.to(device).requires_grad_()
    divisor = torch.tensor([3.0], device=device)
    loss = linear_cross_entropy(moved, head.to(device), places.to(device), targets.to(device), divisor)
    loss.backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    assert moved.grad is not None
    assert near(loss.detach(), wanted.detach())
    assert near(moved.grad, leaf.grad)


def test_packed_attention_is_that_of_each_sequence() -> None:
    query, key, value = torch.randn(12, 4, 16), torch.randn(12, 2, 16), torch.randn(12, 2, 16)
    together = attend(query, key, value, Packing(torch.tensor([0, 5, 12], dtype=torch.int32), 7), 0.25)
    alone: Callable[[slice], torch.Tensor] = lambda part: attend(  # noqa: E731
        query[part], key[part], value[part], Packing(torch.tensor([0, part.stop - part.start]), 7), 0.25
    )
    assert torch.equal(together, torch.cat((alone(slice(0, 5)), alone(slice(5, 12)))))
