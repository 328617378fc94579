"""How many threads or processes can work at once."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Returns the cores that this process may use, where the system tells, else all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
