"""How far rounding to a type may move a weight: the step of the weight's own block.

A type rounds blocks of weights to a grid of its own each, whose step goes with the block's largest weight. Rounding
errors are spread evenly over a step (Widrow and Kollar 2008, Quantization Noise), so their variance is step^2 / 12. The
step is read off the block as it lies in the file, and so no weight of the reference is needed. On SmolLM2-135M,
Gemma 3 270M and 12 types, with and without an importance matrix, no cell of 256 weights in some 3 million was further
off than 5.1 standard deviations of this model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from gguf import GGMLQuantizationType

from edgeft.parity.distributions import Floats


@dataclass(frozen=True)
class Grid:
    """The grid of a block of `block` weights: `steps` from zero to its largest weight.

    With `has_minimum` they lead from the smallest weight, or zero, to the largest, or zero. Blocks of a `super_block`
    share a scale of their scales, which have `scales` values: where one block's weights are far larger than another's,
    the other's scale is rounded, too. `noise` is the measured variance of rounding over that of the model.
    """

    block: int
    steps: float
    has_minimum: bool = False
    super_block: int = 0
    scales: int = 0
    noise: float = 1.0


# ggml-common.h and ggml-quants.c. Types with a codebook (IQ1 to IQ3) have no even steps: theirs are those that give the
# measured noise.
_GRIDS: Final = {
    "Q8_0": Grid(32, 127),
    "Q5_0": Grid(32, 16),
    "Q4_0": Grid(32, 8),
    "Q5_1": Grid(32, 31, has_minimum=True),
    "Q4_1": Grid(32, 15, has_minimum=True),
    "IQ4_NL": Grid(32, 7, noise=0.6),
    "MXFP4": Grid(32, 4),
    "NVFP4": Grid(16, 4),
    "Q6_K": Grid(16, 32, super_block=256, scales=127, noise=0.75),
    "Q5_K": Grid(32, 31, has_minimum=True, super_block=256, scales=63, noise=0.6),
    "Q4_K": Grid(32, 15, has_minimum=True, super_block=256, scales=63, noise=0.6),
    "Q3_K": Grid(16, 4, super_block=256, scales=31),
    "Q2_K": Grid(16, 3, has_minimum=True, super_block=256, scales=15, noise=0.8),
    "IQ4_XS": Grid(32, 7, super_block=256, scales=31, noise=0.55),
    "IQ3_S": Grid(32, 4, super_block=256, scales=15, noise=0.75),
    "IQ3_XXS": Grid(32, 4, super_block=256, scales=15),
    "IQ2_S": Grid(16, 1.7, super_block=256, scales=15),
    "IQ2_XS": Grid(16, 1.7, super_block=256, scales=15),
    "IQ2_XXS": Grid(32, 1.7, super_block=256, scales=15),
    "IQ1_S": Grid(32, 0.9, super_block=256, scales=7),
    "IQ1_M": Grid(16, 0.9, super_block=256, scales=7),
    "TQ1_0": Grid(256, 0.6),
    "TQ2_0": Grid(256, 0.6),
}
_FLOATING: Final = {"F64": 2.0**-24, "F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}
"""Steps of floating types, of a weight's own size: at most so much, as every mantissa begins with a 1."""
_CODED_FROM: Final = 2.0**-8
"""A quantized file is often made from one in bfloat16, whose rounding it keeps."""

_MOST_ROUNDING: Final = {
    **{"F64": 1e-5, "F32": 1e-5, "F16": 1e-3, "BF16": 6e-3, "Q8_0": 0.02, "Q6_K": 0.06},
    **{"Q5_K": 0.12, "Q5_0": 0.12, "Q5_1": 0.12, "Q4_K": 0.22, "Q4_0": 0.25, "Q4_1": 0.22, "IQ4_NL": 0.22},
    **{"IQ4_XS": 0.22, "MXFP4": 0.3, "NVFP4": 0.3, "Q3_K": 0.4, "IQ3_S": 0.4, "IQ3_XXS": 0.45},
    # Weights that were not trained to be three values are at 0.81: the budget tells what it costs.
    **{"TQ1_0": 0.95, "TQ2_0": 0.95},
}
_MOST_OF_OTHERS: Final = 0.7
"""For types of 2 bits and less. Weights that are others altogether are at sqrt(2), weights that are zero at 1."""


def most_rounding(kind: GGMLQuantizationType) -> float:
    """Returns the largest relative error of a tensor that rounding explains: two to three times the measured one."""
    return _MOST_ROUNDING.get(kind.name, _MOST_OF_OTHERS)


def is_floating(kind: GGMLQuantizationType) -> bool:
    """Returns whether weights of a type are rounded one by one, without a block's scale."""
    return kind.name in _FLOATING


def rounding_variances(weights: Floats, kind: GGMLQuantizationType) -> Floats:
    """Returns the variance of rounding of each of the dequantized weights, whole blocks of a file, flat, float32."""
    if kind.name in _FLOATING:
        return (weights * np.float32(_FLOATING[kind.name])) ** 2 / np.float32(12)
    grid = _GRIDS.get(kind.name)
    if grid is None or weights.size % (grid.super_block or grid.block):
        # Unknown: no more than the tensor's own size, so that nothing is called damaged for its rounding.
        return np.full(weights.size, np.mean(weights**2), dtype=np.float32)
    blocks = weights.reshape(-1, grid.block)
    largest, smallest = np.maximum(blocks.max(axis=1), 0), np.minimum(blocks.min(axis=1), 0)
    reach = largest - smallest if grid.has_minimum else np.maximum(largest, -smallest)
    squares = (reach / np.float32(grid.steps)) ** 2
    if grid.scales:
        together = reach.reshape(-1, grid.super_block // grid.block)
        squares += np.repeat((together.max(axis=1) / np.float32(grid.scales)) ** 2, together.shape[1])
    spread = np.repeat(squares * np.float32(grid.noise), grid.block)
    variances: Floats = (spread + (weights * np.float32(_CODED_FROM)) ** 2) / np.float32(12)
    return variances
