"""How much a file may differ from the reference: by its type, and by how many weights the model has."""

from __future__ import annotations

import math
from typing import Final

from edgeft.config import ParityConfig, ParityThresholds
from edgeft.quant_types import NEEDS_IMATRIX, UNQUANTIZED

LLAMA_3_8B_KLD: Final[dict[str, float]] = {
    "Q8_0": 0.001355,
    "Q6_K": 0.005452,
    "Q5_K_M": 0.01076,
    "Q5_K_S": 0.01660,
    "Q5_1": 0.01805,
    "Q5_0": 0.02224,
    "Q4_K_M": 0.03127,
    "IQ4_NL": 0.03574,
    "IQ4_XS": 0.03633,
    "Q4_K_S": 0.04314,
    "Q4_1": 0.07168,
    "Q4_0": 0.07194,
    "Q3_K_L": 0.08718,
    "Q3_K_M": 0.1019,
    "IQ3_M": 0.1025,
    "IQ3_S": 0.1113,
    "IQ3_XS": 0.1387,
    "IQ3_XXS": 0.1836,
    "Q3_K_S": 0.2282,
    "IQ2_M": 0.3260,
    "Q2_K_S": 0.4034,
    "IQ2_S": 0.4392,
    "Q2_K": 0.4451,
    "IQ2_XS": 0.5463,
    "IQ2_XXS": 0.8120,
    "IQ1_M": 1.393,
    "IQ1_S": 2.211,
}
"""Mean KLD of Llama 3 8B on WikiText-2, nats (llama.cpp, tools/perplexity/README.md, its revision f364eb6f).

Without an importance matrix, but for the IQ types and Q2_K_S, which it has only with one.
"""

_LIKE: Final[dict[str, str]] = {"MXFP4_MOE": "Q4_0", "NVFP4": "Q4_0", "Q5_K_M": "Q5_1", "Q5_K_S": "Q5_1"}
"""Types that are taken for another: two that were not measured, and Q5_K, since rows that are no multiple of 256 long
become Q5_1, which loses more (SmolLM2's Q5_K_M file 0.091). Any other type that is unknown: Q4_K_M."""
_WITHOUT_IMATRIX: Final = 1.35
"""Times what a type loses without an importance matrix (upstream: Q4_K_S 1.35, Q2_K 1.34, Q3_K_M 1.21)."""

LLAMA_3_8B_WEIGHTS: Final = 8.03e9
FEWEST_WEIGHTS: Final = 1.35e8
"""SmolLM2's. The embedded model of 9.4 million has the same budgets: it loses 2.5 to 8.5 times what Llama 3 8B does."""
_SMALL_KLD: Final = 4.5
"""Times what Llama 3 8B loses, for the fewest weights: between, a power of the number of weights."""
ABOVE_HEALTHY: Final = 2.5
"""Times what a healthy model of the size loses, as `healthy_kld` has it, that a file may lose."""
_MAX_KLD: Final = 2.0
"""Nats beyond which no file is called healthy, whatever its type."""

# Another top token at up to 0.55 KLD^0.44 of the positions in the files of small models that were measured, in those of
# Llama 3 8B at 0.41 KLD^0.44, from Q8_0 to Q2_K.
_OTHER_TOP: Final = (0.55, 0.44)
# Noise moves the logarithm of the perplexity by up to 0.42 sqrt(KLD), up or down, and rounding raises it by up to
# 1.3 KLD. Both of a healthy file's KLD, which is 0.4 of what is allowed.
_LOG_PPL: Final = (0.3, 0.6)

_BF16: Final = ParityThresholds(mean_kld=5e-3, top1=0.9, ppl_ratio=1.02)
"""llama.cpp rounds activations to bfloat16 where weights are: a mean KLD of 5e-4 and more without any fault."""


def healthy_kld(type_name: str, n_weights: int) -> float:
    """Returns the mean KLD in nats that a healthy file of a type is expected to have, for a model of so many weights.

    Upstream's figure for 8 billion weights, and more by a power of the size for fewer. Models beyond the largest and
    the smallest that were measured are taken for these.
    """
    known = LLAMA_3_8B_KLD.get(_LIKE.get(type_name, type_name), LLAMA_3_8B_KLD["Q4_K_M"])
    if type_name.startswith("IQ") and type_name not in NEEDS_IMATRIX:
        known *= _WITHOUT_IMATRIX
    counted = min(max(n_weights, FEWEST_WEIGHTS), LLAMA_3_8B_WEIGHTS)
    smaller = math.log(LLAMA_3_8B_WEIGHTS / counted) / math.log(LLAMA_3_8B_WEIGHTS / FEWEST_WEIGHTS)
    return float(known * _SMALL_KLD**smaller)


def budget(type_name: str, n_weights: int) -> ParityThresholds:
    """Returns what a quantized file of a type may lose, for a model of so many weights: see docs/parity.md.

    The mean KLD is a multiple of what is healthy. The two others follow from it, as both grow with it in every model
    that was measured.
    """
    kld = min(ABOVE_HEALTHY * healthy_kld(type_name, n_weights), _MAX_KLD)
    factor, power = _OTHER_TOP
    noise, rise = _LOG_PPL
    return ParityThresholds(
        mean_kld=_two_digits(kld),
        top1=round(max(1 - factor * kld**power, 0.0), 2),
        ppl_ratio=round(math.exp(noise * math.sqrt(kld) + rise * kld), 2),
    )


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def thresholds_for(type_name: str, n_weights: int, config: ParityConfig) -> ParityThresholds:
    """Returns a file's thresholds: the configuration's for its type, those for all quantized files, or a budget."""
    if type_name in config.thresholds:
        return config.thresholds[type_name]
    if type_name == "BF16":
        return _BF16
    if type_name in UNQUANTIZED:
        return config.conversion
    return config.quantization or budget(type_name, n_weights)


def allowed_ranges(limits: ParityThresholds) -> dict[str, list[float]]:
    """Returns what is allowed of each figure, lowest and highest, by its key in the JSON."""
    return {
        "mean_kld": [0.0, limits.mean_kld],
        "top1": [limits.top1, 1.0],
        "ppl_ratio": [1 / limits.ppl_ratio, limits.ppl_ratio],
    }
