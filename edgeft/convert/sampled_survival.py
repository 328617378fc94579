"""What rounding will leave of a training, before a file is made: measured on a sample of the tensors.

Rounding keeps a change d of weights W on the average where W lies anywhere between two steps of the type: here a weight
goes up a whole step, there none, and the projection of Q(W + d) - Q(W) on d is that of d itself. Where W lies on the
steps, as it does in a checkpoint that was made from a file of that type, every change of less than half a step is
rounded back, and all of a small training can be. So the share that survives tells what is lost; the cosine tells how
much noise comes with it, which every model has at that type, trained or not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from gguf import GGMLQuantizationType

from edgeft.artifacts import Checkpoint
from edgeft.convert.families import plan_of
from edgeft.convert.plan import FoundTensor, Plan
from edgeft.convert.quantized import Planner, planned_types
from edgeft.convert.survival import Survival, SurvivalSums
from edgeft.convert.tensors import MATRIX_TYPES
from edgeft.errors import EdgeftError
from edgeft.llamacpp.blocks import PLAIN_TYPES, dequantize_rows, ordinary_error, quantize_rows
from edgeft.progress import Progress, silent
from edgeft.quant_types import NEEDS_IMATRIX
from edgeft.weights import TunedWeights, Weights
from edgeft.weights.changes import is_vocabulary

LEAST_SHARE: Final = 0.8
"""Below this a type is said to lose a training; docs/quantization.md has what was measured."""
STAND_IN_SIZE: Final = 0.02
"""Norm of the change that stands for a training that is not made yet, over that of the weights."""

_ALTERNATIVES: Final = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_0")
_NEAR_GRID: Final = 0.4
"""Times the rounding error of ordinary weights: below, weights lie on a type's grid or near it."""
_BLOCKS_SAMPLED: Final = 3
_WEIGHTS_SAMPLED: Final = 1 << 14


@dataclass(frozen=True)
class SampledSurvival:
    """What rounding to one file type leaves of a training, and what it does to the base alone.

    `base_error` is the norm of what rounding adds to the base's own weights, over theirs; `ordinary_error` that of
    normally distributed weights.
    """

    survival: Survival
    base_error: float
    ordinary_error: float

    @property
    def on_grid(self) -> bool:
        """Whether the base lies on the type's grid or near it."""
        return self.base_error < _NEAR_GRID * self.ordinary_error


PlannerOf = Callable[[str], Planner]
"""Gives for a file type what tells the type of each tensor."""


@dataclass(frozen=True)
class SurvivalWarning:
    """One type that loses a training: what it does, and what to do."""

    type_name: str
    what: str
    remedy: str


def survival_warnings(
    weights: Weights | TunedWeights,
    source: Checkpoint,
    types: Sequence[str],
    planner_of: PlannerOf,
    dtype: str = "f16",
    progress: Progress = silent,
) -> list[SurvivalWarning]:
    """Returns a warning for each of the file types on whose grid the base lies, and that rounds a training away.

    `source` is the base. Of `weights` of the base alone, as it is going to be merged into, a random change stands for
    the training. Models that are not converted natively, and types that need an importance matrix, have no warnings.
    """
    measured = sample_survival(weights, source, types, planner_of, dtype, progress)
    trained = isinstance(weights, TunedWeights)
    # Without the grid a low share is no such loss: over a base rounded to NF4, 27 steps that changed the weights by
    # 0.1% had shares of 0.5 to 2.6, as its few values all lie alike between the steps.
    lost = {name: one for name, one in measured.items() if one.on_grid and one.survival.share < LEAST_SHARE}
    if not lost:
        return []
    others = [name for name in _ALTERNATIVES if name not in measured]
    measured |= sample_survival(weights, source, others, planner_of, dtype, progress)
    kept = {
        name: one.survival for name, one in measured.items() if LEAST_SHARE <= one.survival.share <= 1 / LEAST_SHARE
    }
    best = sorted(kept, key=lambda name: -kept[name].cosine)
    shares = ", ".join(f"{name} (share {kept[name].share:.2f}, cosine {kept[name].cosine:.2f})" for name in best)
    remedy = f"take a type that keeps it: {shares}" if best else "keep the adapter apart: edgeft convert-adapter"
    return [SurvivalWarning(name, _sentence(one, trained), remedy) for name, one in lost.items()]


def _sentence(one: SampledSurvival, trained: bool) -> str:
    survival = one.survival
    codes = "" if survival.unchanged_codes is None else f", {survival.unchanged_codes:.0%} of codes unchanged"
    figures = f"(cosine {survival.cosine:.2f}{codes})"
    if trained:
        what = f"{survival.share:.0%} of this training survives rounding {figures}"
    else:
        size = f"{STAND_IN_SIZE:.0%}"
        what = f"of a training that changes the weights by {size}, {survival.share:.0%} survives rounding {figures}"
    errors = f"rounding changes it by {one.base_error:.2%}, other models by {one.ordinary_error:.0%}"
    return f"{what}: the base lies on the grid of this type or near it ({errors}), and rounding gives it back"


def sample_survival(
    weights: Weights | TunedWeights,
    source: Checkpoint,
    types: Sequence[str],
    planner_of: PlannerOf,
    dtype: str = "f16",
    progress: Progress = silent,
) -> dict[str, SampledSurvival]:
    """Returns by file type what rounding leaves of a training: see `survival_warnings`.

    Measured are rows of each kind of matrix that is trained, in blocks spread over the model.
    """
    changes = weights.config_changes if isinstance(weights, TunedWeights) else {}
    asked = [name for name in types if name not in NEEDS_IMATRIX]
    try:
        plan = plan_of({**source.config(), **changes}, str(source.path / "config.json"))
        found = plan.find(weights.specs, str(source.path))
    except EdgeftError:
        return {}
    chosen = _sample(found, weights)
    with ThreadPoolExecutor() as pool:
        planned = list(pool.map(lambda name: _planned(plan, found, dtype, planner_of(name)), asked))
    totals = {name: _Totals() for name, kinds in zip(asked, planned, strict=True) if kinds}
    generator = torch.Generator().manual_seed(0)
    for done, tensor in enumerate(chosen):
        progress(done, len(chosen), tensor.planned.name)
        before, change = _rows(weights, tensor, MATRIX_TYPES[dtype].torch, generator)
        made: dict[str, _Totals] = {}
        for name, kinds in zip(asked, planned, strict=True):
            kind = kinds.get(tensor.planned.name, "")
            if kind in PLAIN_TYPES:
                made.setdefault(kind, _measured(before, change, kind, MATRIX_TYPES[dtype].torch))
                totals[name].add(made[kind])
    progress(len(chosen), len(chosen))
    return {name: total.result() for name, total in totals.items() if total.base_squares}


def _planned(plan: Plan, found: Sequence[FoundTensor], dtype: str, planner: Planner) -> Mapping[str, str]:
    """Returns the types of a file's tensors; none for a recipe that the planner refuses, and says why in its turn."""
    try:
        return planned_types(plan, found, MATRIX_TYPES[dtype], planner)
    except EdgeftError:
        return {}


def _sample(found: Sequence[FoundTensor], weights: Weights | TunedWeights) -> list[FoundTensor]:
    """Returns trained matrices: of each kind some, in blocks spread over the model."""
    adapted = weights.adapted if isinstance(weights, TunedWeights) else None
    kinds: dict[str, list[FoundTensor]] = defaultdict(list)
    for tensor in found:
        name = tensor.sources[0]
        is_trained = not is_vocabulary(name) if adapted is None else adapted.issuperset(tensor.sources)
        if is_trained and len(weights.specs[name].shape) == 2:
            kinds[re.sub(r"\.\d+\.", ".", tensor.planned.name)].append(tensor)
    return [
        same[position]
        for same in kinds.values()
        for position in np.unique(np.linspace(0, len(same) - 1, _BLOCKS_SAMPLED).round().astype(int))
    ]


def _rows(
    weights: Weights | TunedWeights, tensor: FoundTensor, rounded: torch.dtype, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns rows of a matrix before training, float32, and what training has added to them, or what stands for it.

    Of experts, which lie in one tensor of the file, the first matrix is taken.
    """
    name = tensor.sources[0]
    make = tensor.planned.make if len(tensor.sources) == 1 else lambda matrix: matrix
    if isinstance(weights, TunedWeights):
        before, after = (make(part) for part in weights.before_and_after(name))
    else:
        before, after = make(weights.read(name).float()), None
    width = before.shape[-1]
    before = before.reshape(-1, width)
    picked = torch.linspace(0, len(before) - 1, min(len(before), max(1, _WEIGHTS_SAMPLED // width))).round().long()
    before = before[picked]
    if after is not None:
        return before, after.reshape(-1, width)[picked] - before
    noise = torch.randn(before.shape, generator=generator)
    return before, noise * (STAND_IN_SIZE * before.square().mean().sqrt())


class _Totals:
    """Sums over matrices of one file type."""

    def __init__(self) -> None:
        self.sums = SurvivalSums()
        self.base_squares = self.error_squares = self.ordinary_squares = 0.0

    def add(self, other: _Totals) -> None:
        self.sums.add(other.sums)
        self.base_squares += other.base_squares
        self.error_squares += other.error_squares
        self.ordinary_squares += other.ordinary_squares

    def result(self) -> SampledSurvival:
        errors = (self.error_squares, self.ordinary_squares)
        return SampledSurvival(self.sums.result(), *((squares / self.base_squares) ** 0.5 for squares in errors))


def _measured(before: torch.Tensor, change: torch.Tensor, kind_name: str, rounded: torch.dtype) -> _Totals:
    """Returns the sums of rows of one matrix at a tensor type."""
    kind, columns = GGMLQuantizationType[kind_name], before.shape[1]
    rows = before.to(rounded).float().numpy()
    without = quantize_rows(rows, kind_name)
    with_training = quantize_rows((before + change).to(rounded).float().numpy(), kind_name)
    totals = _Totals()
    totals.sums = SurvivalSums.of(without, with_training, change.double().numpy(), kind)
    totals.base_squares = float(np.square(rows, dtype=np.float64).sum())
    error = dequantize_rows(without, kind_name, columns) - rows
    totals.error_squares = float(np.square(error, dtype=np.float64).sum())
    totals.ordinary_squares = totals.base_squares * ordinary_error(kind_name) ** 2
    return totals
