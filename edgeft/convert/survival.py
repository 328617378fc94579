"""How much of what training changed is left in a quantized file.

Training adds a small d to weights W; quantization Q rounds them with steps that may be larger than d. What is left of d
is Q(W + d) - Q(W): beside what survives, rounding that W + d and W do not share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, ReaderTensor
from gguf.quants import dequantize

from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.convert.families import plan_of
from edgeft.convert.plan import FoundTensor, PlannedTensor
from edgeft.convert.tensors import MATRIX_TYPES, stored_type
from edgeft.files import write_json
from edgeft.llamacpp.blocks import PLAIN_TYPES, quantize_rows
from edgeft.progress import Progress, silent
from edgeft.weights import TunedWeights

# Rows are drawn evenly: figures over a million weights of a tensor are those of all to a few thousandths.
_MOST_WEIGHTS = 1 << 20
# Where a block of each type has its codes, in bytes; the rest of it is scales (ggml-common.h).
_CODES = {
    "Q4_0": (2, 18),
    "Q4_1": (4, 20),
    "Q5_0": (2, 22),
    "Q5_1": (4, 24),
    "Q8_0": (2, 34),
    "Q2_K": (16, 80),
    "Q3_K": (0, 96),
    "Q4_K": (16, 144),
    "Q5_K": (16, 176),
    "Q6_K": (0, 192),
}


@dataclass(frozen=True)
class Survival:
    """What is left of the training, in one tensor or over all.

    `cosine` between what is left and what was trained (1: all of it, 0: only rounding), `norm_ratio` of the two, and
    the share of weights whose code is the same with and without the training (None for types without plain codes).
    """

    cosine: float
    norm_ratio: float
    unchanged_codes: float | None

    @property
    def share(self) -> float:
        """The projection of what is left on what was trained, over its size: what rounding keeps on the average."""
        return self.cosine * self.norm_ratio


class SurvivalSums:
    """What `Survival` is computed from, over rows and tensors."""

    def __init__(self) -> None:
        self.product = self.trained = self.left = 0.0
        self.codes = self.unchanged = 0

    @classmethod
    def of(
        cls,
        without: npt.NDArray[np.uint8],
        with_training: npt.NDArray[np.uint8],
        trained: npt.NDArray[np.float64],
        kind: GGMLQuantizationType,
    ) -> SurvivalSums:
        """Returns those of rows quantized without and with the training, which has added `trained` to them."""
        left = dequantize(with_training, kind).astype(np.float64) - dequantize(without, kind)
        sums = cls()
        sums.product, sums.trained, sums.left = (float(np.vdot(a, b)) for a, b in _pairs(left, trained))
        if kind.name in _CODES:
            sums.codes, sums.unchanged = left.size, _unchanged(without, with_training, kind)
        return sums

    def add(self, other: SurvivalSums) -> None:
        """Adds those of other rows."""
        for name in ("product", "trained", "left", "codes", "unchanged"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def result(self) -> Survival:
        """Returns the figures."""
        share = self.unchanged / self.codes if self.codes else None
        norms = (self.left * self.trained) ** 0.5
        cosine = self.product / norms if norms else 0.0
        return Survival(cosine, (self.left / self.trained) ** 0.5 if self.trained else 0.0, share)


def measure_survival(
    weights: TunedWeights,
    source: Checkpoint,
    gguf: GgufFile,
    out: Path | None = None,
    progress: Progress = silent,
    *,
    unquantized: GgufFile | Literal["f32", "f16", "bf16"],
) -> dict[str, Any]:
    """Measures what a file quantized from `weights` kept of the training; writes it to the JSON file `out` if given.

    `source` is the base's checkpoint; `unquantized` the file that the quantized one was made from, or where there is
    none, the type of the matrices that it would have. Covers the tensors that the adapter changes and whose type ggml
    quantizes without an importance matrix; a file made with one rounds differently, and is measured as if it had none.
    Returns `overall` and `tensors`, by name.
    """
    stored = {tensor.name: tensor for tensor in GGUFReader(gguf.path).tensors}
    plan = plan_of({**source.config(), **weights.config_changes}, str(source.path / "config.json"))
    found = [
        tensor
        for tensor in plan.find(weights.specs, str(source.path))
        if weights.adapted.issuperset(tensor.sources) and stored[tensor.planned.name].tensor_type.name in PLAIN_TYPES
    ]
    rounded = _rounded_types(unquantized)
    overall, tensors = SurvivalSums(), {}
    for done, tensor in enumerate(found):
        progress(done, len(found), tensor.planned.name)
        kind = stored[tensor.planned.name].tensor_type
        sums = _measure(weights, tensor, stored[tensor.planned.name], rounded(tensor.planned))
        overall.add(sums)
        tensors[tensor.planned.name] = {"type": kind.name, **asdict(sums.result())}
    progress(len(found), len(found))
    content = {"file": gguf.path.name, "overall": asdict(overall.result()) if found else None, "tensors": tensors}
    if out is not None:
        write_json(out, content)
    return content


def _rounded_types(unquantized: GgufFile | Literal["f32", "f16", "bf16"]) -> Callable[[PlannedTensor], torch.dtype]:
    """Returns what tells the type that a tensor has before it is quantized."""
    if isinstance(unquantized, str):
        matrix_type = MATRIX_TYPES[unquantized]
        return lambda tensor: stored_type(tensor.name, tensor.shape, matrix_type).torch
    by_kind = {kind.ggml: kind.torch for kind in MATRIX_TYPES.values()}
    kinds = {tensor.name: tensor.tensor_type for tensor in unquantized.tensors()}
    # One that was quantized already was made of an F16, unless asked otherwise.
    return lambda tensor: by_kind.get(kinds[tensor.name], torch.float16)


def _measure(weights: TunedWeights, found: FoundTensor, stored: ReaderTensor, rounded: torch.dtype) -> SurvivalSums:
    kind, width = stored.tensor_type, found.planned.shape[-1]
    before, after = (
        found.planned.make(*parts).reshape(-1, width)
        for parts in zip(*(weights.before_and_after(name) for name in found.sources), strict=True)
    )
    chosen = np.linspace(0, len(before) - 1, min(len(before), max(1, _MOST_WEIGHTS // width))).astype(int)
    picked = torch.from_numpy(chosen)
    trained = (after[picked] - before[picked]).double().numpy()
    # llama.cpp quantizes what the unquantized file holds.
    without = quantize_rows(before[picked].float().to(rounded).float().numpy(), kind.name)
    with_training = stored.data.reshape(len(before), -1)[chosen]
    return SurvivalSums.of(without, with_training, trained, kind)


def _pairs(left: npt.NDArray[np.float64], trained: npt.NDArray[np.float64]) -> Iterator[tuple[Any, Any]]:
    yield left, trained
    yield trained, trained
    yield left, left


def _unchanged(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], kind: GGMLQuantizationType) -> int:
    """Returns how many codes are equal: those that mean the same value under one set of scales."""
    _, block_bytes = GGML_QUANT_SIZES[kind]
    first, last = _CODES[kind.name]
    mixed = one.copy().reshape(-1, block_bytes)
    mixed[:, first:last] = other.reshape(-1, block_bytes)[:, first:last]
    return int((dequantize(mixed.reshape(one.shape), kind) == dequantize(one, kind)).sum())
