"""Tensors into a file whose layout is known beforehand, by several threads at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeft.cores import available_cores
from edgeft.errors import EdgeftError, Problem
from edgeft.progress import Progress
from edgeft.weights.checkpoint import TensorSpec, Weights

# One thread holds a part and what it is made from: at most about ten times this, in bytes.
_PART_ELEMENTS = 1 << 22
_MOST_THREADS = 8


@dataclass(frozen=True)
class Part:
    """Bytes that go to `offset` of the file; `make` is called in a thread, and may raise EdgeftError."""

    offset: int
    size_bytes: int
    status: str
    make: Callable[[], npt.NDArray[Any]]


def _row_ranges(spec: TensorSpec, whole: bool) -> Iterator[tuple[int, int]]:
    """Yields the rows, from and to, of the parts in which a tensor is read, merged and written."""
    rows = spec.shape[0] if spec.shape else 1
    step = rows if whole else max(1, _PART_ELEMENTS * rows // max(1, torch.Size(spec.shape).numel()))
    for start in range(0, rows, step):
        yield start, min(rows, start + step)


def tensor_parts(
    weights: Weights,
    name: str,
    offset: int,
    encode: Callable[[torch.Tensor, int], npt.NDArray[Any]],
    size_bytes: Callable[[int], int],
) -> Iterator[Part]:
    """Yields the parts of a tensor as `encode` stores its rows, given them and the number of the first.

    `size_bytes` tells what so many values take.
    """
    spec = weights.specs[name]
    per_row = size_bytes(torch.Size(spec.shape[1:]).numel())
    for start, stop in _row_ranges(spec, weights.whole(name)):

        def make(start: int = start, stop: int = stop) -> npt.NDArray[Any]:
            whole = weights.whole(name)
            return encode(weights.read(name) if whole else weights.read_rows(name, start, stop), start)

        yield Part(offset + start * per_row, (stop - start) * per_row, name, make)


def write_parts(path: Path, parts: Sequence[Part], progress: Progress) -> None:
    """Writes every part at its place in an existing file.

    Raises EdgeftError with the problems of all parts; the rest of them is made all the same, so that all are named.
    """
    total = sum(part.size_bytes for part in parts)
    problems: list[Problem] = []
    done = 0
    threads = min(_MOST_THREADS, available_cores())
    descriptor = os.open(path, os.O_WRONLY)
    try:
        with _one_thread_each(), ThreadPoolExecutor(threads) as pool:
            waiting: dict[Future[None], Part] = {}
            pending = iter(parts)
            while True:
                # Few are handed over at a time, so that an error or Ctrl-C leaves little to be waited for.
                while len(waiting) < 2 * threads and (part := next(pending, None)) is not None:
                    waiting[pool.submit(_write, descriptor, part)] = part
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    part = waiting.pop(future)
                    try:
                        future.result()
                    except EdgeftError as error:
                        places = {problem.where for problem in problems}
                        problems += [problem for problem in error.problems if problem.where not in places]
                    done += part.size_bytes
                    progress(done, total, part.status)
    finally:
        os.close(descriptor)
    if problems:
        raise EdgeftError(problems)


def _write(descriptor: int, part: Part) -> None:
    content = np.ascontiguousarray(part.make()).reshape(-1).view(np.uint8).data
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, content[written:], part.offset + written)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """The threads here are the parallelism: torch's own below each of them would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
