"""Our divergence figures are llama.cpp's own, but for how its file of a reference keeps log-probabilities."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from compare_perplexity import KEPT_NATS, STEPS, compare, stored, table

from edgeft.artifacts import GgufFile
from edgeft.parity.distributions import log_softmax
from edgeft.quantize import quantize

BINARY = os.environ.get("EDGEFT_LLAMA_PERPLEXITY", "")


def test_what_llama_cpp_keeps_of_a_reference() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 300)).astype(np.float32) * 6
    exact, kept = log_softmax(logits), stored(logits)
    least = exact.max(axis=-1, keepdims=True) - KEPT_NATS
    near = exact >= least
    assert 0 < near.sum() < near.size
    assert np.abs(kept - exact)[near].max() <= KEPT_NATS / STEPS / 2 * 1.0001
    np.testing.assert_allclose(kept, np.maximum(kept, least))  # nothing is more than 16 nats below the likeliest


@pytest.mark.skipif(not BINARY, reason="EDGEFT_LLAMA_PERPLEXITY does not name llama.cpp's llama-perplexity")
def test_our_figures_are_llama_cpps(tiny_f16: GgufFile, tmp_path: Path) -> None:
    words = ("turn", "on", "the", "light", "in", "kitchen", "garden", "21", "degrees", '{"state":', '"on"}')
    source = random.Random(0)
    text = tmp_path / "text.txt"
    text.write_text(" ".join(source.choice(words) for _ in range(600)))
    smaller = quantize(tiny_f16, "Q4_0", tmp_path / "q4.gguf")
    found = compare(Path(BINARY), tiny_f16, smaller, text, n_ctx=64)
    ours, as_stored, theirs = found.whole, found.stored, found.theirs
    assert theirs["mean KLD"] > 1e-3  # there is something to compare
    # A log-probability is kept to half a step of 16 / 65,535 nats, and so is their mean.
    assert ours["mean KLD"] == pytest.approx(theirs["mean KLD"], abs=KEPT_NATS / STEPS / 2)
    assert found.kept["mean KLD"] <= ours["mean KLD"] + 1e-6
    for name, value in theirs.items():
        # They print six decimals, of percentages three; and their build rounds its sums in another order than ours.
        digits = 6e-4 if "%," in name or name.endswith("%") else 2e-6
        assert as_stored[name] == pytest.approx(value, abs=digits, rel=2e-4), name
    assert len(table(found).splitlines()) == 2 + len(theirs)
