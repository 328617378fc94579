"""A file within a budget: the smallest for a divergence, or the best for a size, built and measured, not believed."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from edgeft.artifacts import GgufFile
from edgeft.errors import EdgeftError
from edgeft.files import human_size
from edgeft.llamacpp import Engine
from edgeft.progress import Progress, silent
from edgeft.quantize.assignment import Assignment, frontier
from edgeft.quantize.passages import Passage
from edgeft.quantize.recipe import Recipe
from edgeft.quantize.run import quantize
from edgeft.quantize.sensitivity import TensorCosts

_TRIES = 5
# A file that uses this share of what it may diverge is not worth another try.
_CLOSE = 0.9
_FILE_TYPES = {"Q2_K": "Q2_K", "Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "Q6_K": "Q6_K", "Q8_0": "Q8_0"}
_FILE_TYPES |= {"IQ3_XXS": "IQ3_XXS", "IQ4_XS": "IQ4_XS", "IQ4_NL": "IQ4_NL", "Q4_0": "Q4_0", "Q5_0": "Q5_0"}
_SINGLE = {"token_embd.weight": "embedding", "output.weight": "output"}


@dataclass(frozen=True)
class Budget:
    """What a file may be: one of the two. `max_kld` is in nats a token, mean, against the unquantized file."""

    max_kld: float | None = None
    max_size_bytes: int | None = None


@dataclass(frozen=True)
class Fitted:
    """A file within its budget: its recipe, and the divergence that was predicted and measured, in nats."""

    gguf: GgufFile
    recipe: Recipe
    predicted_kld: float
    measured_kld: float


class FileDivergence:
    """Measures a file against the one it was made of, both in llama.cpp: mean KLD at the places that count."""

    def __init__(self, source: GgufFile, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self._n_ctx = max(len(passage.ids) for passage in passages)
        self._wanted = list(self._log_probabilities(source))

    def __call__(self, gguf: GgufFile) -> float:
        """Returns the mean of sum p log(p / q), p of the source and q of `gguf`."""
        total, count = 0.0, 0
        for log_p, passage, log_q in zip(self._wanted, self._passages, self._log_probabilities(gguf), strict=True):
            total += float((np.exp(log_p) * (log_p - log_q)).sum(dtype=np.float64))
            count += len(passage.places)
        return total / count

    def _log_probabilities(self, gguf: GgufFile) -> Sequence[npt.NDArray[np.float32]]:
        with Engine(gguf, self._n_ctx, exact_kv=True) as engine:
            return [_log_softmax(engine.logits(passage.ids)[passage.places]) for passage in self._passages]


def _log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    normalized: npt.NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalized


def quantize_to_budget(
    source: GgufFile,
    costs: Sequence[TensorCosts],
    budget: Budget,
    measure: Callable[[GgufFile], float],
    out: Path,
    imatrix: Path | None = None,
    threads: int = 0,
    progress: Progress = silent,
) -> Fitted:
    """Writes `source` as the file `out` within a budget.

    What single tensors cost is added up to choose, then the file is built and measured; where the sum was wrong, by
    so much, it is chosen again, at most a few times. Raises EdgeftError, with the nearest that can be had, when no
    file is within the budget; then there is no `out`.
    """
    offered = frontier(costs)
    rest_bytes = source.size_bytes - _matrix_bytes(source, costs)
    best: Fitted | None = None
    scale = 1.0
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        for number in range(_TRIES):
            chosen = _choose(offered, budget, rest_bytes, scale)
            recipe = recipe_of(chosen, imatrix)
            gguf = quantize(source, recipe, Path(folder) / f"{number}.gguf", threads, progress)
            measured = measure(gguf)
            made = Fitted(gguf, recipe, chosen.kld, measured)
            if budget.max_kld is None:
                best = made
                break
            if measured <= budget.max_kld and (best is None or gguf.size_bytes < best.gguf.size_bytes):
                best = made
            if _CLOSE * budget.max_kld <= measured <= budget.max_kld or (chosen is offered[0] and best is made):
                break
            scale = measured / chosen.kld
        if best is None:
            raise EdgeftError(f"no file within a divergence of {budget.max_kld} was found; the last has {measured:.2g}")
        shutil.move(best.gguf.path, out)
    return replace(best, gguf=GgufFile.open(out))


def _choose(offered: Sequence[Assignment], budget: Budget, rest_bytes: int, scale: float) -> Assignment:
    if budget.max_size_bytes is not None:
        within = [one for one in offered if one.size_bytes + rest_bytes <= budget.max_size_bytes]
        if not within:
            least = human_size(offered[0].size_bytes + rest_bytes)
            raise EdgeftError(
                f"no file of this model is within {human_size(budget.max_size_bytes)}",
                remedy=f"the smallest is {least}",
            )
        return within[-1]
    assert budget.max_kld is not None
    within = [one for one in offered if one.kld * scale <= budget.max_kld]
    if not within:
        least_kld = offered[-1].kld * scale
        raise EdgeftError(
            f"no file of this model is within a divergence of {budget.max_kld}",
            remedy=f"the best has {least_kld:.2g}; F16 has nearly none",
        )
    return within[0]


def recipe_of(assignment: Assignment, imatrix: Path | None) -> Recipe:
    """Returns the recipe that gives each tensor its type; the file is named by the type of most of its tensors."""
    most = Counter(assignment.types.values()).most_common(1)[0][0]
    single: Mapping[str, str] = {_SINGLE[name]: kind for name, kind in assignment.types.items() if name in _SINGLE}
    tensors = {f"^{re.escape(name)}$": kind for name, kind in assignment.types.items() if name not in _SINGLE}
    return Recipe(_FILE_TYPES.get(most, "Q8_0"), tensors, single.get("output"), single.get("embedding"), False, imatrix)


def _matrix_bytes(source: GgufFile, costs: Sequence[TensorCosts]) -> int:
    """Returns the bytes that the tensors with a choice take in the source."""
    from gguf import GGUFReader

    names = {cost.name for cost in costs}
    return sum(int(tensor.n_bytes) for tensor in GGUFReader(source.path).tensors if tensor.name in names)
