"""Follows a training: progress with the loss, and every logged figure in a file."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from edgeft import hf
from edgeft.progress import Progress
from edgeft.train.checkpoints import mark_complete


class Watcher(hf.TrainerCallback):
    """Reports steps and losses, appends the Trainer's log to `metrics_path` as JSONL, marks complete checkpoints."""

    def __init__(self, progress: Progress, metrics_path: Path) -> None:
        self._progress = progress
        self._metrics_path = metrics_path
        self._losses: dict[str, float] = {}

    def on_train_begin(
        self, args: hf.TrainingArguments, state: hf.TrainerState, control: hf.TrainerControl, **_: Any
    ) -> None:
        """Drops figures logged after the step that a resumed training starts from."""
        self._metrics_path.parent.mkdir(parents=True, exist_ok=True)
        kept = []
        if self._metrics_path.exists():
            lines = self._metrics_path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if json.loads(line)["step"] <= state.global_step]
        self._metrics_path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._progress(state.global_step, state.max_steps, "resumed" if state.global_step else "")

    def on_step_end(
        self, args: hf.TrainingArguments, state: hf.TrainerState, control: hf.TrainerControl, **_: Any
    ) -> None:
        """Reports the step."""
        status = "  ".join(f"{name} {loss:.4f}" for name, loss in self._losses.items())
        self._progress(state.global_step, state.max_steps, status)

    def on_log(
        self,
        args: hf.TrainingArguments,
        state: hf.TrainerState,
        control: hf.TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Keeps the figures."""
        figures = logs or {}
        for key, name in (("loss", "loss"), ("eval_loss", "evaluation")):
            if key in figures:
                self._losses[name] = figures[key]
        line = json.dumps({"step": state.global_step, "time": round(time.time(), 3), **figures})
        with self._metrics_path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def on_save(self, args: hf.TrainingArguments, state: hf.TrainerState, control: hf.TrainerControl, **_: Any) -> None:
        """Marks the checkpoint that has just been written."""
        assert args.output_dir is not None
        mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}")
