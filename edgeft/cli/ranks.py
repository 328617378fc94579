"""Several processes of one training: the first makes everything and speaks, the others train along in their turn.

torchrun starts the same command as many times, and tells each process its number in the environment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from edgeft.errors import EdgeftError
from edgeft.pipeline import Pipeline, Step
from edgeft.progress import silent

_WAIT_SECONDS = 0.5


def rank() -> int:
    """Returns the number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    """Returns how many processes torchrun has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def require_training_alone(steps: Sequence[Step], force: bool) -> None:
    """Raises EdgeftError when several processes are asked for what one process makes."""
    if processes() == 1:
        return
    others = sorted({step.node.stage for step in steps if step.node.stage not in ("tokens", "train")})
    if others:
        what = f"{processes()} processes can train together, and nothing else: {', '.join(others)}"
        raise EdgeftError(what, remedy="torchrun ... -m edgeft run train; then the rest without torchrun: edgeft run")
    if force and any(step.why == "forced" and step.node.stage == "tokens" for step in steps):
        raise EdgeftError("several processes cannot make tokens again", remedy="edgeft run tokens --force")


def train_along(pipeline: Pipeline, steps: Sequence[Step]) -> None:
    """Waits until the first process has made what training needs, and takes part in the training."""
    for step in steps:
        if step.node.stage != "train":
            while pipeline.why_stale(step):
                time.sleep(_WAIT_SECONDS)
        elif step.why == "forced" or pipeline.why_stale(step):
            step.node.make(pipeline.graph.run.partial(step.node.name), silent)
