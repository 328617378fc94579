"""A map over worker processes that keeps the order and bounds what is in memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import Any, TypeVar

from edgeft.cores import available_cores
from edgeft.errors import EdgeftError
from edgeft.processes import safe_children

Task = TypeVar("Task")
Result = TypeVar("Result")

_MOST_WORKERS = 16  # one process reads and writes for all of them, and more have nothing to do
_WAITING_FOR_EACH = 3


def available_workers() -> int:
    """Returns how many processes can work at once: the cores this process may use, at most 16."""
    return min(available_cores(), _MOST_WORKERS)


def ordered_map(
    open_function: Callable[[], Callable[[Task], Result]],
    tasks: Iterable[Task],
    workers: int,
    least_tasks: int = 32,
) -> Iterator[Result]:
    """Yields the result of each task, in their order.

    `open_function` is called once in each worker process, which is spawned, so it is pickled, as tasks and results
    are. Fewer than `least_tasks` tasks, or one worker, are done in this process. Tasks are taken from the iterable as
    results are taken: at most three for each worker are on their way. Raises what the function raises, and EdgeftError
    when a worker is killed.
    """
    coming = iter(tasks)
    first = list(islice(coming, least_tasks))
    if workers < 2 or len(first) < least_tasks:
        function = open_function()
        yield from map(function, chain(first, coming))
        return
    executor = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start, initargs=(open_function,)
    )
    waiting: deque[Future[Any]] = deque()
    try:
        for task in chain(first, coming):
            with safe_children():  # submitting starts the workers
                waiting.append(executor.submit(_work, task))
            if len(waiting) > _WAITING_FOR_EACH * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise EdgeftError(
            "a worker process was killed", remedy="was the memory full? close other programs, or use fewer workers"
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


_open: Callable[[], Callable[[Any], Any]] | None = None
_function: Callable[[Any], Any] | None = None


def _start(open_function: Callable[[], Callable[[Any], Any]]) -> None:
    global _open
    _open = open_function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there is a process for each core already
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when the one that started it is killed; it would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(task: object) -> object:
    global _function
    if _function is None:  # here rather than in _start, where an exception breaks the pool and loses its message
        assert _open is not None
        _function = _open()
    return _function(task)
