"""The tensors of a GGUF model, dequantized and held to the checkpoint's fingerprints, a few megabytes at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType

from edgeft.gguf_header import GgufHeader, TensorInfo
from edgeft.llamacpp import dequantize
from edgeft.parity.distributions import Floats
from edgeft.parity.fingerprint import Fingerprint, cell_rms, cell_sums, relative_error
from edgeft.parity.layout import Place, Restore, restoring

_CHUNK = 1 << 22
"""Weights dequantized at a time, a multiple of every block and cell: 16 MB."""

_ROUNDING = {
    **{"F64": 1e-5, "F32": 1e-5, "F16": 1e-3, "BF16": 6e-3, "Q8_0": 0.02, "Q6_K": 0.06},
    **{"Q5_K": 0.12, "Q5_0": 0.12, "Q5_1": 0.12, "Q4_K": 0.22, "Q4_0": 0.25, "Q4_1": 0.22, "IQ4_NL": 0.22},
    **{"IQ4_XS": 0.22, "MXFP4": 0.3, "NVFP4": 0.3, "Q3_K": 0.4, "IQ3_S": 0.4, "IQ3_XXS": 0.45},
    # Weights that were not trained to be three values are at 0.81: the budget tells what it costs.
    **{"TQ1_0": 0.95, "TQ2_0": 0.95},
}
_MOST_ROUNDING = 0.7
"""For types of 2 bits and less. Weights that are others altogether are at sqrt(2), weights that are zero at 1."""
_OF_VOCABULARY = ("token_embd.weight", "output.weight")
_OUTLIER = 6.0
"""A cell so many times further off than a typical one is damaged, if the type's rounding does not explain it."""


def most_rounding(kind: GGMLQuantizationType) -> float:
    """Returns the largest relative error that rounding to a type explains: two to three times the measured one."""
    return _ROUNDING.get(kind.name, _MOST_ROUNDING)


@dataclass(frozen=True)
class Compared:
    """One tensor of the file against its fingerprint; cells are those of the file, in the checkpoint's order."""

    info: TensorInfo
    place: Place
    theirs: Fingerprint
    cells: Floats
    local_rms: Floats
    finite: bool
    share: float | None

    @property
    def fits(self) -> bool:
        """Whether the shapes agree, but for rows of a vocabulary that one side pads, and dimensions of one."""
        ours = self.info.shape[1:] if self.place.expert is not None else self.info.shape
        if [size for size in ours if size > 1] == [size for size in self.theirs.shape if size > 1]:
            return True
        return self.info.name in _OF_VOCABULARY and ours[1:] == self.theirs.shape[1:]

    @cached_property
    def differences(self) -> Floats:
        """How far each cell is from the checkpoint's, where both have it."""
        count = min(len(self.cells), len(self.theirs.cells))
        return self.cells[:count] - self.theirs.cells[:count]

    @cached_property
    def error(self) -> float:
        """The relative error of the whole tensor, NaN where weights are not finite."""
        return relative_error(self.differences, self.theirs.rms)

    @cached_property
    def rms(self) -> float:
        """The root mean square of the tensor in the file."""
        return float(np.sqrt(np.mean(self.local_rms.astype(np.float64) ** 2)))

    @cached_property
    def typical_error(self) -> float:
        """The relative error of a typical cell: the median's, which damage to a few cells does not move."""
        return float(np.median(np.abs(self.differences)) / 0.6745) / (self.theirs.rms or 1.0)

    @cached_property
    def damaged(self) -> npt.NDArray[np.int64]:
        """The cells that are off though the others are not."""
        # A single weight near zero is rounded by many times itself, a cell that is small as a whole is not.
        least = self.theirs.rms if self.theirs.cell == 1 else 0.1 * self.theirs.rms
        local = np.maximum(self.local_rms[: len(self.differences)], least)
        ratio = np.abs(self.differences) / np.maximum(local, np.float32(1e-30))
        typical = float(np.median(ratio)) / 0.6745
        return np.flatnonzero(ratio > max(_OUTLIER * typical, most_rounding(self.info.type)))

    @property
    def names(self) -> str:
        """The tensor in both vocabularies."""
        return f"{self.info.name} ({self.theirs.name})"

    @property
    def share_noise(self) -> float:
        """The standard deviation that rounding gives `share`."""
        direction = self.theirs.direction
        return (
            0.0 if direction is None else self.typical_error * self.theirs.rms / abs(direction.merged - direction.base)
        )


class FileTensors:
    """The weights of a GGUF model, its files mapped into memory."""

    def __init__(self, header: GgufHeader) -> None:
        self.header = header
        self._bytes = {path: np.memmap(path, dtype=np.uint8, mode="r") for path in header.sizes}

    def compare(self, place: Place, theirs: Fingerprint) -> Compared:
        """Holds one tensor to a fingerprint."""
        info = self.header.tensors[place.name]
        restore = restoring(self.header, place.name)
        if restore is None and theirs.direction is None and place.expert is None:
            parts = [_measured(chunk, theirs.cell) for chunk in self._chunks(info)]
            share = None
        else:
            weights = self.restored(place, restore)
            parts = [_measured(weights.reshape(-1), theirs.cell)]
            fits = theirs.direction is not None and weights.shape == theirs.shape
            share = theirs.direction.share(weights) if fits and theirs.direction is not None else None
        cells, local, finite = zip(*parts, strict=True)
        return Compared(info, place, theirs, np.concatenate(cells), np.concatenate(local), all(finite), share)

    def restored(self, place: Place, restore: Restore | None) -> Floats:
        """Returns a whole tensor, or one expert of it, after a change of layout."""
        info = self.header.tensors[place.name]
        stored = self._bytes[info.path][info.start : info.start + info.size_bytes]
        weights = dequantize(stored, info.type).reshape(info.shape)
        if place.expert is not None:
            weights = weights[place.expert]
        return weights if restore is None else restore(weights)

    def _chunks(self, info: TensorInfo) -> Iterator[Floats]:
        step = max(1, info.size_bytes * _CHUNK // max(info.n_elements, 1))
        for start in range(info.start, info.start + info.size_bytes, step):
            stop = min(start + step, info.start + info.size_bytes)
            yield dequantize(self._bytes[info.path][start:stop], info.type)


def _measured(weights: Floats, cell: int) -> tuple[Floats, Floats, bool]:
    with np.errstate(invalid="ignore", over="ignore"):
        sums, local = cell_sums(weights, cell), cell_rms(weights, cell)
    return sums, local, bool(np.isfinite(local).all())
