"""How many threads or processes can work at once."""

from __future__ import annotations

import math
import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


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
