"""One artifact of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft.progress import Progress

STAGES = ("import", "tokens", "train", "merge", "convert", "imatrix", "quantize", "reference", "parity", "eval")
"""Stage names in the order in which they run."""


@dataclass(frozen=True)
class Node:
    """One artifact: its name in the run directory, its stage, the artifacts it needs, and how it is made.

    `config` and the content of `sources` (files and folders outside the run) and `needs` decide whether it is stale.
    One that is made `on_request` alone is left out unless its stage is named: nothing else needs it.
    """

    name: str
    stage: str
    make: Callable[[Path, Progress], object]
    needs: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, Path] = field(default_factory=dict)
    resumable: bool = False
    open_until_used: tuple[str, ...] = ()
    on_request: bool = False
