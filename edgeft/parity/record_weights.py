"""Checkpoint -> fingerprints of its tensors, one tensor in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from edgeft.parity.fingerprint import Direction, Fingerprint, cell_size, fingerprint
from edgeft.progress import Progress
from edgeft.weights import TunedWeights, Weights

_POWER_ITERATIONS = 6
# Buffers of old checkpoints, which hold no weights.
_NO_WEIGHTS = ("rotary_emb.inv_freq", "attention.masked_bias", "attn.masked_bias")


def fingerprints(weights: Weights, before: Weights | None, progress: Progress) -> Iterator[Fingerprint]:
    """Yields the fingerprint of every tensor, with the direction in which it left what it was `before` training.

    Weights that know what they were merged into tell that themselves: the base may have been rounded for training.
    """
    names = [name for name in weights.specs if not name.endswith(_NO_WEIGHTS)]
    sizes = {name: torch.Size(weights.specs[name].shape).numel() for name in names}
    total = sum(sizes.values())
    for number, name in enumerate(names):
        progress(number, len(names), f"weights: {name}")
        tensor = weights.read(name).float()
        direction = None
        if before is not None and tensor.ndim == 2 and name in before.specs:
            old = _before(weights, before, name)
            direction = _direction(tensor, old) if old.shape == tensor.shape else None
        yield fingerprint(name, tensor.numpy(), cell_size(sizes[name], total), direction)


def _before(weights: Weights, before: Weights, name: str) -> torch.Tensor:
    if isinstance(weights, TunedWeights) and name in weights.adapted:
        return weights.before_and_after(name)[0]
    return before.read(name).float()


def _direction(after: torch.Tensor, before: torch.Tensor) -> Direction | None:
    """Returns the leading singular vectors of the change, by power iteration; None where nothing changed."""
    change = after - before
    if not bool(change.any()):
        return None
    v = torch.randn(change.shape[1], generator=torch.Generator().manual_seed(0))
    for _ in range(_POWER_ITERATIONS):
        u = torch.nn.functional.normalize(change @ v, dim=0)
        v = torch.nn.functional.normalize(u @ change, dim=0)
    # As they are kept, so that what is measured along them is measured along the same vectors again.
    u, v = u.half().float(), v.half().float()
    along = [float(u.double() @ weights.double() @ v.double()) for weights in (before, after)]
    return None if along[0] == along[1] else Direction(u.numpy(), v.numpy(), along[0], along[1])
