"""The tensors of a GGUF file as those of the checkpoint that it was made from, read one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from gguf import GGMLQuantizationType

from edgeft.convert.gguf_fields import read_tensor
from edgeft.convert.plan import Plan, PlannedTensor, stack, unchanged
from edgeft.convert.tensors import not_finite
from edgeft.errors import EdgeftError, Problem
from edgeft.gguf_header import GgufHeader, TensorInfo
from edgeft.llamacpp.dequantize import dequantize
from edgeft.weights import TensorSpec

_INTEGERS = frozenset(
    (
        GGMLQuantizationType.I8,
        GGMLQuantizationType.I16,
        GGMLQuantizationType.I32,
        GGMLQuantizationType.I64,
        GGMLQuantizationType.F64,
    )
)
_HALVES = {GGMLQuantizationType.F16: torch.float16, GGMLQuantizationType.BF16: torch.bfloat16}
_PART_ELEMENTS = 1 << 22
# llama.cpp's converters have computed frequency factors in float64 and in float32.
_GENERATED_TOLERANCE = 1e-6


@dataclass(frozen=True)
class _Part:
    """What one tensor of the file gives of one of the checkpoint's, which is the number `source` of its sources."""

    planned: PlannedTensor
    info: TensorInfo
    source: int


class GgufWeights:
    """The weights of a plan's checkpoint, out of the GGUF file that the plan would make of it.

    Each tensor has the smallest of bfloat16, float16 and float32 that holds all of its values: a file's own type where
    that is one of them, float32 for what was quantized. Those that are float32 in the file are looked through. Raises
    EdgeftError, naming all, for tensors that the file lacks, that the plan has no use for, of other shapes, of types
    that hold no weights, cut off, and for those that are generated from config.json and differ in the file.
    """

    def __init__(self, header: GgufHeader, plan: Plan) -> None:
        self.where = str(next(iter(header.sizes)))
        self._parts: dict[str, list[_Part]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        problems = list(self._place(header, plan))
        if problems:
            raise EdgeftError(problems)
        kinds = {part.info.type for parts in self._parts.values() for part in parts}
        # Vectors are float32 in every file: what its matrices have is tried first.
        halves = [torch.float16, torch.bfloat16]
        self._halves = halves if GGMLQuantizationType.F16 in kinds and _BF16 not in kinds else halves[::-1]
        self.specs: dict[str, TensorSpec] = {}
        for name, shape in self._shapes.items():
            self.specs[name] = TensorSpec(shape, torch.float32)
        for name in self._shapes:
            self.specs[name] = TensorSpec(self._shapes[name], self._smallest(name))

    @property
    def dtype(self) -> torch.dtype:
        """The smallest type that holds every value of the checkpoint."""
        kinds = {spec.dtype for spec in self.specs.values()}
        return kinds.pop() if len(kinds) == 1 else torch.float32

    def read(self, name: str) -> torch.Tensor:
        """Returns one tensor of the checkpoint; raises EdgeftError for values that are not finite."""
        pieces = [self._restored(part) for part in self._parts[name]]
        whole = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return self._checked(whole.reshape(self._shapes[name]), name)

    def read_rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Returns some rows of one tensor; raises EdgeftError for values that are not finite."""
        if self.whole(name):
            return self.read(name)[start:stop]
        (part,) = self._parts[name]
        return self._checked(_read_rows(part.info, start, stop), name)

    def whole(self, name: str) -> bool:
        """Returns whether rows cannot be read without the rest of the tensor."""
        parts, shape = self._parts[name], self._shapes[name]
        return len(parts) > 1 or parts[0].planned.make is not unchanged or len(shape) != 2

    def _checked(self, values: torch.Tensor, name: str) -> torch.Tensor:
        if problems := not_finite(values, f"{self.where}: {name}"):
            raise EdgeftError([Problem(problem.what, problem.where, _DAMAGED) for problem in problems])
        return values.to(self.specs[name].dtype)

    def _restored(self, part: _Part) -> torch.Tensor:
        """Returns what a tensor of the file gives, in float32."""
        planned = part.planned
        if planned.make is stack:
            rows = planned.shape[1]
            return _read_rows(part.info, part.source * rows, (part.source + 1) * rows)
        restored: torch.Tensor = planned.make.undo(read_tensor(part.info))
        return restored

    def _place(self, header: GgufHeader, plan: Plan) -> Iterator[Problem]:
        """Finds where each tensor of the checkpoint comes from; yields what does not fit."""
        found = dict(header.tensors)
        for planned in plan.tensors:
            info = found.pop(planned.name, None)
            if info is None:
                if not planned.optional:
                    yield Problem("the file lacks this tensor", f"{self.where}: {planned.name}", _DAMAGED)
                continue
            yield from self._misfits(header, info, planned.shape)
            for number, (name, shape) in enumerate(planned.sources.items()):
                self._parts.setdefault(name, []).append(_Part(planned, info, number))
                self._shapes[name] = shape
        for name, tensor in plan.generated.items():
            info = found.pop(name, None)
            if info is None:
                yield Problem("the file lacks this tensor", f"{self.where}: {name}", _DAMAGED)
            elif info.shape != tuple(tensor.shape) or not _alike(read_tensor(info), tensor):
                yield Problem("config.json cannot express these values", f"{self.where}: {name}")
        for name, info in found.items():
            if name != "rope_freqs.weight" or not bool((read_tensor(info) == 1).all()):
                yield Problem("the architecture leaves no place for this tensor", f"{self.where}: {name}")

    def _misfits(self, header: GgufHeader, info: TensorInfo, shape: tuple[int, ...]) -> Iterator[Problem]:
        where = f"{self.where}: {info.name}"
        if info.shape != shape:
            yield Problem(f"its shape is {info.shape}, by the file's keys it is {shape}", where)
        if info.type in _INTEGERS:
            yield Problem(f"type {info.type.name} holds no weights that can be imported", where)
        if not header.is_whole(info):
            yield Problem("the file ends before this tensor does", where, "copy or download the file again")

    def _smallest(self, name: str) -> torch.dtype:
        """Returns the smallest type that holds a tensor."""
        kinds = {part.info.type for part in self._parts[name]}
        if len(kinds) == 1 and (half := _HALVES.get(next(iter(kinds)))):
            return half
        if kinds != {GGMLQuantizationType.F32}:
            return torch.float32
        fits = set(self._halves)
        for values in self._pieces(name):
            fits = {half for half in fits if torch.equal(values.to(half).float(), values)}
            if not fits:
                return torch.float32
        return next(half for half in self._halves if half in fits)

    def _pieces(self, name: str) -> Iterator[torch.Tensor]:
        if self.whole(name):
            yield self.read(name)
            return
        rows, columns = self._shapes[name]
        step = max(1, _PART_ELEMENTS // columns)
        for start in range(0, rows, step):
            yield self.read_rows(name, start, min(rows, start + step))


_BF16 = GGMLQuantizationType.BF16
_DAMAGED = "is the file complete? download it again, or take another"


def _read_rows(info: TensorInfo, start: int, stop: int) -> torch.Tensor:
    """Returns some rows of a matrix, or of several that lie behind one another, in float32."""
    columns = info.shape[-1]
    row_bytes = info.size_bytes * columns // info.n_elements
    data = np.fromfile(
        info.path, dtype=np.uint8, count=(stop - start) * row_bytes, offset=info.start + start * row_bytes
    )
    return torch.from_numpy(dequantize(data, info.type)).reshape(stop - start, columns)


def _alike(tensor: torch.Tensor, planned: torch.Tensor) -> bool:
    return torch.allclose(tensor, planned, rtol=_GENERATED_TOLERANCE, atol=0)
