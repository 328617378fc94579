"""Checkpoint -> fingerprints of its tensors, one tensor in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from edgeft.llamacpp.blocks import PLAIN_TYPES, block_columns, dequantize_rows, quantize_rows
from edgeft.parity.distributions import Doubles
from edgeft.parity.fingerprint import EXPECTED_SCALES, Direction, Fingerprint, cell_size, fingerprint
from edgeft.progress import Progress
from edgeft.weights import TunedWeights, Weights

_POWER_ITERATIONS = 6
_GRID_BLOCK = 16
_GRID_STEPS = 64
"""Values that a block of 16 weights of a quantized file lies among, at most (Q6_K). Of 16 weights that lie anywhere,
two are nearer to one another than a 64th of their range in 98 blocks of 100."""
_MOST_BLOCKS = 4096
_SAMPLED_WEIGHTS = 1 << 20
"""Weights of all trained tensors that are rounded to every type: some 4 s of one core, whatever the model."""
_LEAST_ROWS = 4
# Buffers of old checkpoints, which hold no weights.
_NO_WEIGHTS = ("rotary_emb.inv_freq", "attention.masked_bias", "attn.masked_bias")


class ExpectedShares:
    """What rounding to each type leaves of the training, measured with ggml's own quantizer on a sample of rows.

    Of each tensor the rows are taken that the change's leading direction moves most. At each of `EXPECTED_SCALES` the
    change is added, both are rounded, and what is between them along the direction is held to the change.
    """

    def __init__(self) -> None:
        self._left: dict[str, Doubles] = {}
        self._whole: dict[str, float] = {}

    def add(self, before: torch.Tensor, after: torch.Tensor, direction: Direction, n_tensors: int) -> None:
        """Adds a tensor, one of so many that training changed."""
        width = before.shape[1]
        count = max(_LEAST_ROWS, _SAMPLED_WEIGHTS // (n_tensors * width))
        rows = np.sort(np.argsort(-np.abs(direction.u))[:count])
        u, v = direction.u[rows].astype(np.float64), direction.v.astype(np.float64)
        old = np.ascontiguousarray(before.numpy()[rows])
        change = after.numpy()[rows] - old
        along, rms = float(u @ change.astype(np.float64) @ v), float(np.sqrt(np.mean(old.astype(np.float64) ** 2)))
        if not along or not rms or not np.isfinite(along):
            return
        for kind in PLAIN_TYPES:
            if width % block_columns(kind):
                continue
            start = _rounded(old, kind)
            left = [
                float(u @ (_rounded(old + np.float32(scale) * change, kind).astype(np.float64) - start) @ v)
                for scale in EXPECTED_SCALES
            ]
            weight = along / rms**2
            self._left[kind] = self._left.get(kind, np.zeros(len(EXPECTED_SCALES))) + weight * np.array(left)
            self._whole[kind] = self._whole.get(kind, 0.0) + weight * along

    def result(self) -> dict[str, list[float]]:
        """Returns the shares by the type's name, weighted as a check weighs them: by what their noise would be."""
        return {kind: (left / self._whole[kind]).tolist() for kind, left in sorted(self._left.items())}


def _rounded(weights: npt.NDArray[np.float32], kind: str) -> npt.NDArray[np.float32]:
    return dequantize_rows(quantize_rows(weights, kind), kind, weights.shape[1])


def fingerprints(
    weights: Weights, before: Weights | None, progress: Progress, expected: ExpectedShares | None = None
) -> Iterator[Fingerprint]:
    """Yields the fingerprint of every tensor, with the direction in which it left what it was `before` training.

    Weights that know what they were merged into tell that themselves: the base may have been rounded for training.
    Trained tensors are added to `expected`.
    """
    names = [name for name in weights.specs if not name.endswith(_NO_WEIGHTS)]
    sizes = {name: torch.Size(weights.specs[name].shape).numel() for name in names}
    total = sum(sizes.values())
    n_trained = len(weights.adapted) if isinstance(weights, TunedWeights) else len(names)
    for number, name in enumerate(names):
        progress(number, len(names), f"weights: {name}")
        tensor = weights.read(name).float()
        direction = None
        if before is not None and tensor.ndim == 2 and name in before.specs:
            old = _before(weights, before, name)
            direction = change_direction(tensor, old) if old.shape == tensor.shape else None
            if direction is not None and expected is not None:
                expected.add(old, tensor, direction, n_trained)
        yield fingerprint(name, tensor.numpy(), cell_size(sizes[name], total), direction)


def _before(weights: Weights, before: Weights, name: str) -> torch.Tensor:
    if isinstance(weights, TunedWeights) and name in weights.adapted:
        return weights.before_and_after(name)[0]
    return before.read(name).float()


def change_direction(after: torch.Tensor, before: torch.Tensor) -> Direction | None:
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
    if along[0] == along[1]:
        return None
    return Direction(u.numpy(), v.numpy(), along[0], along[1], is_coarse(before))


def is_coarse(weights: torch.Tensor) -> bool:
    """Returns whether weights (rows, columns) lie on a grid, block by block, as those of a quantized file do."""
    whole = weights.shape[1] // _GRID_BLOCK * _GRID_BLOCK
    blocks = weights[:, :whole].reshape(-1, _GRID_BLOCK)
    if not len(blocks):
        return False
    ordered = blocks[:: max(1, len(blocks) // _MOST_BLOCKS)].sort(dim=1).values
    gaps = ordered.diff(dim=1)
    reach = ordered[:, -1:] - ordered[:, :1]
    # Equal weights are no gap; a file's values differ from whole steps in their last bits.
    apart = (gaps <= 1e-4 * reach) | (gaps >= 0.98 * reach / _GRID_STEPS)
    return bool(apart.all(dim=1).float().mean() > 0.5)
