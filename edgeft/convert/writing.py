"""The tensors of a GGUF file whose header is written: where each goes, and from what it is made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from gguf import GGUFWriter

from edgeft.convert.plan import FoundTensor, Plan, stack, unchanged
from edgeft.convert.tensors import F32, StoredType, encode, not_finite
from edgeft.errors import EdgeftError, Problem
from edgeft.progress import Progress
from edgeft.weights import TensorSpec, Weights
from edgeft.weights.writing import Part, tensor_parts, write_parts


def write_tensors(
    path: Path,
    alignment: int,
    plan: Plan,
    tensors: list[tuple[FoundTensor, StoredType]],
    weights: Weights,
    progress: Progress,
) -> None:
    """Appends the generated tensors and those of the plan, in this order, to a file that ends with its header.

    Raises EdgeftError naming every tensor with weights that are not finite or overflow its type.
    """
    offset = _padded(path.stat().st_size, alignment)
    parts: list[Part] = []
    for name, tensor in plan.generated.items():
        parts.append(Part(offset, tensor.nbytes, name, partial(encode, tensor, F32, name)))
        offset += _padded(tensor.nbytes, alignment)
    for found, stored in tensors:
        parts += _parts(found, stored, weights, offset)
        offset += _padded(TensorSpec(found.planned.shape, stored.torch).size_bytes, alignment)
    os.truncate(path, offset)
    write_parts(path, parts, progress)


def _padded(size_bytes: int, alignment: int) -> int:
    return int(GGUFWriter.ggml_pad(size_bytes, alignment))


def _parts(found: FoundTensor, stored: StoredType, weights: Weights, offset: int) -> Iterator[Part]:
    """Yields the parts of one tensor: what is stored row by row as the checkpoint has it need not be held whole."""
    planned = found.planned
    if planned.make in (unchanged, stack):
        for name in found.sources:
            yield from tensor_parts(weights, name, offset, _encoder(stored, name), stored.torch)
            offset += TensorSpec(weights.specs[name].shape, stored.torch).size_bytes
        return
    size_bytes = TensorSpec(planned.shape, stored.torch).size_bytes
    yield Part(offset, size_bytes, found.sources[0], lambda: encode(_made(found, weights), stored, found.sources[0]))


def _encoder(stored: StoredType, name: str) -> Callable[[torch.Tensor], npt.NDArray[Any]]:
    def checked(tensor: torch.Tensor) -> npt.NDArray[Any]:
        if problems := not_finite(tensor, name):
            raise EdgeftError(problems)
        return encode(tensor, stored, name)

    return checked


def _made(found: FoundTensor, weights: Weights) -> torch.Tensor:
    """Returns a tensor of the file in the checkpoint's numbers; raises EdgeftError for those that are not finite."""
    tensors = [weights.read(name) for name in found.sources]
    problems: list[Problem] = []
    for name, tensor in zip(found.sources, tensors, strict=True):
        problems += not_finite(tensor, name)
    if problems:
        raise EdgeftError(problems)
    return found.planned.make(*tensors)
