"""How far apart two models' predictions are, in llama.cpp's terms (tools/perplexity): KLD, top-1, perplexity, NMSE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Divergence:
    """Differences over all scored positions. KLD in nats, of the reference p against the tested q: sum p log(p / q)."""

    positions: int
    mean_kld: float
    p99_kld: float
    max_kld: float
    top1: float
    nmse: float
    ppl_reference: float
    ppl: float

    @property
    def ppl_ratio(self) -> float:
        """Perplexity of the tested model over the reference's, on the same tokens."""
        return self.ppl / self.ppl_reference

    def to_json(self) -> dict[str, float]:
        """Returns the figures, the ratio included."""
        return {**asdict(self), "ppl_ratio": self.ppl_ratio}


def log_softmax(logits: Floats) -> Doubles:
    """Returns the log-probabilities of logits (positions, n_vocab), float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    normalized: Doubles = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalized


class DivergenceMeter:
    """Gathers positions record by record, so that only one record's logits are in memory."""

    def __init__(self) -> None:
        self._kld: list[Doubles] = []
        self._same: list[npt.NDArray[np.bool_]] = []
        self._nll_reference: list[Doubles] = []
        self._nll: list[Doubles] = []
        self._square_error = 0.0
        self._square_spread = 0.0

    def add(self, reference: Floats, tested: Floats, targets: Sequence[int]) -> None:
        """Adds positions: logits of both models, (positions, n_vocab), and the tokens that come next."""
        log_p, log_q = log_softmax(reference), log_softmax(tested)
        rows = np.arange(len(targets))
        self._kld.append((np.exp(log_p) * (log_p - log_q)).sum(axis=-1))
        self._same.append(reference.argmax(axis=-1) == tested.argmax(axis=-1))
        self._nll_reference.append(-log_p[rows, list(targets)])
        self._nll.append(-log_q[rows, list(targets)])
        # Logits are compared without their mean: softmax does not see it.
        p = reference.astype(np.float64) - reference.mean(axis=-1, keepdims=True, dtype=np.float64)
        q = tested.astype(np.float64) - tested.mean(axis=-1, keepdims=True, dtype=np.float64)
        self._square_error += float(((p - q) ** 2).sum())
        self._square_spread += float((p**2).sum())

    def result(self) -> Divergence:
        """Returns the figures over everything added."""
        kld = np.concatenate(self._kld)
        return Divergence(
            positions=len(kld),
            mean_kld=float(kld.mean()),
            p99_kld=float(np.percentile(kld, 99)),
            max_kld=float(kld.max()),
            top1=float(np.concatenate(self._same).mean()),
            nmse=self._square_error / self._square_spread,
            ppl_reference=_exp_mean(self._nll_reference),
            ppl=_exp_mean(self._nll),
        )


def _exp_mean(nll: Sequence[Doubles]) -> float:
    with np.errstate(over="ignore"):  # an infinite perplexity is the answer for a token given no chance at all
        return float(np.exp(np.concatenate(nll).mean()))
