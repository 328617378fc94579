"""The tensors of a GGUF file whose header is written: where each goes, and from what it is made."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
    paths: Sequence[Path],
    names: Sequence[Collection[str]],
    alignment: int,
    plan: Plan,
    tensors: list[tuple[FoundTensor, StoredType]],
    weights: Weights,
    progress: Progress,
) -> None:
    """Appends the generated tensors and those of the plan, in this order, to files that end with their headers.

    Each file takes the tensors of its `names`. Raises EdgeftError naming every tensor with weights that are not finite
    or overflow its type.
    """
    problems: list[Problem] = []
    all_parts: list[list[Part]] = []
    for path, held in zip(paths, names, strict=True):
        generated = {name: tensor for name, tensor in plan.generated.items() if name in held}
        found = [entry for entry in tensors if entry[0].planned.name in held]
        all_parts.append(_layout(path, alignment, generated, found, weights))
    total_bytes = sum(part.size_bytes for parts in all_parts for part in parts)
    done_bytes = 0
    for path, parts in zip(paths, all_parts, strict=True):
        try:
            write_parts(path, parts, _within(progress, done_bytes, total_bytes))
        except EdgeftError as error:
            problems += error.problems
        done_bytes += sum(part.size_bytes for part in parts)
    if problems:
        raise EdgeftError(problems)


def _within(progress: Progress, done_bytes: float, total_bytes: float) -> Progress:
    """Returns the progress of one file of several."""
    return lambda done, total, status="": progress(done_bytes + done, total_bytes, status)


def _layout(
    path: Path,
    alignment: int,
    generated: Mapping[str, torch.Tensor],
    tensors: list[tuple[FoundTensor, StoredType]],
    weights: Weights,
) -> list[Part]:
    """Returns the parts of one file, which is made as long as it will be."""
    offset = _padded(path.stat().st_size, alignment)
    parts: list[Part] = []
    for name, tensor in generated.items():
        parts.append(Part(offset, tensor.nbytes, name, partial(encode, tensor, F32, name)))
        offset += _padded(tensor.nbytes, alignment)
    for found, stored in tensors:
        parts += _parts(found, stored, weights, offset)
        offset += _padded(TensorSpec(found.planned.shape, stored.torch).size_bytes, alignment)
    os.truncate(path, offset)
    return parts


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
