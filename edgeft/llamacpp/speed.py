"""How fast a file generates on this device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edgeft.artifacts import GgufFile
from edgeft.cores import available_cores, cores_are_free
from edgeft.llamacpp.engine import Engine

_ROUNDS: Final = 5
_WARM_UP: Final = 8
_MEASURED: Final = 16
_CONTEXT: Final = _WARM_UP + _MEASURED + 1
_MAX_SPREAD: Final = 0.2
"""Of the middle three rounds, as a share of their median."""


@dataclass(frozen=True)
class Speed:
    """Tokens that a device generates a second, one at a time, and whether other work left the cores alone meanwhile."""

    tokens_per_second: float
    steady: bool


def generation_speed(engine: Engine) -> Speed:
    """Measures an engine: the median of 5 rounds, each the median of 16 tokens with 8 to 24 before them.

    It is not steady where the threads did not get their cores to themselves before a round, in most of the rounds, or
    where the rounds differ.
    """
    threads = engine.runtime.threads or available_cores()
    rates, free = [], []
    for _ in range(_ROUNDS):
        free.append(cores_are_free(threads))
        rates.append(_rate_of_one_round(engine))
    return speed_of(rates, free)


def speed_of(rates: Sequence[float], free: Sequence[bool]) -> Speed:
    """Returns the speed that rounds have in common, each with whether the cores were free before it."""
    middle = sorted(rates)[1:-1]
    rate = statistics.median(middle)
    return Speed(rate, sum(free) > len(free) // 2 and middle[-1] - middle[0] <= _MAX_SPREAD * rate)


def file_speed(gguf: GgufFile, threads: int = 0) -> Speed:
    """Measures a file with so many threads, 0 for a thread a core."""
    with Engine(gguf, _CONTEXT, threads=threads) as engine:
        return generation_speed(engine)


def _rate_of_one_round(engine: Engine) -> float:
    ids, seconds = [0], []
    for _ in range(min(_CONTEXT, engine.n_ctx) - 1):
        started = time.perf_counter()
        next(engine.generate(ids, 1))
        seconds.append(time.perf_counter() - started)
        ids.append(len(ids) % engine.n_vocab)
    return 1 / statistics.median(seconds[-_MEASURED:])
