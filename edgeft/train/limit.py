"""How fast a GPU could train if it did nothing but the products with the model's weights."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import cast

import torch

_SIDE = 8192
_WARM_UP, _TIMED = 10, 20


@dataclass(frozen=True)
class Limit:
    """`flop_a_second` of a large product on all GPUs, `flop_a_token` of all products with weights, forward and back."""

    flop_a_second: float
    flop_a_token: float

    def share(self, tokens_per_second: float) -> float:
        """Returns the share of the limit that a speed reaches."""
        return tokens_per_second * self.flop_a_token / self.flop_a_second


def measure_limit(model: torch.nn.Module, gpus: int) -> Limit | None:
    """Measures a square bfloat16 product for a fraction of a second, on one of `gpus`; None where there is no CUDA."""
    if not torch.cuda.is_available() or next(model.parameters()).device.type != "cuda":
        return None
    limit = Limit(gpus * matmul_rate(), flop_a_token(model))
    torch.cuda.empty_cache()  # the training needs the room
    return limit


def flop_a_token(model: torch.nn.Module) -> float:
    """Returns the FLOP that a model's linear layers cost a token.

    2 for each weight going forward, 2 going back to the input, and 2 more for the gradient of a weight that is trained.
    The low-rank matrices of adapters, one or two percent, are left out.
    """
    total = 0.0
    for name, module in model.named_modules():
        if hasattr(module, "in_features") and not hasattr(module, "base_layer") and ".lora_" not in name:
            weight = cast(torch.Tensor, module.weight)
            total += (6 if weight.requires_grad else 4) * float(module.in_features) * float(module.out_features)
    return total


def matmul_rate() -> float:
    """Returns the FLOP/s of a square bfloat16 product on CUDA, the median after warming up."""
    a, b = (torch.randn(_SIDE, _SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for step in range(_WARM_UP + _TIMED):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        torch.mm(a, b)
        end.record()
        end.synchronize()
        if step >= _WARM_UP:
            seconds.append(start.elapsed_time(end) / 1000)
    return float(2 * _SIDE**3 / statistics.median(seconds))
