"""Which of the Trainer's checkpoints can be resumed from.

The Trainer writes a checkpoint's files in place, so a kill in the middle leaves a folder that looks like one. A
marker, written after the save has returned, tells a complete one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

COMPLETE_MARKER = "complete"


def mark_complete(checkpoint: Path) -> None:
    """Marks a checkpoint whose every file is written."""
    (checkpoint / COMPLETE_MARKER).touch()


def latest_complete(folder: Path) -> Path | None:
    """Returns the newest complete checkpoint under `folder`, removing those a kill left incomplete."""
    found = [path for path in folder.glob("checkpoint-*") if path.is_dir()]
    for path in found:
        if not (path / COMPLETE_MARKER).exists():
            shutil.rmtree(path)
    complete = [path for path in found if path.exists()]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
