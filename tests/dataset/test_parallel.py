"""The map keeps order and bounds, raises what workers raise, and says when one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import edgeft
from edgeft.dataset.parallel import available_workers, ordered_map
from edgeft.errors import EdgeftError


def open_double() -> Callable[[int], tuple[int, int]]:
    """Returns a function that doubles, and says in which process."""
    return lambda number: (2 * number, os.getpid())


def open_failing() -> Callable[[int], int]:
    """Returns a function that refuses 20."""

    def call(number: int) -> int:
        if number == 20:
            raise EdgeftError("not this one", where="20")
        return number

    return call


def open_killed() -> Callable[[int], int]:
    """Returns a function that kills its process, as a full memory does."""

    def call(number: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return number

    return call


def refuse_to_open() -> Callable[[int], int]:
    """Raises as a tokenizer does that is not there."""
    raise EdgeftError("no tokenizer can be loaded")


def test_many_tasks_go_to_other_processes_and_come_back_in_order() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = ordered_map(open_double, tasks(), workers=2)
    first = next(results)
    assert len(taken) <= 32 + 1
    rest = list(results)
    assert [number for number, _ in (first, *rest)] == [2 * number for number in range(100)]
    assert os.getpid() not in {process for _, process in rest}


@pytest.mark.parametrize(("count", "workers"), [(31, 2), (100, 1), (0, 2)])
def test_few_tasks_or_one_worker_stay_here(count: int, workers: int) -> None:
    results = list(ordered_map(open_double, range(count), workers))
    assert results == [(2 * number, os.getpid()) for number in range(count)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_worker_is_raised_here(workers: int) -> None:
    seen = []
    with pytest.raises(EdgeftError, match="20: not this one"):
        for result in ordered_map(open_failing, range(100), workers):
            seen.append(result)  # noqa: PERF402 (the exception comes in the middle)
    assert seen == list(range(20))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_function_that_does_not_open_is_raised_here(workers: int) -> None:
    with pytest.raises(EdgeftError, match="no tokenizer can be loaded"):
        list(ordered_map(refuse_to_open, range(100), workers))


def test_a_killed_worker_is_said() -> None:
    with pytest.raises(EdgeftError, match="a worker process was killed"):
        list(ordered_map(open_killed, range(100), 2))


_PARENT = """
import itertools
from test_parallel import open_double
from edgeft.dataset.parallel import ordered_map

if __name__ == "__main__":
    for _, process in ordered_map(open_double, itertools.count(), 2):
        print(process, flush=True)
"""


def test_workers_end_when_the_process_that_started_them_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(_PARENT)
    roots = (Path(__file__).parent, Path(edgeft.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, roots))}
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, env=environment, text=True) as parent:
        assert parent.stdout is not None
        assert int(parent.stdout.readline()) != parent.pid
        parent.kill()
        parent.communicate(timeout=600)  # their end of the pipe stays open as long as they are there


def test_there_is_a_worker_for_each_core() -> None:
    assert 1 <= available_workers() <= 16
