"""How much of what training changed is in a file, and whether less than that is a fault or what rounding took.

The reference has, of each trained tensor, the leading singular vectors u and v of the change: u' W v tells how much of
it is in W. Rounding adds noise of a known size (`edgeft.parity.rounding`), so a share comes with its standard
deviation. Of one tensor it may be large; of a layer's tensors and of all of them together it is small, as rounding
errors are independent of one another. A fault is claimed of what decides: a tensor alone, its layer, or the file,
whichever is six standard deviations away from everything that a correct export could hold. Among hundreds of tensors
chance does that once in a million files.

A correct export holds less than all of the change where the weights before training lie on the type's own grid, as
those that were made of a quantized file do: rounding leads back to where they were. `Compared.taken_back` bounds that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgeft.parity.file_tensors import Compared, Share
from edgeft.parity.ladder import Failure, listed

_TOLERANCE: Final = 0.2
"""A correct export's share is so near to 1, but for noise: types of 4 bits were measured to take up to 0.09 of it."""
_COARSE_TOLERANCE: Final = 0.35
"""The same of a single layer whose weights lay on another grid before: down to 0.68 in Q5_1 of weights made of Q4_1."""
_DEVIATIONS: Final = 6.0
_MOST_OF_TENSORS: Final = 0.5
_LITTLE: Final = 0.8
"""Below this share of the training a file warns."""
_LAYER = re.compile(r"blk\.\d+\.")


@dataclass(frozen=True)
class _Pooled:
    """A share over several tensors: its mean, the mean's standard deviation, and the most that rounding took back."""

    share: float
    deviation: float
    taken_back: float
    tolerance: float = _TOLERANCE

    @property
    def is_wrong(self) -> bool:
        """Whether no correct export is within six standard deviations."""
        low, high = self.share - _DEVIATIONS * self.deviation, self.share + _DEVIATIONS * self.deviation
        return high < 1 - self.taken_back - self.tolerance or low > 1 + self.tolerance

    def holds(self, one: Share) -> bool:
        """Returns whether a tensor's own share is this one, as far as its noise tells."""
        return abs(one.share - self.share) <= _TOLERANCE + _DEVIATIONS * one.noise

    @property
    def is_whole(self) -> bool:
        """Whether it is none of the change, or twice all of it: what forgetting or repeating a merge gives."""
        return abs(self.share) <= _TOLERANCE or abs(self.share - 2) <= _TOLERANCE

    @property
    def cause(self) -> str:
        """What such a share is."""
        if abs(self.share) <= _TOLERANCE:
            return "the adapter is not merged: these are the base model's weights"
        if abs(self.share - 2) <= _TOLERANCE:
            return "the adapter is merged twice"
        return f"the adapter is merged at {self.share:.1f} of its scale"


class TrainingShares:
    """The share of the training in each tensor of a file, alone and together."""

    def __init__(self, compared: Sequence[Compared]) -> None:
        self._trained = [(one, one.share) for one in compared if one.share is not None and np.isfinite(one.share.share)]
        layers: dict[str, list[tuple[Compared, Share]]] = {}
        for one, share in self._trained:
            layers.setdefault(_layer(one), []).append((one, share))
        self._layers = {
            layer: _pooled(members, _COARSE_TOLERANCE if any(share.coarse for _, share in members) else _TOLERANCE)
            for layer, members in layers.items()
        }
        self._all = _pooled(self._trained) if self._trained else None
        self._all_hold = self._all is not None and self._is_held(self._all)

    def fault(self, one: Compared) -> str | None:
        """Returns what is wrong with the training in a tensor; None where nothing is, or nothing can be said."""
        if self._all is None or one.share is None or not np.isfinite(one.share.share):
            return None
        if self._all.is_wrong and self._all_hold and self._all.holds(one.share):
            return self._all.cause
        layer = self._layers[_layer(one)]
        if layer.is_wrong and layer.holds(one.share):
            return layer.cause
        alone = _pooled([(one, one.share)])
        # One tensor alone at half its scale is no fault that exports have, and a grid may well do it.
        return alone.cause if alone.is_wrong and alone.is_whole and not one.share.coarse else None

    def is_alone(self, one: Compared) -> bool:
        """Returns whether a fault of a tensor is its own, and not that of its layer or of the file."""
        return not any(pooled is not None and pooled.is_wrong for pooled in (self._all, self._layers.get(_layer(one))))

    def _is_held(self, pooled: _Pooled) -> bool:
        """Returns whether most tensors have this share, as far as their noise tells."""
        return float(np.mean([pooled.holds(share) for _, share in self._trained])) >= _MOST_OF_TENSORS

    @property
    def _unresolved(self) -> list[Compared]:
        """The tensors of which their own share cannot tell whether the training is in them."""
        return [one for one, share in self._trained if not _Pooled(0.0, share.noise, one.taken_back).is_wrong]

    def figures(self) -> dict[str, Any]:
        """Returns the share of the whole training with its 95% interval, by the size of what was changed."""
        if not self._trained:
            return {"adapter_share": None}
        sizes = np.array([share.size for _, share in self._trained]) ** 2
        shares = np.array([share.share for _, share in self._trained])
        noises = np.array([share.noise for _, share in self._trained])
        mean = float((sizes * shares).sum() / sizes.sum())
        half = 1.96 * float(np.sqrt((sizes**2 * noises**2).sum()) / sizes.sum())
        return {
            "adapter_share": mean,
            "adapter_share_low": mean - half,
            "adapter_share_high": mean + half,
            "adapter_tensors": len(self._trained),
            "adapter_unresolved": len(self._unresolved),
        }

    def warnings(self) -> Iterator[Failure]:
        """Yields what rounding took of the training, where that is much: a matter of quality, and no fault."""
        figures = self.figures()
        if figures["adapter_share"] is None or figures["adapter_share_high"] >= _LITTLE:
            return
        lost = [one for one, share in self._trained if share.share < _LITTLE and one.taken_back > _TOLERANCE]
        if not lost or any(self.fault(one) for one, _ in self._trained):
            return
        types = ", ".join(sorted({one.info.type.name for one in lost}))
        what = (
            f"rounding took much of the training: {figures['adapter_share']:.0%} of it is in the file "
            f"({figures['adapter_share_low']:.0%} to {figures['adapter_share_high']:.0%}); the base's weights lie on "
            f"the grid of {types} in {len(lost)} of {len(self._trained)} trained tensors"
        )
        remedy = "choose a larger type, as Q8_0, or one of another grid, as Q4_0 in place of Q4_K_M"
        yield Failure("weights", what, listed([one.names for one in lost]), remedy)


def _layer(one: Compared) -> str:
    match = _LAYER.match(one.info.name)
    return match[0] if match else one.info.name


def _pooled(members: Sequence[tuple[Compared, Share]], tolerance: float = _TOLERANCE) -> _Pooled:
    """Returns the mean of shares, each weighted by the inverse of its variance.

    Its deviation is what the noises let expect, or more where the shares scatter more than that.
    """
    shares = np.array([share.share for _, share in members])
    noises = np.maximum([share.noise for _, share in members], 1e-6)
    weights = noises**-2.0
    total = weights.sum()
    mean = float((weights * shares).sum() / total)
    scatter = float(np.sqrt(np.mean(((shares - mean) / noises) ** 2))) if len(members) > 1 else 1.0
    taken_back = float((weights * [one.taken_back for one, _ in members]).sum() / total)
    return _Pooled(mean, max(1.0, scatter) / float(np.sqrt(total)), taken_back, tolerance)
