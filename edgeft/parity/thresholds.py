"""How much a file of each type may differ from the reference."""

from __future__ import annotations

from typing import Final

from edgeft.config import ParityConfig, ParityThresholds
from edgeft.quant_types import UNQUANTIZED


def _limits(mean_kld: float, top1: float, ppl_ratio: float) -> ParityThresholds:
    return ParityThresholds(mean_kld=mean_kld, top1=top1, ppl_ratio=ppl_ratio)


_FOUR_BITS = _limits(0.1, 0.85, 1.1)
_THREE_BITS = _limits(0.3, 0.75, 1.3)
_TWO_BITS = _limits(1.0, 0.55, 2.0)
BUDGETS: Final[dict[str, ParityThresholds]] = {
    # llama.cpp rounds activations to bfloat16 where weights are: a mean KLD of 5e-4 and more without any fault.
    "BF16": _limits(5e-3, 0.9, 1.02),
    "Q8_0": _limits(0.01, 0.94, 1.01),
    "Q6_K": _limits(0.02, 0.92, 1.02),
    **dict.fromkeys(("Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0"), _limits(0.04, 0.9, 1.05)),
    **dict.fromkeys(("Q4_K_M", "Q4_K_S", "IQ4_NL", "IQ4_XS"), _FOUR_BITS),
    **dict.fromkeys(("Q4_0", "Q4_1", "MXFP4_MOE", "NVFP4"), _limits(0.2, 0.8, 1.2)),
    **dict.fromkeys(("Q3_K_L", "Q3_K_M", "Q3_K_S", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS"), _THREE_BITS),
    **dict.fromkeys(("Q2_K", "Q2_K_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"), _TWO_BITS),
}
"""Two to seven times what a healthy model loses by llama.cpp's own table (Llama 3 8B, tools/quantize/README.md).

Small models lose more. For other types, four bits' budget holds.
"""


def thresholds_for(type_name: str, config: ParityConfig) -> ParityThresholds:
    """Returns the thresholds of a type: the configuration's for it, its for all quantized files, or the default."""
    if type_name in config.thresholds:
        return config.thresholds[type_name]
    if type_name in UNQUANTIZED and type_name not in BUDGETS:
        return config.conversion
    if config.quantization is not None and type_name not in UNQUANTIZED:
        return config.quantization
    return BUDGETS.get(type_name, _FOUR_BITS)
