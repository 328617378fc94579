"""A checkpoint whose every weight was trained, in the place of its base with an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from edgeft.artifacts import Checkpoint
from edgeft.errors import EdgeftError, Problem
from edgeft.weights.checkpoint import BaseWeights, CheckpointWeights


class WholeWeights(CheckpointWeights):
    """The tensors of a trained checkpoint; raises EdgeftError unless they are the base's by name and shape."""

    def __init__(self, base: BaseWeights, trained: Checkpoint) -> None:
        super().__init__(trained)
        self._base = base
        self.config_changes: dict[str, Any] = {}
        """What config.json must say instead of what the base's says: nothing."""
        self.tokenizer: Path | None = None
        """The folder of another tokenizer than the base's: none."""
        self.doubts: list[str] = []
        """Why these may not be the weights that were meant: nothing."""
        problems = [
            Problem("this is no tensor of the base, by name and shape", f"{trained.path}: {name}", "is this its base?")
            for name, spec in self.specs.items()
            if name not in base.specs or base.specs[name].shape != spec.shape
        ]
        if problems:
            raise EdgeftError(problems)

    @property
    def adapted(self) -> set[str]:
        """Names of the tensors that training changes: all."""
        return set(self.specs)

    def before_and_after(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns one tensor of the base, and the trained one, both float32."""
        return self._base.read(name).float(), self.read(name).float()
