"""Several files of one source at once: where one process waits for the disk or for a lone thread, another computes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from edgeft.artifacts import GgufFile
from edgeft.errors import EdgeftError
from edgeft.progress import Progress
from edgeft.quantize.recipe import Recipe
from edgeft.quantize.run import quantize

_MOST_AT_ONCE = 4
# llama.cpp holds the largest tensor in float32, and its codes.
_BYTES_PER_WEIGHT = 6


class _StoppedError(Exception):
    """Raised in a thread whose file nobody waits for any longer."""


def quantize_several(
    source: GgufFile, files: Sequence[tuple[Recipe, Path]], threads: int, progress: Sequence[Progress], at_once: int
) -> list[GgufFile | EdgeftError]:
    """Writes a file for each recipe, so many `at_once`, each with `threads`; `progress` has one for each.

    Returns what has been made, or in its place the error of a file that could not be; the others are made all the same.
    Interrupted, it ends every process and leaves none of the unfinished files.
    """
    stopped = threading.Event()

    def make(number: int) -> GgufFile | EdgeftError:
        def report(done: float, total: float, status: str = "") -> None:
            if stopped.is_set():
                raise _StoppedError
            progress[number](done, total, status)

        try:
            return quantize(source, *files[number], threads, report)
        except EdgeftError as error:
            return error

    with _pool(at_once, stopped) as pool:
        return list(pool.map(make, range(len(files))))


@contextmanager
def _pool(at_once: int, stopped: threading.Event) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(at_once)
    try:
        yield pool
    except BaseException:
        stopped.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def how_many_at_once(source: GgufFile, count: int) -> int:
    """Returns how many files of a source can be made at once in half of the memory of this machine."""
    if count == 1 or not hasattr(os, "sysconf"):  # the system does not tell
        return 1
    try:
        largest = max(int(tensor.n_elements) for tensor in source.tensors())
    except (ValueError, IndexError):  # a broken file: llama.cpp will say what is wrong with it
        return 1
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(count, _MOST_AT_ONCE, memory_bytes // 2 // (_BYTES_PER_WEIGHT * largest)))
