"""Weights as a stream of named tensors: a checkpoint, or a checkpoint with an adapter folded in on the way.

Both give names, shapes and dtypes without reading a weight, and then one tensor at a time, so that nothing that
consumes them (merge, convert) ever holds a whole model.
"""

from edgeft.weights.checkpoint import BaseWeights, CheckpointWeights, TensorSpec, Weights
from edgeft.weights.merged import MergedWeights
from edgeft.weights.rounded import RoundedWeights
from edgeft.weights.whole import WholeWeights

TunedWeights = MergedWeights | WholeWeights
"""What a training has made of a base: an adapter folded in, or a whole checkpoint."""

__all__ = [
    "BaseWeights",
    "CheckpointWeights",
    "MergedWeights",
    "RoundedWeights",
    "TensorSpec",
    "TunedWeights",
    "Weights",
    "WholeWeights",
]
