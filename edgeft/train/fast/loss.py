"""The loss of the trained tokens, straight from the hidden states: the logits of all tokens never exist together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

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


@dataclass(frozen=True)
class LogitShape:
    """What some families do to the output layer's result: Granite and Cohere scale it, Gemma 2 caps it softly."""

    scale: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, config: Any) -> LogitShape:
        """Reads a model's configuration."""
        scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1)
        return cls(scale, getattr(config, "final_logit_softcapping", None))

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns the logits that probabilities are made of, float32."""
        logits = logits.float() * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


def plain_cross_entropy(
    hidden: torch.Tensor,
    head: torch.nn.Module,
    shape: LogitShape,
    places: torch.Tensor,
    targets: torch.Tensor,
    divisor: torch.Tensor,
) -> torch.Tensor:
    """The same for an output layer of any kind, adapted and trained ones too; backward, logits are computed again."""
    losses = []
    for start in range(0, max(1, len(targets)), LOGITS_ROWS):
        rows = slice(start, start + LOGITS_ROWS)
        chunk = hidden.index_select(0, places[rows])
        losses.append(checkpoint(_chunk_loss, chunk, head, shape, targets[rows], use_reentrant=False))
    loss = torch.stack(losses).sum() / divisor.squeeze()
    assert isinstance(loss, torch.Tensor)
    return loss


def _chunk_loss(hidden: torch.Tensor, head: torch.nn.Module, shape: LogitShape, targets: torch.Tensor) -> torch.Tensor:
    with torch.autocast(hidden.device.type, torch.bfloat16, enabled=hidden.is_cuda):
        logits = head(hidden)
    return torch.nn.functional.cross_entropy(shape.apply(logits), targets, reduction="sum")
