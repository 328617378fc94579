"""What lies inside adapted 4-bit layers, and the registration of attention: what fused layers need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch

if TYPE_CHECKING:
    from bitsandbytes.functional import QuantState


@dataclass(frozen=True)
class AdaptedLinear:
    """A linear layer in double-quantized NF4 with its adapter, as the tensors that a fused computation needs.

    Attributes:
        parameter: bitsandbytes' own, of which `packed` is the values.
        packed: two 4-bit codes a byte, the first in the high half; (bytes, 1) uint8.
        state: bitsandbytes' description of `packed`, double-quantized scales in it.
        shape: (n_out, n_in).
        bias: (n_out,), or None.
        a: (rank, n_in) parameter, or None when the layer is not a target.
        b: (n_out, rank) parameter, or None.
        scaling: what B A x is multiplied by.
    """

    parameter: torch.nn.Parameter
    packed: torch.Tensor
    state: QuantState
    shape: tuple[int, int]
    bias: torch.Tensor | None
    a: torch.nn.Parameter | None
    b: torch.nn.Parameter | None
    scaling: float

    @property
    def rank(self) -> int:
        """Rank of the adapter, 0 without one."""
        return 0 if self.a is None else int(self.a.shape[0])

    def dequantize(self) -> torch.Tensor:
        """Returns the weights, (n_out, n_in), in the type that the model computes in."""
        from bitsandbytes.functional import dequantize_4bit

        return cast(torch.Tensor, dequantize_4bit(self.packed, self.state)).reshape(self.shape)


def adapted_linear(module: torch.nn.Module) -> AdaptedLinear | None:
    """Returns the tensors of such a layer, with a plain LoRA adapter or without one; None for any other layer."""
    from bitsandbytes.nn import Linear4bit
    from peft.tuners.lora import LoraLayer

    base = module.base_layer if isinstance(module, LoraLayer) else module
    state = base.weight.quant_state if isinstance(base, Linear4bit) else None
    if not isinstance(base, Linear4bit) or state is None or not state.nested or state.quant_type != "nf4":
        return None
    a = b = None
    scaling = 0.0
    if isinstance(module, LoraLayer):
        (name,) = module.active_adapters
        plain = not module.lora_variant and not module.merged and not module.lora_bias[name]
        if not plain or not isinstance(module.lora_dropout[name], torch.nn.Identity):
            return None
        a, b, scaling = module.lora_A[name].weight, module.lora_B[name].weight, float(module.scaling[name])
    return AdaptedLinear(base.weight, base.weight.data, state, tuple(state.shape), base.bias, a, b, scaling)


def register_attention(name: str, attention: Callable[..., tuple[torch.Tensor, None]]) -> None:
    """Makes an attention function known to every model by a name; such a model builds no attention mask."""
    from transformers import AttentionInterface

    AttentionInterface.register(name, attention)
