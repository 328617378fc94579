"""How many threads or processes can work at once, how they wait for one another, and whether they have the cores."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

_GROUPS = Path("/sys/fs/cgroup")
_SPINS: Final = "1000"
"""How often a thread of libgomp looks whether the others are done before it sleeps; libgomp's default is 300,000.

Threads that spin keep those they wait for from the core, when other programs want it, too: docs/benchmarks.md.
"""
_WAITING: Final = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
_PROBE_S: Final = 0.03
_PROBE_BYTES: Final = bytes(1 << 20)
_FREE_SHARE: Final = 0.9


def available_cores() -> int:
    """Returns the cores that this process may use, where the system tells, else all there are.

    A container's share counts: threads that spin on more than that slow one another down.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, container_share(_GROUPS))))


def container_share(groups: Path) -> float:
    """Returns the cores' time that Linux gives a container, in cores (cgroup v2 or v1); infinity where it says none."""
    try:
        quota, period = (groups / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            files = (groups / "cpu" / f"cpu.cfs_{name}_us" for name in ("quota", "period"))
            quota, period = (path.read_text(encoding="ascii") for path in files)
        except OSError:
            return math.inf
    return int(quota) / int(period) if quota.strip().isdigit() else math.inf


def let_threads_sleep(environment: MutableMapping[str, str]) -> None:
    """Has threads of llama.cpp and torch that wait for one another sleep soon, unless the user said how they wait.

    libgomp reads `environment`, which is the process's own, when it is loaded: call this before either is imported. It
    is one library for both, whichever comes first. Processes that are started later have it, too.
    """
    if not any(name in environment for name in _WAITING):
        environment["GOMP_SPINCOUNT"] = _SPINS


def cores_are_free(threads: int) -> bool:
    """Tells whether so many threads have a core each now: what they computed in 30 ms is 30 ms of a core's time."""
    with ThreadPoolExecutor(threads) as pool:
        shares = list(pool.map(_share_of_a_core, range(threads)))
    return sum(shares) >= _FREE_SHARE * threads


def _share_of_a_core(_: int) -> float:
    started, computed = time.perf_counter(), time.thread_time()
    while time.perf_counter() - started < _PROBE_S:
        hashlib.sha256(_PROBE_BYTES)  # which lets the other threads compute, too
    return (time.thread_time() - computed) / (time.perf_counter() - started)
