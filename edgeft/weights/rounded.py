"""A base as a 4-bit model holds it: rounded to the values that training computed with."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch

from edgeft.artifacts import plain_name
from edgeft.weights.checkpoint import BaseWeights, TensorSpec
from edgeft.weights.computing import Computing


class RoundedWeights:
    """A base whose tensors `names` are put through `rounded`, which takes and returns a whole matrix, float32.

    The result has the base's dtype. `device` is where it computes: see `Computing`. The fingerprint is that of the
    base itself: it is the same base.
    """

    def __init__(
        self,
        base: BaseWeights,
        names: Collection[str],
        rounded: Callable[[torch.Tensor], torch.Tensor],
        device: str = "cpu",
    ) -> None:
        self._base = base
        # bitsandbytes 0.50 quantizes on CUDA's default stream, whatever the current one is: on another, before the
        # weights were there, 85% of the values came out wrong.
        self._computing = Computing(device, on_streams=False)
        self._names = frozenset(names)
        self._rounded = rounded
        self.specs: dict[str, TensorSpec] = base.specs
        self.tied = base.tied

    def read(self, name: str) -> torch.Tensor:
        """Returns one tensor, rounded where it is one of those."""
        tensor = self._base.read(name)
        return self._computing.run(tensor, self._rounded, tensor.dtype) if self._is_rounded(name) else tensor

    def _is_rounded(self, name: str) -> bool:
        return plain_name(name) in self._names

    def read_rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Returns some rows of one tensor."""
        return self.read(name)[start:stop]

    def whole(self, name: str) -> bool:
        """Returns whether a tensor has to be rounded whole: its scales are quantized together."""
        return self._is_rounded(name) or self._base.whole(name)

    def fingerprint(self) -> str:
        """Returns the base's own."""
        return self._base.fingerprint()
