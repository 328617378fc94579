"""The loss of the trained tokens, straight from the hidden states: the logits of all tokens never exist together."""

from __future__ import annotations

from typing import Any

import torch

from edgeft.resources.memory import LOGITS_ROWS
from edgeft.train.fast import ops


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: torch.Tensor,
        places: torch.Tensor,
        targets: torch.Tensor,
        divisor: torch.Tensor,
    ) -> torch.Tensor:
        losses = []
        grad = torch.zeros_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(targets), LOGITS_ROWS):
            rows = slice(start, start + LOGITS_ROWS)
            logits = hidden.index_select(0, places[rows]) @ head.t()
            losses.append(ops.cross_entropy(logits, targets[rows], divisor))
            if grad is not None:
                grad.index_copy_(0, places[rows], logits @ head)
        ctx.grad = grad
        return torch.cat([*losses, divisor.new_zeros(1)]).sum() / divisor.squeeze()

    @staticmethod
    def backward(ctx: Any, grad_loss: torch.Tensor) -> tuple[Any, ...]:
        grad, ctx.grad = ctx.grad, None
        return grad.mul_(grad_loss.to(grad.dtype)), None, None, None, None


def linear_cross_entropy(
    hidden: torch.Tensor, head: torch.Tensor, places: torch.Tensor, targets: torch.Tensor, divisor: torch.Tensor
) -> torch.Tensor:
    """Returns the summed cross-entropy of `hidden[places] head^T` over `divisor`, a float32 scalar in nats.

    `hidden` is (tokens, width), `head` (n_vocab, width) frozen, `places` and `targets` (n_trained,) int64: the tokens
    that predict a trained one, and the ones they should predict. `divisor` is a float32 tensor with one element. The
    gradient is computed in the forward pass, chunk by chunk.
    """
    loss = _LinearCrossEntropy.apply(hidden, head, places, targets, divisor)  # type: ignore[no-untyped-call]
    assert isinstance(loss, torch.Tensor)
    return loss
