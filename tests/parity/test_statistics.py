"""KLD, top-1, perplexity, delta-p against torch; what truncation hides; the intervals against exact ones."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgeft.parity.distributions import Floats, log_probs_of_kept, truncated
from edgeft.parity.statistics import Divergence, DivergenceMeter, Estimate, Positions, estimate


def compared(p: Floats, q: Floats, targets: list[int], kept: int = 0) -> Divergence:
    meter = DivergenceMeter()
    meter.add(truncated(p, targets, kept), q, targets)
    return meter.result()


@pytest.mark.parametrize("kept", [0, 299])
def test_figures_equal_torch(kept: int) -> None:
    rng = np.random.default_rng(0)
    p = rng.normal(size=(50, 300)).astype(np.float32) * 3
    q = p + rng.normal(size=p.shape).astype(np.float32) * 0.3
    targets = rng.integers(0, 300, size=50).tolist()
    meter = DivergenceMeter()
    for part in (slice(0, 20), slice(20, 50)):
        meter.add(truncated(p[part], targets[part], kept), q[part], targets[part])
    ours = meter.result()
    log_p, log_q = (functional.log_softmax(torch.tensor(x, dtype=torch.float64), dim=-1) for x in (p, q))
    klds = functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    # One token of 300 left out is the whole rest: nothing is lost. Float32 holds the reference.
    assert ours.mean_kld == pytest.approx(float(klds.mean()), rel=1e-5)
    assert ours.max_kld == pytest.approx(float(klds.max()), rel=1e-5)
    assert ours.median_kld == pytest.approx(float(klds.quantile(0.5)), rel=1e-5)
    assert ours.top1 == float((log_p.argmax(-1) == log_q.argmax(-1)).double().mean())
    theirs = float(functional.nll_loss(log_q, torch.tensor(targets)).exp())
    assert ours.ppl == pytest.approx(theirs)
    assert ours.ppl_ratio == pytest.approx(theirs / float(functional.nll_loss(log_p, torch.tensor(targets)).exp()))
    delta = (log_q.exp() - log_p.exp())[torch.arange(50), torch.tensor(targets)]
    assert ours.mean_delta_p == pytest.approx(float(delta.mean()), rel=1e-4)
    assert ours.rms_delta_p == pytest.approx(float(delta.square().mean().sqrt()), rel=1e-4)


@pytest.mark.parametrize("scale", [0.3, 3.0, 8.0])
@pytest.mark.parametrize("kept", [1, 8, 64])
def test_the_full_kld_is_within_the_stated_bound(scale: float, kept: int) -> None:
    rng = np.random.default_rng(kept)
    p = rng.normal(size=(200, 300)).astype(np.float32) * scale
    q = p + rng.standard_t(2, size=p.shape).astype(np.float32) * 0.5  # heavy tails, as quantization has
    targets = rng.integers(0, 300, size=200).tolist()
    full, _ = log_probs_of_kept(truncated(p, targets, 0), q, targets).divergence(truncated(p, targets, 0))
    kept_part = truncated(p, targets, kept)
    lower, hidden = log_probs_of_kept(kept_part, q, targets).divergence(kept_part)
    assert (lower <= full + 1e-6).all()
    assert (full <= lower + hidden + 1e-6).all()
    assert (full - lower).max() > 1e-4 or kept == 64 or scale == 8.0  # something is hidden, or the test shows nothing


def test_kept_tokens_are_in_order_and_ties_as_argmax_takes_them() -> None:
    logits = np.zeros((1, 9), dtype=np.float32)
    logits[0, [3, 7]] = 2
    kept = truncated(logits, [0], 4)
    assert kept.ids[0].tolist()[:2] == [3, 7]
    assert kept.first_ids().tolist() == logits.argmax(axis=-1).tolist()


def test_a_constant_added_to_logits_is_no_difference() -> None:
    p = np.random.default_rng(1).normal(size=(4, 9)).astype(np.float32)
    for kept in (0, 4):
        result = compared(p, p + 5, [0, 1, 2, 3], kept)
        # Float32 logits near 5 are rounded to 2e-7.
        assert result.mean_kld == pytest.approx(0, abs=1e-12)
        assert result.nmse == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("kept", [0, 1])
def test_huge_logits_do_not_overflow(kept: int) -> None:
    p = np.array([[1e4, 0, -1e4]], dtype=np.float32)
    assert compared(p, p[:, ::-1], [0], kept).mean_kld == pytest.approx(2e4)


@pytest.mark.parametrize("kept", [0, 4])
def test_what_is_not_a_number_stays_so(kept: int) -> None:
    p = np.random.default_rng(1).normal(size=(4, 9)).astype(np.float32)
    result = compared(p, np.full_like(p, np.nan), [0, 1, 2, 3], kept)
    assert np.isnan(result.mean_kld)
    assert Estimate(result.mean_kld, result.kld_low, result.kld_high).verdict(0.1) == "fail"


def test_an_interval_covers_the_mean_of_dependent_positions() -> None:
    """95% of intervals hold the truth, though positions of a record share most of what moves them."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 20)
    covered = naive = 0
    for _ in range(600):
        values = 1 + rng.normal(size=30)[groups] + 0.2 * rng.normal(size=600)
        found, blind = estimate(values, groups), estimate(values, np.arange(600))
        covered += found.low <= 1 <= found.high
        naive += blind.low <= 1 <= blind.high
    assert 0.92 <= covered / 600 <= 0.98
    assert naive / 600 < 0.6


def test_intervals_of_few_equal_those_of_students_t() -> None:
    values, exact = np.array([1.0, 2.0, 4.0, 5.0, 8.0]), 3.4006  # 2.7764 * 2.7386 / sqrt(5): t of 4 degrees
    found = estimate(values, np.arange(5))
    assert found.mean == 4.0
    assert found.high - 4.0 == pytest.approx(exact, rel=0.01)


def test_a_rise_is_measured_position_by_position() -> None:
    """Both are far off and differ by chance; what one adds everywhere is found though it is small beside that."""
    rng = np.random.default_rng(3)
    p = rng.normal(size=(200, 40)).astype(np.float32) * 3

    def measured(noise: float, seed: int) -> Positions:
        meter = DivergenceMeter()
        far = p + np.random.default_rng(9).normal(size=p.shape).astype(np.float32)
        q = far + noise * np.random.default_rng(seed).normal(size=p.shape).astype(np.float32)
        for number in range(20):
            part = slice(10 * number, 10 * number + 10)
            meter.add(truncated(p[part], [0] * 10, 0), q[part], [0] * 10, number)
        return meter.positions()

    base, other, worse = measured(0.05, 11), measured(0.05, 12), measured(0.5, 13)
    assert base.kld.mean() > 0.1
    chance, real = other.rise_over(base), worse.rise_over(base)
    assert chance.low < 0 < chance.high
    assert 0 < real.low < real.mean
    assert real.mean == pytest.approx(worse.kld.mean() - base.kld.mean())
    broken = replace(worse, kld=np.full_like(worse.kld, np.nan)).rise_over(base)
    assert not broken.low <= 1e9  # what is no number is beyond every limit


def test_verdicts() -> None:
    assert Estimate(0.05, 0.04, 0.06).verdict(0.1) == "pass"
    assert Estimate(0.1, 0.09, 0.12).verdict(0.1) == "undecided"
    assert Estimate(0.2, 0.15, 0.25).verdict(0.1) == "fail"
    assert Estimate(math.nan, math.nan, math.nan, greatest=1.0).verdict(1.0) == "fail"  # a figure that is no number


def test_a_share_is_within_a_limit_that_it_cannot_exceed() -> None:
    """Two records, every top token another in one of them: the interval of the share reaches far beyond 1."""
    record, none = np.repeat([0, 1], 8), np.zeros(16)
    tops = np.where(record == 0, 7, 5)
    share = Positions(record, np.full(16, 5), tops, none, none, none, none, none, none).other_top_estimate
    assert share.mean == 0.5 and share.low < 0 and share.high > 1
    assert share.verdict(1.0) == "pass" and share.verdict(0.99) == "undecided"
