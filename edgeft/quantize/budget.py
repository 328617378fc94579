"""A file within a budget: the smallest for a divergence, or the best for a size, built and measured, not believed."""

from __future__ import annotations

import itertools
import math
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.artifacts import GgufFile
from edgeft.errors import EdgeftError
from edgeft.files import human_size
from edgeft.llamacpp import Engine, file_speed
from edgeft.progress import Progress, silent
from edgeft.quantize.assignment import Assignment, frontier, within_kld, within_size
from edgeft.quantize.costs import TensorCosts
from edgeft.quantize.passages import Passage
from edgeft.quantize.recipe import Recipe
from edgeft.quantize.run import quantize, require_apart

_TRIES = 6
_SUMS = 40
# A file that uses this share of what it may diverge is not worth another try.
_CLOSE, _AIM = 0.9, 0.95
# Nor is one that is larger by less than this, as speeds vary more from one measurement to the next.
_NEAR = 1.01
_FILE_TYPES = {"Q2_K": "Q2_K", "Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "Q6_K": "Q6_K", "Q8_0": "Q8_0"}
_FILE_TYPES |= {"IQ3_XXS": "IQ3_XXS", "IQ4_XS": "IQ4_XS", "IQ4_NL": "IQ4_NL", "Q4_0": "Q4_0", "Q5_0": "Q5_0"}
_SINGLE = {"token_embd.weight": "embedding", "output.weight": "output"}


@dataclass(frozen=True)
class Budget:
    """What a file may be: one of the three.

    `max_kld` is in nats a token, mean, against the unquantized file; `min_tokens_per_second` on this device.
    """

    max_kld: float | None = None
    max_size_bytes: int | None = None
    min_tokens_per_second: float | None = None


@dataclass(frozen=True)
class Fitted:
    """A file within its budget: its recipe, and the divergence that was predicted and measured, in nats.

    `tokens_per_second` is None where nobody asked.
    """

    gguf: GgufFile
    recipe: Recipe
    predicted_kld: float
    measured_kld: float
    tokens_per_second: float | None = None

    def figures(self) -> dict[str, Any]:
        """Returns what is worth writing down of it."""
        types = {**self.recipe.tensors, "embedding": self.recipe.embedding, "output": self.recipe.output}
        figures = {"predicted_kld": self.predicted_kld, "measured_kld": self.measured_kld}
        speed = {} if self.tokens_per_second is None else {"tokens_per_second": self.tokens_per_second}
        return {"size_bytes": self.gguf.size_bytes, **figures, **speed, "types": types}


class FileDivergence:
    """Measures a file against the one it was made of, both in llama.cpp: mean KLD at the places that count."""

    def __init__(self, source: GgufFile, passages: Sequence[Passage], threads: int = 0) -> None:
        self._passages = passages
        self._threads = threads
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
        with Engine(gguf, self._n_ctx, exact_kv=True, threads=self._threads) as engine:
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
    speed: Callable[[GgufFile], float] | None = None,
) -> Fitted:
    """Writes `source` as the file `out` within a budget.

    What single tensors cost is added up to choose, then the file is built and measured; where the sum was wrong, by
    so much, it is chosen again, at most a few times. A speed is searched for by halves: the best file that `speed`
    finds fast enough, which generates where it is unset. Raises EdgeftError, with the nearest that can be had, when no
    file is within the budget, and for an `out` that is the source; then nothing is written there.
    """
    require_apart(source, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        numbers = itertools.count()

        def by_generating(gguf: GgufFile) -> float:
            return file_speed(gguf, threads).tokens_per_second

        def build(chosen: Assignment) -> Fitted:
            recipe = recipe_of(chosen, imatrix)
            path = Path(folder) / f"{next(numbers)}.gguf"  # not by size: layers that change their types have the same
            gguf = quantize(source, recipe, path, threads, progress)
            return Fitted(gguf, recipe, chosen.kld, measure(gguf))

        if budget.max_size_bytes is not None:
            rest_bytes = source.size_bytes - matrix_bytes(source, costs)
            best = build(_within_size(costs, budget.max_size_bytes, rest_bytes))
        elif budget.max_kld is not None:
            best = _search_kld(costs, budget.max_kld, build)
        else:
            assert budget.min_tokens_per_second is not None
            best = _search_speed(frontier(costs), budget.min_tokens_per_second, build, speed or by_generating)
        shutil.move(best.gguf.path, out)
    return replace(best, gguf=GgufFile.open(out))


def _within_size(costs: Sequence[TensorCosts], most_bytes: int, rest_bytes: int) -> Assignment:
    chosen = within_size(costs, most_bytes - rest_bytes)
    if chosen is None:
        least = human_size(frontier(costs)[0].size_bytes + rest_bytes)
        raise EdgeftError(
            f"no file of this model is within {human_size(most_bytes)}", remedy=f"the smallest is {least}"
        )
    return chosen


def _search_kld(costs: Sequence[TensorCosts], most: float, build: Callable[[Assignment], Fitted]) -> Fitted:
    """Tries sums of costs until a file is measured within `most`, and near it.

    By how much a file's divergence is beyond its sum differs from one assignment to the next. So the middle of what is
    near enough is aimed at, between the sums whose files were within and those whose files were not.
    """
    smallest = frontier(costs)[0]
    made: dict[tuple[str, ...], Fitted] = {}
    aim, within, beyond, ratio = most, 0.0, math.inf, 1.0
    for _ in range(_SUMS):
        chosen = within_kld(costs, aim)
        if chosen is None or len(made) == _TRIES or beyond < _NEAR * within:
            break
        types = tuple(chosen.types.values())
        if types not in made:
            made[types] = build(chosen)
        measured = made[types].measured_kld
        if _CLOSE * most <= measured <= most or (measured <= most and chosen.types == smallest.types):
            break
        within, beyond = (max(within, aim), beyond) if measured <= most else (within, min(beyond, chosen.kld))
        ratio = measured / chosen.kld if chosen.kld else 1.0
        aim = _AIM * most / ratio
        if not within < aim < beyond:
            aim = math.sqrt(within * beyond) if 0 < within < beyond < math.inf else within * 1.1 or beyond * 0.8
    if good := [file for file in made.values() if file.measured_kld <= most]:
        return min(good, key=lambda file: file.gguf.size_bytes)
    if chosen is None:
        best = frontier(costs)[-1].kld * ratio
        what = f"no file of this model is within a divergence of {most:.2g}"
        raise EdgeftError(what, remedy=f"the best has {best:.2g}; F16 has nearly none")
    tried = ", ".join(f"{file.measured_kld:.2g}" for file in made.values())
    raise EdgeftError(f"no file within a divergence of {most:.2g} was found; those that were tried have {tried}")


def _search_speed(
    offered: Sequence[Assignment],
    least: float,
    build: Callable[[Assignment], Fitted],
    speed: Callable[[GgufFile], float],
) -> Fitted:
    best: Fitted | None = None
    low, high, fastest = 0, len(offered) - 1, 0.0
    while low <= high and (best is None or offered[high].size_bytes > _NEAR * offered[low].size_bytes):
        # The largest first, which may well be fast enough, then by halves.
        place = high if high == len(offered) - 1 else (low + high) // 2
        made = build(offered[place])
        made = replace(made, tokens_per_second=speed(made.gguf))
        assert made.tokens_per_second is not None
        fastest = max(fastest, made.tokens_per_second)
        if made.tokens_per_second >= least:
            best, low = made, place + 1
        else:
            high = place - 1
    if best is None:
        what = f"no file of this model generates {least:g} tokens a second on this device"
        raise EdgeftError(what, remedy=f"the fastest that was tried has {fastest:.0f}; take a smaller model")
    return best


def recipe_of(assignment: Assignment, imatrix: Path | None) -> Recipe:
    """Returns the recipe that gives each tensor its type; the file is named by the type of most of its tensors."""
    most = Counter(assignment.types.values()).most_common(1)[0][0]
    single: Mapping[str, str] = {_SINGLE[name]: kind for name, kind in assignment.types.items() if name in _SINGLE}
    tensors = {f"^{re.escape(name)}$": kind for name, kind in assignment.types.items() if name not in _SINGLE}
    return Recipe(_FILE_TYPES.get(most, "Q8_0"), tensors, single.get("output"), single.get("embedding"), False, imatrix)


def matrix_bytes(source: GgufFile, costs: Sequence[TensorCosts]) -> int:
    """Returns the bytes that the tensors with a choice take in the source."""
    names = {cost.name for cost in costs}
    return sum(int(tensor.n_bytes) for tensor in source.tensors() if tensor.name in names)
