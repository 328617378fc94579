"""KLD, top-1, perplexity and NMSE against scipy-free formulas written out, and against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgeft.parity.statistics import DivergenceMeter


def test_figures_equal_torch() -> None:
    rng = np.random.default_rng(0)
    p = rng.normal(size=(50, 300)).astype(np.float32) * 3
    q = p + rng.normal(size=p.shape).astype(np.float32) * 0.3
    targets = rng.integers(0, 300, size=50).tolist()
    meter = DivergenceMeter()
    for part in (slice(0, 20), slice(20, 50)):
        meter.add(p[part], q[part], targets[part])
    ours = meter.result()
    log_p, log_q = (functional.log_softmax(torch.tensor(x, dtype=torch.float64), dim=-1) for x in (p, q))
    klds = functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    assert ours.mean_kld == pytest.approx(float(klds.mean()))
    assert ours.max_kld == pytest.approx(float(klds.max()))
    assert ours.top1 == float((log_p.argmax(-1) == log_q.argmax(-1)).double().mean())
    theirs = float(functional.nll_loss(log_q, torch.tensor(targets)).exp())
    assert ours.ppl == pytest.approx(theirs)
    assert ours.ppl_ratio == pytest.approx(theirs / float(functional.nll_loss(log_p, torch.tensor(targets)).exp()))


def test_a_constant_added_to_logits_is_no_difference() -> None:
    p = np.random.default_rng(1).normal(size=(4, 9)).astype(np.float32)
    meter = DivergenceMeter()
    meter.add(p, p + 5, [0, 1, 2, 3])
    result = meter.result()
    # Float32 logits near 5 are rounded to 2e-7.
    assert result.mean_kld == pytest.approx(0, abs=1e-12)
    assert result.nmse == pytest.approx(0, abs=1e-12)


def test_huge_logits_do_not_overflow() -> None:
    p = np.array([[1e4, 0, -1e4]], dtype=np.float32)
    meter = DivergenceMeter()
    meter.add(p, p[:, ::-1], [0])
    assert meter.result().mean_kld == pytest.approx(2e4)
