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

from edgeft.convert.coding import Coding
from edgeft.convert.plan import FoundTensor, Plan, stack, unchanged
from edgeft.convert.tensors import F32, encode, not_finite
from edgeft.errors import EdgeftError, Problem
from edgeft.progress import Progress
from edgeft.weights import Weights
from edgeft.weights.writing import Part, tensor_parts, write_parts


def write_tensors(
    paths: Sequence[Path],
    names: Sequence[Collection[str]],
    alignment: int,
    plan: Plan,
    tensors: Sequence[tuple[FoundTensor, Coding]],
    weights: Weights,
    progress: Progress,
) -> None:
    """Appends the generated tensors and those of the plan to files that end with their headers.

    Each file takes the tensors of its `names`, in their order. Raises EdgeftError naming every tensor with weights that
    are not finite or overflow its type.
    """
    problems: list[Problem] = []
    by_name = {found.planned.name: (found, coding) for found, coding in tensors}
    all_parts = [
        _layout(path, alignment, held, plan.generated, by_name, weights)
        for path, held in zip(paths, names, strict=True)
    ]
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
    names: Collection[str],
    generated: Mapping[str, torch.Tensor],
    tensors: Mapping[str, tuple[FoundTensor, Coding]],
    weights: Weights,
) -> list[Part]:
    """Returns the parts of one file, which is made as long as it will be."""
    offset = _padded(path.stat().st_size, alignment)
    parts: list[Part] = []
    for name in names:
        if name in generated:
            tensor = generated[name]
            parts.append(Part(offset, tensor.nbytes, name, partial(encode, tensor, F32, name)))
            offset += _padded(tensor.nbytes, alignment)
            continue
        found, coding = tensors[name]
        parts += _parts(found, coding, weights, offset)
        offset += _padded(coding.size_bytes(torch.Size(found.planned.shape).numel()), alignment)
    os.truncate(path, offset)
    return parts


def _padded(size_bytes: int, alignment: int) -> int:
    return int(GGUFWriter.ggml_pad(size_bytes, alignment))


def _parts(found: FoundTensor, coding: Coding, weights: Weights, offset: int) -> Iterator[Part]:
    """Yields the parts of one tensor: what is stored row by row as the checkpoint has it need not be held whole."""
    planned = found.planned
    if planned.make in (unchanged, stack):
        for number, name in enumerate(found.sources):
            matrix = number if planned.make is stack else None
            yield from tensor_parts(weights, name, offset, _encoder(coding, name, matrix), coding.size_bytes)
            offset += coding.size_bytes(torch.Size(weights.specs[name].shape).numel())
        return
    size_bytes = coding.size_bytes(torch.Size(planned.shape).numel())
    yield Part(offset, size_bytes, found.sources[0], lambda: coding.encode(_made(found, weights), found.sources[0]))


def _encoder(coding: Coding, name: str, matrix: int | None) -> Callable[[torch.Tensor, int], npt.NDArray[Any]]:
    """Returns what stores rows of one tensor, which is the number `matrix` of several, or holds them all if None."""

    def checked(tensor: torch.Tensor, first: int) -> npt.NDArray[Any]:
        if problems := not_finite(tensor, name):
            raise EdgeftError(problems)
        return coding.encode(tensor, name, first if matrix is None else matrix)

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
