"""How long a training takes: the products with frozen weights, at the share of a machine's speed that was measured.

A frozen weight costs a token 4 FLOP: 2 forward, and 2 back to the activations. A layer also takes a least time, in
which its kernels are launched. See "Training throughput" in docs/benchmarks.md, which the shares are from.
"""

from __future__ import annotations

import math

from edgeft.resources.memory import Job, Strategy

_FLOP = 4
_SHARES = {"fast": ((2048, 0.58), (4096, 0.67)), "plain": ((2048, 0.33), (4096, 0.44))}
"""Of the bfloat16 product's rate on an H100, by the width of the model; padded batches go through the plain layers."""
_CPU_SHARE = 0.43
"""Of the float32 product's rate: the embedded base model, padded, one core of an AMD EPYC."""
_LAYER_SECONDS = 0.0072
"""Least time of a layer, forward and back, on CUDA: Qwen3-0.6B waits for its launches, 201 ms a step of 28 layers."""
_RECOMPUTED = 1.32
"""Times longer with recomputation: the fast layers at 8B, 17,034 and 12,903 tokens/s."""


def training_seconds(job: Job, strategy: Strategy, tokens: float, flop_a_second: float) -> float:
    """Returns the estimate for as many tokens, every epoch's, at the machine's rate of a large product."""
    shape = job.shape
    flop = _FLOP * (shape.linear_weights + shape.n_vocab * shape.width) * tokens
    if job.number_bytes > 2:
        seconds = flop / (_CPU_SHARE * flop_a_second)
    else:
        passes = math.ceil(tokens / strategy.tokens)
        launching = passes * shape.n_layers * _LAYER_SECONDS
        seconds = max(flop / (_share(job) * flop_a_second), launching)
    return seconds * (_RECOMPUTED if strategy.recompute else 1)


def _share(job: Job) -> float:
    """Returns the measured share, between the two widths by the logarithm."""
    (low, first), (high, last) = _SHARES["fast" if job.engine == "fast" else "plain"]
    place = math.log2(job.shape.width / low) / math.log2(high / low)
    return first + (last - first) * min(1.0, max(0.0, place))
