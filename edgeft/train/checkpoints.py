"""Which of the Trainer's checkpoints can be resumed from, and which are kept.

The Trainer writes a checkpoint's files in place, so a kill in the middle leaves a folder that looks like one. A
marker, written when everything else is on the disk, tells a complete one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeft.files import flush, list_files

COMPLETE_MARKER = "complete"
STATE = "trainer_state.json"
SUSPECT = 10
"""Checkpoints of so many steps before a loss is seen to explode may be on the way there already."""


def path_of(folder: Path, step: int) -> Path:
    """Returns where the Trainer puts the checkpoint of a step."""
    return folder / f"checkpoint-{step}"


def mark_complete(checkpoint: Path) -> None:
    """Marks a checkpoint whose every file is written, once they are on the disk."""
    for path in list_files(checkpoint):
        flush(path)
    (checkpoint / COMPLETE_MARKER).touch()


def complete(folder: Path) -> list[int]:
    """Returns the steps of the complete checkpoints under `folder`, in order."""
    return sorted(_step(path.parent) for path in folder.glob(f"checkpoint-*/{COMPLETE_MARKER}"))


def remove(folder: Path, step: int) -> None:
    """Removes a checkpoint, its marker first, so that a kill in the middle leaves none that looks complete."""
    path = path_of(folder, step)
    (path / COMPLETE_MARKER).unlink(missing_ok=True)
    shutil.rmtree(path)


def remove_all(folder: Path) -> None:
    """Removes the folder of the checkpoints, where there is one, every marker first."""
    for step in complete(folder):
        (path_of(folder, step) / COMPLETE_MARKER).unlink()
    if folder.exists():
        shutil.rmtree(folder)


def resumable(folder: Path, rates: Mapping[int, float]) -> Path | None:
    """Returns the newest complete checkpoint that was trained at `rates` (`train.rate_from_step`), removing the others.

    What goes is incomplete, or newer than that: made with other rates, it would be on the way to another adapter.
    """
    found = {_step(path): path for path in folder.glob("checkpoint-*") if path.is_dir()}
    usable = [step for step in complete(folder) if _rates(found[step]) == before_step(rates, step)]
    last = max(usable, default=0)
    for step in found:
        if step > last or step not in usable:
            remove(folder, step)
    return found.get(last)


def before_step(rates: Mapping[int, float], step: int) -> dict[int, float]:
    """Returns the rates that a training has used by that step: the first steps are 0, 1, ..., `step` - 1."""
    return {start: rate for start, rate in rates.items() if start < step}


def keep_best(folder: Path, scores: Mapping[int, float], keep: int) -> None:
    """Removes complete checkpoints but the last and the `keep` of the highest scores, by step.

    One that is `SUSPECT` steps older than the last stays, too, to go back to from a loss that explodes, and so do
    those after it, which become it in time. So does the best up to it, which its state names as the best: whoever goes
    back to it has lost the better ones after it.
    """
    steps = complete(folder)
    scored = sorted((step for step in steps if step in scores), key=lambda step: (-scores[step], step))
    safe = max((step for step in steps if step <= steps[-1] - SUSPECT), default=0)
    kept = {*scored[:keep], *[step for step in scored if step <= safe][:1]}
    for step in steps:
        if step < safe and step not in kept:
            remove(folder, step)


def state_of(checkpoint: Path) -> dict[str, Any]:
    """Returns the Trainer's state as it was saved."""
    state: dict[str, Any] = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    return state


def stale_evaluations(history: Sequence[Mapping[str, Any]], metric: str, greater_is_better: bool) -> int:
    """Returns how many evaluations in a row, up to the last one, have not been better than the best before."""
    values = [entry[metric] if greater_is_better else -entry[metric] for entry in history if metric in entry]
    return len(values) - 1 - values.index(max(values)) if values else 0


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _rates(checkpoint: Path) -> dict[int, float]:
    saved = state_of(checkpoint)["stateful_callbacks"]["Rates"]["attributes"]["rates"]
    return before_step({int(step): rate for step, rate in saved.items()}, _step(checkpoint))
