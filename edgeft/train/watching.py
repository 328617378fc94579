"""Follows a training: progress while it runs, every logged figure in a file, checkpoints marked and kept."""

from __future__ import annotations

import json
import resource
import time
from collections import deque
from pathlib import Path
from typing import Any

import torch

from edgeft.hf.training import ExportableState, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from edgeft.loss_curve import read_metrics
from edgeft.progress import Progress
from edgeft.train.batches import Steps
from edgeft.train.checkpoints import keep_best, mark_complete, path_of
from edgeft.train.fast.sharding import peak_bytes
from edgeft.train.guard import Guard
from edgeft.train.limit import Limit

_STEPS_TIMED = 20


class Watcher(TrainerCallback, ExportableState):
    """Reports steps with loss and speed, and appends the figures to `metrics_path` as JSONL.

    Losses are means over the steps since the last figures; what was not written yet is in each checkpoint, so that a
    resumed training writes the figures of the uninterrupted one. Only the first process reports and writes.
    """

    def __init__(self, progress: Progress, metrics_path: Path, guard: Guard, steps: Steps, limit: Limit | None) -> None:
        self._progress = progress
        self._metrics_path = metrics_path
        self._guard = guard
        self._steps = steps
        self._limit = limit
        self._shown: dict[str, float] = {"loss": 0.0}
        self._pace: deque[tuple[float, int]] = deque(maxlen=_STEPS_TIMED)
        self._since = 0.0
        self.losses: list[float] = []
        self.tokens = 0

    def state(self) -> dict[str, Any]:
        """Returns what a resumed training goes on with."""
        return {"args": {}, "attributes": {"losses": self.losses, "tokens": self.tokens}}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Drops figures logged after the step that a resumed training starts from."""
        saved: Any = state.stateful_callbacks
        kept = saved.get("Watcher", {}).get("attributes", {})
        self.losses, self.tokens = list(kept.get("losses", [])), int(kept.get("tokens", 0))
        if state.is_world_process_zero:
            self._metrics_path.parent.mkdir(parents=True, exist_ok=True)
            lines = read_metrics(self._metrics_path)
            self._metrics_path.write_text("")
            for line in lines:
                if line["step"] <= state.global_step:
                    self._write(line)
        self._progress(state.global_step, state.max_steps, "resumed" if state.global_step else "")

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Starts the clock before the first step, so that what a resumed training leaves out does not count."""
        if not self._pace:
            self._since = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Reports the step, whose time is all since the one before: the making of its batches counts."""
        tokens, now = self._steps.tokens(state.global_step - 1), time.perf_counter()
        self._pace.append((now - self._since, tokens))
        self._since = now
        self.tokens += tokens
        self.losses.append(self._guard.loss)
        self._shown["loss"] = self._guard.loss
        self._progress(state.global_step, state.max_steps, self._status())

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Leaves the evaluation out of the speed."""
        self._since = time.perf_counter()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Leaves the checkpoint out of the speed."""
        self._since = time.perf_counter()

    def _status(self) -> str:
        loss, *others = (f"{name} {value:.4f}" for name, value in self._shown.items())
        parts = [loss, f"{self._tokens_per_second():,.0f} tokens/s", *others]
        if self._limit is not None:
            parts.append(f"{self._limit.share(self._tokens_per_second()):.0%} of the matmul limit")
        return "  ".join([*parts, f"{_peak_bytes() / 2**30:.1f} GiB"])

    def _tokens_per_second(self) -> float:
        seconds = sum(seconds for seconds, _ in self._pace)
        return sum(tokens for _, tokens in self._pace) / seconds if seconds else 0.0

    def complete(self, logs: dict[str, float]) -> dict[str, float]:
        """Returns the Trainer's figures with ours: the mean loss, tokens trained so far, speed and memory."""
        if "loss" not in logs:
            return logs
        loss = sum(self.losses) / len(self.losses)
        self.losses = []
        speed = self._tokens_per_second()
        ours = {"loss": loss, "tokens": self.tokens, "tokens_per_second": round(speed, 1)}
        if self._limit is not None:
            ours["limit_share"] = round(self._limit.share(speed), 4)
        return {**logs, **ours, "peak_gib": round(_peak_bytes() / 2**30, 3)}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Keeps the figures of steps and of evaluations."""
        figures = logs or {}
        if "eval_loss" in figures:
            self._shown["evaluation"] = figures["eval_loss"]
        if state.is_world_process_zero and {"loss", "eval_loss"} & figures.keys():
            self._write({"step": state.global_step, "time": round(time.time(), 3), **figures})

    def _write(self, line: dict[str, Any]) -> None:
        with self._metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class Keeper(TrainerCallback):
    """Marks a checkpoint when every process has written its part, and removes those that need not be kept."""

    def __init__(self, keep: int) -> None:
        self._keep = keep

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Marks the checkpoint that has just been written."""
        if args.world_size > 1:
            torch.distributed.barrier()
        if args.should_save:
            folder, metric = Path(str(args.output_dir)), str(args.metric_for_best_model)
            mark_complete(path_of(folder, state.global_step))
            sign = 1 if args.greater_is_better else -1
            scores = {int(entry["step"]): sign * entry[metric] for entry in state.log_history if metric in entry}
            keep_best(folder, scores, self._keep)


def _peak_bytes() -> int:
    """The most memory taken so far: of the GPU where one is used, else by this process."""
    return peak_bytes(torch.cuda.max_memory_reserved()) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
