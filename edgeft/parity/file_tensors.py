"""The tensors of a GGUF model, dequantized and held to the checkpoint's fingerprints, a few megabytes at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeft.gguf_header import GgufHeader, TensorInfo
from edgeft.llamacpp import dequantize
from edgeft.parity.distributions import Floats
from edgeft.parity.fingerprint import Fingerprint, cell_means, cell_sums, relative_error
from edgeft.parity.layout import Place, Restore, restoring
from edgeft.parity.rounding import is_floating, most_rounding, rounding_variances

_CHUNK = 1 << 22
"""Weights dequantized at a time, a multiple of every block and cell: 16 MB."""

_OF_VOCABULARY = ("token_embd.weight", "output.weight")
_IMATRIX: Final = "quantize.imatrix.entries_count"
MEDIAN: Final = 0.6745
"""The median size of a normal value of deviation 1."""
_DAMAGED_DEVIATIONS: Final = 7.0
"""A cell is damaged when it is so many standard deviations of its own blocks' rounding off: 5.8 is the most that was
measured on correct files (12 types, two real models, some 3 million cells)."""
_WITH_IMPORTANCE: Final = 2.0
"""An importance matrix rounds a block's largest weight down where its column counts for little: 8.8 was measured."""
_DAMAGED_ENERGY: Final = 9.0
"""The same for a cell's mean square, whose error is the variance of rounding and its own deviation: 7.8 was measured,
and 12.5 with an importance matrix."""
_KEPT_ENERGY: Final = 4e-3
"""The reference keeps a cell's root mean square in float16: 2^-11 of it, twice that of its square."""
_FLOOR: Final = {True: 1.5e-6, False: 1.5e-4}
"""Least standard deviation over the tensor's root mean square, of F32 tensors and of all others: a merged weight may
differ in the last bit of bfloat16 between two machines, and a scale in F16 has a smallest value."""
_EXPLAINED: Final = 2.5
_MOST_EXPLAINED: Final = 0.8


@dataclass(frozen=True)
class Cells:
    """Cells of the file's weights, in the checkpoint's order.

    `sums` under signs, `energies` (mean squares), and what rounding may do to both: the variance of a weight, mean over
    the cell, and the standard deviation of the mean square. `finite` tells whether every weight is.
    """

    sums: Floats
    energies: Floats
    variances: Floats
    energy_deviations: Floats
    finite: bool

    @staticmethod
    def of(weights: Floats, variances: Floats, size: int) -> Cells:
        """Returns the cells of flat weights and of the variances of their rounding."""
        with np.errstate(invalid="ignore", over="ignore"):
            squares = weights**2
            deviations = 2 * np.sqrt(cell_means(squares * variances, size) / np.float32(size))
            energies = cell_means(squares, size)
            finite = bool(np.isfinite(energies).all())
            return Cells(cell_sums(weights, size), energies, cell_means(variances, size), deviations, finite)

    @staticmethod
    def joined(parts: Sequence[Cells]) -> Cells:
        """Returns the cells of weights that were measured part by part."""
        return Cells(
            np.concatenate([part.sums for part in parts]),
            np.concatenate([part.energies for part in parts]),
            np.concatenate([part.variances for part in parts]),
            np.concatenate([part.energy_deviations for part in parts]),
            all(part.finite for part in parts),
        )

    def __len__(self) -> int:
        return len(self.sums)


@dataclass(frozen=True)
class Share:
    """How much of a change that training made is in a tensor of the file: 0 none, 1 all of it, 2 twice.

    `noise` is the standard deviation that rounding gives it, `size` the change's leading singular value, and `coarse`
    what its `Direction` says.
    """

    share: float
    noise: float
    size: float
    coarse: bool


@dataclass(frozen=True)
class Compared:
    """One tensor of the file against its fingerprint."""

    info: TensorInfo
    place: Place
    theirs: Fingerprint
    ours: Cells
    share: Share | None
    weighted: bool = False
    """Whether the file was quantized with an importance matrix."""

    @property
    def fits(self) -> bool:
        """Whether the shapes agree, but for rows of a vocabulary that one side pads, and dimensions of one."""
        ours = self.info.shape[1:] if self.place.expert is not None else self.info.shape
        if [size for size in ours if size > 1] == [size for size in self.theirs.shape if size > 1]:
            return True
        return self.info.name in _OF_VOCABULARY and ours[1:] == self.theirs.shape[1:]

    @property
    def _count(self) -> int:
        """How many cells both have."""
        return min(len(self.ours), len(self.theirs.cells))

    @cached_property
    def differences(self) -> Floats:
        """How far each cell is from the checkpoint's, where both have it."""
        return self.ours.sums[: self._count] - self.theirs.cells[: self._count]

    @cached_property
    def error(self) -> float:
        """The relative error of the whole tensor, NaN where weights are not finite."""
        return relative_error(self.differences, self.theirs.rms)

    @cached_property
    def rms(self) -> float:
        """The root mean square of the tensor in the file."""
        return float(np.sqrt(np.mean(self.ours.energies, dtype=np.float64)))

    @cached_property
    def rounding(self) -> float:
        """The relative error that rounding gives a tensor with these blocks."""
        return float(np.sqrt(np.mean(self.ours.variances, dtype=np.float64))) / (self.theirs.rms or 1.0)

    @property
    def max_error(self) -> float:
        """The largest relative error that rounding explains: the type's, more where few weights are far the largest."""
        return max(most_rounding(self.info.type), min(_MOST_EXPLAINED, _EXPLAINED * self.rounding))

    @cached_property
    def deviations(self) -> Floats:
        """How many standard deviations of its own rounding each cell is off."""
        floor = _FLOOR[self.info.type.name in ("F32", "F64")] * self.theirs.rms
        variances = self.ours.variances[: self._count] + np.float32(max(floor, 1e-30) ** 2)
        found: Floats = np.abs(self.differences) / np.sqrt(variances)
        return found

    @cached_property
    def typical_error(self) -> float:
        """The relative error of a typical cell: the median's, which damage to a few cells does not move."""
        return float(np.median(np.abs(self.differences)) / MEDIAN) / (self.theirs.rms or 1.0)

    @cached_property
    def damaged(self) -> npt.NDArray[np.int64]:
        """The cells that are further off than rounding explains, in their sum or in their mean square."""
        slack = max(1.0, float(np.median(self.deviations)) / MEDIAN) * (_WITH_IMPORTANCE if self.weighted else 1.0)
        found = self.deviations > _DAMAGED_DEVIATIONS * slack
        if self.theirs.cell > 1:
            count = self._count
            wanted = self.theirs.local_rms[:count].astype(np.float64) ** 2
            allowed = _DAMAGED_ENERGY * (self.ours.variances[:count] + self.ours.energy_deviations[:count])
            floor = _KEPT_ENERGY * (wanted + (_FLOOR[False] * self.theirs.rms) ** 2)
            found |= np.abs(self.ours.energies[:count] - wanted) > allowed * slack + floor
        return np.flatnonzero(found)

    @property
    def names(self) -> str:
        """The tensor in both vocabularies."""
        return f"{self.info.name} ({self.theirs.name})"

    @cached_property
    def taken_back(self) -> float:
        """The most of a change that rounding may have taken back, 0 to 1.

        Rounding errors are independent of a change where the weights lie anywhere between two values of the grid, and
        leave its share alone. Weights that lie on the grid already go back to where they were: then the error is the
        change itself, and far smaller than the step lets expect.
        """
        if self.share is None or not self.rounding:
            return 0.0
        off_the_grid = min(1.0, (self.error / self.rounding) ** 2)
        all_of_it = self.error * self.theirs.rms * self.theirs.n_elements**0.5 / self.share.size
        return float(min(1.0 - off_the_grid, all_of_it))


class FileTensors:
    """The weights of a GGUF model, its files mapped into memory."""

    def __init__(self, header: GgufHeader) -> None:
        self.header = header
        self._weighted = _IMATRIX in header.keys
        self._bytes = {path: np.memmap(path, dtype=np.uint8, mode="r") for path in header.sizes}

    def compare(self, place: Place, theirs: Fingerprint) -> Compared:
        """Holds one tensor to a fingerprint."""
        info = self.header.tensors[place.name]
        restore = restoring(self.header, place.name)
        if restore is None and theirs.direction is None and place.expert is None:
            chunks = ((chunk, rounding_variances(chunk, info.type)) for chunk in self._chunks(info))
            ours = Cells.joined([Cells.of(*both, theirs.cell) for both in chunks])
            return Compared(info, place, theirs, ours, None, self._weighted)
        stored = self._stored(place)
        weights = np.ascontiguousarray(self._laid_out(stored, place, restore))
        if is_floating(info.type):
            variances = rounding_variances(weights.reshape(-1), info.type)
        else:  # blocks lie in the file's order
            by_block = self._laid_out(rounding_variances(stored, info.type), place, restore)
            variances = np.ascontiguousarray(by_block).reshape(-1)
        share = None
        if theirs.direction is not None and weights.shape == theirs.shape:
            direction, by_weight = theirs.direction, variances.reshape(weights.shape)
            found = direction.share(weights)
            share = Share(found, direction.noise(by_weight), direction.size, direction.coarse)
        return Compared(
            info, place, theirs, Cells.of(weights.reshape(-1), variances, theirs.cell), share, self._weighted
        )

    def restored(self, place: Place, restore: Restore | None) -> Floats:
        """Returns a whole tensor, or one expert of it, after a change of layout."""
        return self._laid_out(self._stored(place), place, restore)

    def _stored(self, place: Place) -> Floats:
        """Returns the weights of a whole tensor, flat, as they lie in the file."""
        info = self.header.tensors[place.name]
        return dequantize(self._bytes[info.path][info.start : info.start + info.size_bytes], info.type)

    def _laid_out(self, values: Floats, place: Place, restore: Restore | None) -> Floats:
        """Returns a value for each weight, flat, as a tensor, or one expert of it, after a change of layout."""
        shaped = values.reshape(self.header.tensors[place.name].shape)
        if place.expert is not None:
            shaped = shaped[place.expert]
        return shaped if restore is None else restore(shaped)

    def _chunks(self, info: TensorInfo) -> Iterator[Floats]:
        step = max(1, info.size_bytes * _CHUNK // max(info.n_elements, 1))
        for start in range(info.start, info.start + info.size_bytes, step):
            stop = min(start + step, info.start + info.size_bytes)
            yield dequantize(self._bytes[info.path][start:stop], info.type)
