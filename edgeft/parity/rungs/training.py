"""How much of what training changed is in a file, and whether less than that is a fault or what rounding took.

The reference has, of each trained tensor, the leading singular vectors u and v of the change: u' W v tells how much of
it is in W. Rounding adds noise of a known size (`edgeft.parity.rounding`), so a share comes with its standard
deviation. Of one tensor it may be large; of a layer's tensors and of all of them together it is small, as rounding
errors are independent of one another.

Rounding leaves the share alone where the weights before training lie anywhere between two values of the grid. Where
they lie on a grid themselves, as those of a quantized file or of a base in NF4 do, it may take the change back or
enlarge it: from 0.05 to 2.6 of it was measured. So the reference also has what each type makes of the change at
several scales, and a share is read off that curve. A fault is claimed of what decides: the file, a layer, or a tensor
alone, whichever is six standard deviations away from everything that a correct export could hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgeft.parity.distributions import Doubles
from edgeft.parity.file_tensors import MEDIAN, Compared, Share
from edgeft.parity.fingerprint import EXPECTED_SCALES
from edgeft.parity.ladder import Failure, listed

_TOLERANCE: Final = 0.2
"""A correct export is so near to scale 1, but for noise: types of 4 bits were measured to take up to 0.09 of it."""
_COARSE_TOLERANCE: Final = 0.35
"""The same where the curve is only nearly the file's own: of a single layer on a grid, or with an importance matrix."""
_TWICE: Final = 0.25
_DEVIATIONS: Final = 6.0
_MOST_OF_TENSORS: Final = 0.5
_LEAST_RESPONSE: Final = 0.25
"""A type that leaves less of the change says nothing of it."""
_LITTLE: Final = 0.8
"""Below this share of the training a file warns."""
_SCALES: Final[Doubles] = np.array([0.0, *EXPECTED_SCALES])
_LAYER = re.compile(r"blk\.\d+\.")


@dataclass(frozen=True)
class _Member:
    """One trained tensor: its share, and the share that a correct file would have of the change at each scale."""

    compared: Compared
    share: Share
    curve: Doubles

    @property
    def tells(self) -> bool:
        """Whether its type keeps enough of a change to tell it from none."""
        return bool(self.curve[2] >= _LEAST_RESPONSE)

    def expected(self, scale: float) -> float:
        """Returns the share of a change that was merged at a scale."""
        return float(_read_off(scale, _SCALES, self.curve))


@dataclass(frozen=True)
class _Pooled:
    """The scale at which a change is in several tensors, with the ends of an interval of six standard deviations."""

    scale: float
    low: float
    high: float
    tolerance: float

    @property
    def is_wrong(self) -> bool:
        """Whether no correct export is within the interval."""
        return self.high < 1 - self.tolerance or self.low > 1 + self.tolerance

    @property
    def is_whole(self) -> bool:
        """Whether it is none of the change, or twice all of it: what forgetting or repeating a merge gives."""
        return abs(self.scale) <= _TOLERANCE or abs(self.scale - 2) <= _TWICE

    def holds(self, one: _Member) -> bool:
        """Returns whether a tensor's own share is what this scale lets expect, as far as its noise tells."""
        return abs(one.share.share - one.expected(self.scale)) <= self.tolerance + _DEVIATIONS * one.share.noise

    @property
    def cause(self) -> str:
        """What such a scale is."""
        if abs(self.scale) <= _TOLERANCE:
            return "the adapter is not merged: these are the base model's weights"
        if abs(self.scale - 2) <= _TWICE:
            return "the adapter is merged twice"
        return f"the adapter is merged at {self.scale:.1f} of its scale"


class TrainingShares:
    """The share of the training in each tensor of a file, alone and together.

    `expected` are the shares that each type leaves of the change at `EXPECTED_SCALES`, by the type's name.
    """

    def __init__(self, compared: Sequence[Compared], expected: Mapping[str, Sequence[float]]) -> None:
        self._trained = {
            id(one): _Member(one, one.share, _curve(one, expected))
            for one in compared
            if one.share is not None and np.isfinite(one.share.share)
        }
        telling = [one for one in self._trained.values() if one.tells]
        layers: dict[str, list[_Member]] = {}
        for one in telling:
            layers.setdefault(_layer(one.compared), []).append(one)
        self._spread = _spread(telling)
        self._all = _pooled(telling, 1.0, _TOLERANCE) if telling else None
        self._layers = {
            layer: _pooled(members, self._spread, _COARSE_TOLERANCE if _is_coarse(members) else _TOLERANCE)
            for layer, members in layers.items()
        }
        self._all_hold = self._all is not None and self._is_held(self._all, telling)

    def fault(self, compared: Compared) -> str | None:
        """Returns what is wrong with the training in a tensor; None where nothing is, or nothing can be said."""
        one = self._trained.get(id(compared))
        if one is None or self._all is None:
            return None
        if self._all.is_wrong and self._all_hold and self._all.holds(one):
            return self._all.cause
        layer = self._layers.get(_layer(compared))
        if layer is not None and layer.is_wrong and layer.holds(one):
            return layer.cause
        if not one.tells or one.share.coarse:
            return None
        alone = _pooled([one], self._spread, _TOLERANCE)
        # One tensor alone at half its scale is no fault that exports have.
        return alone.cause if alone.is_wrong and alone.is_whole else None

    def is_alone(self, one: Compared) -> bool:
        """Returns whether a fault of a tensor is its own, and not that of its layer or of the file."""
        return not any(pooled is not None and pooled.is_wrong for pooled in (self._all, self._layers.get(_layer(one))))

    @staticmethod
    def _is_held(pooled: _Pooled, members: Sequence[_Member]) -> bool:
        """Returns whether most tensors have this share, as far as their noise tells."""
        return float(np.mean([pooled.holds(one) for one in members])) >= _MOST_OF_TENSORS

    def _resolves(self, one: _Member) -> bool:
        """Returns whether a tensor's own share can tell whether the training is in it."""
        return one.tells and one.curve[2] * (1 - _TOLERANCE) > _DEVIATIONS * self._spread * one.share.noise

    def figures(self) -> dict[str, Any]:
        """Returns the share of the whole training with its 95% interval, by the size of what was changed."""
        members = list(self._trained.values())
        if not members:
            return {"adapter_share": None}
        sizes = np.array([one.share.size for one in members]) ** 2
        shares = np.array([one.share.share for one in members])
        noises = np.array([one.share.noise for one in members])
        mean = float((sizes * shares).sum() / sizes.sum())
        half = 1.96 * float(np.sqrt((sizes**2 * noises**2).sum()) / sizes.sum())
        return {
            "adapter_share": mean,
            "adapter_share_low": mean - half,
            "adapter_share_high": mean + half,
            "adapter_tensors": len(members),
            "adapter_unresolved": sum(not self._resolves(one) for one in members),
        }

    def warnings(self) -> Iterator[Failure]:
        """Yields what rounding took of the training, where that is much: a matter of quality, and no fault."""
        figures = self.figures()
        if figures["adapter_share"] is None or figures["adapter_share_high"] >= _LITTLE:
            return
        members = self._trained.values()
        lost = [one for one in members if one.curve[2] < _LITTLE]
        if not lost or any(self.fault(one.compared) for one in members):
            return
        types = ", ".join(sorted({one.compared.info.type.name for one in lost}))
        what = (
            f"rounding took much of the training: {figures['adapter_share']:.0%} of it is in the file "
            f"({figures['adapter_share_low']:.0%} to {figures['adapter_share_high']:.0%}); rounding to {types} leads "
            f"the base's weights back to where they were in {len(lost)} of {len(members)} trained tensors"
        )
        remedy = "choose a larger type, as Q8_0, or one of another grid, as Q4_0 in place of Q4_K_M"
        yield Failure("weights", what, listed([one.compared.names for one in lost]), remedy)


def _layer(one: Compared) -> str:
    match = _LAYER.match(one.info.name)
    return match[0] if match else one.info.name


def _curve(one: Compared, expected: Mapping[str, Sequence[float]]) -> Doubles:
    """Returns the shares at each scale, rising; where they were not recorded, what rounding cannot have taken back."""
    found = expected.get(one.info.type.name)
    known = _SCALES * (1.0 - one.taken_back) if found is None else np.array([0.0, *found])
    rising: Doubles = np.maximum.accumulate(known) + 1e-9 * np.arange(len(known))
    return rising


def _is_coarse(members: Sequence[_Member]) -> bool:
    return any(one.share.coarse or one.compared.weighted for one in members)


def _spread(members: Sequence[_Member]) -> float:
    """Returns how many times as far as their noise the shares lie from what is expected, typically; at least 1."""
    if not members:
        return 1.0
    # The median: a layer without its training must not make all others look as if they scattered.
    scale = float(np.median([_read_off(one.share.share, one.curve, _SCALES) for one in members]))
    off = [abs(one.share.share - one.expected(scale)) / max(one.share.noise, 1e-6) for one in members]
    # The noise of an F16 file is below what other rounding on the way does: it is no measure of scatter.
    floor = [abs(one.share.share - one.expected(scale)) < 0.02 for one in members]
    return max(1.0, float(np.median(np.where(floor, 0.0, off))) / MEDIAN)


def _pooled(members: Sequence[_Member], spread: float, tolerance: float) -> _Pooled:
    """Returns the scale of the mean of shares, each weighted by the inverse of its variance.

    The mean's deviation is what the noises let expect, or more where shares scatter more: `spread` times, or what the
    members themselves show.
    """
    shares = np.array([one.share.share for one in members])
    noises = np.maximum([one.share.noise for one in members], 1e-6)
    weights = noises**-2.0 / (noises**-2.0).sum()
    mean = float(weights @ shares)
    curve = weights @ np.array([one.curve for one in members])
    scale = _read_off(mean, curve, _SCALES)
    scatter = np.array([one.expected(scale) for one in members]) - shares
    times = max(spread, float(np.sqrt(np.mean((scatter / noises) ** 2))) if len(members) > 1 else 1.0)
    half = _DEVIATIONS * times / float(np.sqrt((noises**-2.0).sum()))
    low, high = (_read_off(mean + sign * half, curve, _SCALES) for sign in (-1, 1))
    return _Pooled(scale, low, high, tolerance)


def _read_off(value: float, xs: Doubles, ys: Doubles) -> float:
    """Returns y at x = `value` on the line through rising points, and on the line through the last two beyond them."""
    after = int(np.clip(np.searchsorted(xs, value), 1, len(xs) - 1))
    x, y = xs[after - 1 : after + 1], ys[after - 1 : after + 1]
    return float(y[0] + (value - x[0]) * (y[1] - y[0]) / (x[1] - x[0]))
