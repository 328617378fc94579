"""How far apart two models' predictions are, in llama.cpp's terms (tools/perplexity, `--kl-divergence`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.parity.distributions import Distributions, Doubles, Floats, log_probs_of_kept

_ROWS_AT_ONCE = 16
"""8 MB of logits of 128,000 tokens, and as much again for each array that is made of them."""
_CONFIDENCE_Z = 1.959964
"""The normal quantile of a two-sided interval of 95%."""


@dataclass(frozen=True)
class Estimate:
    """A mean over positions with its 95% confidence interval; positions of one record count as depending on another.

    `greatest` is the most that such a mean can be: an interval of few records may reach beyond it.
    """

    mean: float
    low: float
    high: float
    greatest: float = math.inf

    @property
    def size(self) -> Estimate:
        """How far the mean is from 0, up or down."""
        return self if not self.mean < 0 else Estimate(-self.mean, -self.high, -self.low)

    def verdict(self, limit: float) -> str:
        """Returns pass when the whole interval is within the limit, fail when none of it is, undecided between.

        NaN, which compares false with everything, fails.
        """
        if min(self.high, self.greatest) <= limit:
            return "pass"
        return "undecided" if self.low <= limit else "fail"

    def times_more(self, limit: float) -> float:
        """Returns how many times as large a sample decides about a limit, if the mean stays where it is."""
        half, distance = max(self.high - self.mean, self.mean - self.low), abs(limit - self.mean)
        return (half / distance) ** 2 if distance else math.inf


def estimate(values: Doubles, groups: npt.NDArray[np.int64]) -> Estimate:
    """Returns the mean of `values` (positions,) with an interval that is robust to dependence within `groups`.

    The standard error is that of a ratio over clusters (Cameron and Miller 2015, A Practitioner's Guide to
    Cluster-Robust Inference) with Student's t of one degree less than there are records. A single record's positions
    are taken for independent, as there is nothing else to go by.
    """
    mean = float(values.mean())
    numbers = groups if len(np.unique(groups)) > 1 else np.arange(len(values))
    count = len(np.unique(numbers))
    if count < 2 or not math.isfinite(mean):
        return Estimate(mean, mean, mean)
    sums = np.bincount(numbers - numbers.min(), weights=values - mean)
    error = math.sqrt(count / (count - 1) * float((sums**2).sum())) / len(values)
    half = _student_t(count - 1) * error
    return Estimate(mean, mean - half, mean + half)


def _student_t(freedom: int) -> float:
    """Returns the 97.5% quantile of Student's t (Hill's expansion around the normal one; exact for 1 and 2)."""
    if freedom <= 2:
        return (12.7062, 4.3027)[freedom - 1]
    z, n = _CONFIDENCE_Z, float(freedom)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / n ** (power + 1) for power, term in enumerate(terms))


@dataclass(frozen=True)
class Divergence:
    """Differences over all scored positions. KLD in nats, of the reference p against the tested q: sum p log(p / q).

    Where the reference kept only its likeliest tokens, the KLD is that of the distributions over these and the rest as
    one: never more than the full one, and less by at most `truncation` on average. Delta-p is the change of the
    probability of the token that comes next. `_low` and `_high` are the ends of a 95% confidence interval, NaN in a
    reference that was recorded before they were measured.
    """

    positions: int
    mean_kld: float
    kld_low: float
    kld_high: float
    median_kld: float
    p99_kld: float
    p999_kld: float
    max_kld: float
    truncation: float
    top1: float
    mean_delta_p: float
    rms_delta_p: float
    nmse: float
    ppl_reference: float
    ppl: float
    top1_low: float = math.nan
    top1_high: float = math.nan
    ppl_ratio_low: float = math.nan
    ppl_ratio_high: float = math.nan

    @property
    def ppl_ratio(self) -> float:
        """Perplexity of the tested model over the reference's, on the same tokens."""
        return self.ppl / self.ppl_reference

    def to_json(self) -> dict[str, float]:
        """Returns the figures, the ratio included."""
        return {**asdict(self), "ppl_ratio": self.ppl_ratio}

    @classmethod
    def from_json(cls, figures: Mapping[str, Any]) -> Divergence:
        """Returns what `to_json` was made from."""
        return cls(**{key: value for key, value in figures.items() if key != "ppl_ratio"})


@dataclass(frozen=True)
class Positions:
    """Figures of every scored position, (positions,) each; `record` is the number of the record that it is in.

    `top_reference` and `top` are the likeliest tokens of the reference and of the tested model, with the probability
    that each model gives its own.
    """

    record: npt.NDArray[np.int64]
    top_reference: npt.NDArray[np.int64]
    top: npt.NDArray[np.int64]
    kld: Doubles
    truncation: Doubles
    nll_reference: Doubles
    nll: Doubles
    p_top_reference: Doubles
    p_top: Doubles

    def first(self, count: int) -> Positions:
        """Returns the first positions."""
        return Positions(**{name: column[:count] for name, column in vars(self).items()})

    @property
    def other_top(self) -> Doubles:
        """1 where the likeliest token is another, else 0."""
        differ: Doubles = (self.top != self.top_reference).astype(np.float64)
        return differ

    @property
    def kld_estimate(self) -> Estimate:
        """Mean KLD."""
        return estimate(self.kld, self.record)

    @property
    def other_top_estimate(self) -> Estimate:
        """Share of positions whose likeliest token is another."""
        return replace(estimate(self.other_top, self.record), greatest=1.0)

    @property
    def nll_change(self) -> Estimate:
        """Mean change of the negative log-likelihood: the logarithm of the ratio of perplexities."""
        return estimate(self.nll - self.nll_reference, self.record)

    def rise_over(self, other: Positions) -> Estimate:
        """Mean by which the KLD is larger than in `other`, which has the same positions.

        What rounding does to one position it does to the next by chance, in one record, too: they are independent.
        """
        return estimate(self.kld - other.kld, np.arange(len(self.kld)))


class DivergenceMeter:
    """Gathers positions chunk by chunk, so that only one chunk's logits are in memory."""

    def __init__(self) -> None:
        self._parts: list[tuple[npt.NDArray[Any], ...]] = []
        self._square_error = 0.0
        self._square_spread = 0.0

    def add(self, reference: Distributions, tested: Floats, targets: Sequence[int], record: int = 0) -> None:
        """Adds positions of one record: the reference's, the tested logits (positions, n_vocab), the next tokens."""
        for start in range(0, len(targets), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            self._add(reference.slice(start, start + _ROWS_AT_ONCE), tested[part], targets[part], record)

    def _add(self, reference: Distributions, tested: Floats, targets: Sequence[int], record: int) -> None:
        log_q = log_probs_of_kept(reference, tested, targets)
        kld, truncation = log_q.divergence(reference)
        rows = np.arange(len(kld))
        tops = reference.first_ids(), tested.argmax(axis=-1)
        above_target = tested[rows, tops[1]].astype(np.float64) - tested[rows, list(targets)]
        p_tops = np.exp(reference.log_p.max(axis=-1).astype(np.float64)), np.exp(log_q.target + above_target)
        nlls = -reference.target_log_p.astype(np.float64), -log_q.target
        self._parts.append((np.full(len(kld), record), *tops, kld, truncation, *nlls, *p_tops))
        # Compared without their mean, which softmax does not see.
        p = reference.log_p.astype(np.float64)
        p, q = p - p.mean(axis=-1, keepdims=True), log_q.kept - log_q.kept.mean(axis=-1, keepdims=True)
        self._square_error += float(((p - q) ** 2).sum())
        self._square_spread += float((p**2).sum())

    def positions(self) -> Positions:
        """Returns what was added, position by position."""
        return Positions(*(np.concatenate(column) for column in zip(*self._parts, strict=True)))

    def result(self) -> Divergence:
        """Returns the figures over everything added."""
        found = self.positions()
        kld, other_top, nll_change = found.kld_estimate, found.other_top_estimate, found.nll_change
        with np.errstate(over="ignore"):  # an infinite perplexity is the answer for a token given no chance at all
            change = np.exp(-found.nll) - np.exp(-found.nll_reference)
            perplexities = [float(np.exp(nll.mean())) for nll in (found.nll_reference, found.nll)]
            ratios = [float(np.exp(end)) for end in (nll_change.low, nll_change.high)]
        return Divergence(
            positions=len(found.kld),
            mean_kld=kld.mean,
            kld_low=kld.low,
            kld_high=kld.high,
            median_kld=float(np.median(found.kld)),
            p99_kld=float(np.percentile(found.kld, 99)),
            p999_kld=float(np.percentile(found.kld, 99.9)),
            max_kld=float(found.kld.max()),
            truncation=float(found.truncation.mean()),
            top1=1 - other_top.mean,
            mean_delta_p=float(change.mean()),
            rms_delta_p=float(np.sqrt((change**2).mean())),
            nmse=self._square_error / self._square_spread if self._square_spread else 0.0,
            ppl_reference=perplexities[0],
            ppl=perplexities[1],
            top1_low=max(1 - other_top.high, 0.0),
            top1_high=min(1 - other_top.low, 1.0),
            ppl_ratio_low=ratios[0],
            ppl_ratio_high=ratios[1],
        )
