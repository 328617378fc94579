"""Where the Trainer's figures can go besides our own file."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.errors import EdgeftError, Problem

if TYPE_CHECKING:
    from transformers import TrainerCallback


def require_reporters(names: Sequence[str]) -> None:
    """Raises EdgeftError, with every problem, unless "tensorboard", "wandb" and "trackio" as named are installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise EdgeftError(
            Problem(f"{name} is not installed", "train.report_to", f"pip install {name}") for name in missing
        )


def reporters(names: Sequence[str], folder: Path) -> list[TrainerCallback]:
    """Returns transformers' callbacks of these names. TensorBoard's files go to `folder`/tensorboard."""
    from transformers.integrations.integration_utils import TensorBoardCallback, TrackioCallback, WandbCallback

    found: list[TrainerCallback] = []
    for name in names:
        if name == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            found.append(TensorBoardCallback(SummaryWriter(str(folder / name))))  # type: ignore[no-untyped-call]
        else:
            callback = {"wandb": WandbCallback, "trackio": TrackioCallback}[name]
            found.append(callback())  # type: ignore[no-untyped-call]
    return found
